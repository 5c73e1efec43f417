"""Renaming by tables in both directions, recognized architectures, and configs read as literals."""

import json
from pathlib import Path

import pytest
import torch
import torchvision

from slotcon_plugin.checkpoints.architecture import recognize
from slotcon_plugin.checkpoints.encoder import digest
from slotcon_plugin.checkpoints.metadata import lookup, read_literals
from slotcon_plugin.checkpoints.names import (
    CLASSIFIER,
    DETECTRON2,
    PUBLISHED,
    TORCHVISION,
    match,
    rename,
    reverse,
)
from slotcon_plugin.errors import CheckpointError
from slotcon_plugin.models.backbones import DEPTHS

HERE = Path(__file__).parent
PAIRS = (("layer1.{block}.bn{n}.{stat}", "res2.{block}.conv{n}.norm.{stat}"), ("a", "b"))


def test_rename_by_hand():
    done = rename({"layer1.10.bn2.running_var": 5, "fc.weight": 6}, PAIRS, ("fc.{rest}",), "it")
    assert done.values == {"res2.10.conv2.norm.running_var": 5}
    assert done.old_names == {"res2.10.conv2.norm.running_var": "layer1.10.bn2.running_var"}
    assert done.dropped == ("fc.weight",)
    assert rename(done.values, reverse(PAIRS), (), "it").values == {"layer1.10.bn2.running_var": 5}


@pytest.mark.parametrize(
    "name",
    ["layer1.0.bn4.weight", "layer1.x.bn1.weight", "layer1.0.bn1.weights", "xlayer1.0.bn1.bias"],
)
def test_a_pattern_matches_only_whole_known_names(name):
    assert match(name, PAIRS[0][0]) is None


def test_unknown_names_are_listed():
    names = {f"layer9.{i}": 0 for i in range(20)}
    with pytest.raises(
        CheckpointError, match=r"it contains unknown names: layer9.0, .* and 8 more"
    ) as error:
        rename({**names, "a": 1}, PAIRS, (), "it")
    assert "layer9.11" in str(error.value) and "layer9.12" not in str(error.value)


def test_two_names_must_not_become_the_same():
    pairs = (("a", "c"), ("b", "c"))
    with pytest.raises(CheckpointError, match="contains two entries for `c`: a and b"):
        rename({"a": 1, "b": 2}, pairs, (), "it")


def test_a_table_must_not_contradict_itself():
    with pytest.raises(ValueError, match="a matches 2 lines"):
        rename({"a": 1}, (*PAIRS, ("a", "c")), (), "it")
    with pytest.raises(ValueError, match="a matches 2 lines"):
        rename({"a": 1}, PAIRS, ("{rest}",), "it")


@pytest.mark.parametrize("depth", DEPTHS)
def test_every_resnet_converts_in_both_directions(depth):
    with torch.device("meta"):
        whole = getattr(torchvision.models, f"resnet{depth}")().state_dict()
    own = rename(whole, TORCHVISION, CLASSIFIER, "it")
    assert own.dropped == ("fc.weight", "fc.bias")
    assert recognize(own.values, "it").depth == depth
    theirs = rename(own.values, DETECTRON2, (), "it").values
    assert len(theirs) == len(whole) - 2
    assert rename(theirs, reverse(DETECTRON2), (), "it").values == own.values


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("layer3.1.bn2.bias"), "1 missing: layer3.1.bn2.bias"),
        (lambda s: s.pop("layer1.0.conv1.weight"), "1 missing: layer1.0.conv1.weight"),
        (
            lambda s: s.update({"conv1.weight": torch.empty(64, 1, 7, 7)}),
            r"1 of another shape: conv1.weight \(64, 1, 7, 7\) instead of \(64, 3, 7, 7\)",
        ),
        (
            lambda s: s.update({"layer2.2.conv1.weight": torch.empty(1)}),
            r"similar one, ResNet-18: 1 unexpected: layer2.2.conv1.weight. Known are ResNet-18",
        ),
        (
            lambda s: s.update({"layer1.0.downsample.0.weight": torch.empty(1)}),
            "unexpected: layer1",
        ),
        (lambda s: s.update({"stem.0.weight": torch.empty(1)}), "deep stem"),
        (
            lambda s: [s.pop(name) for name in list(s) if name.startswith("layer2")],
            r"similar one, ResNet-18: 30 missing: layer2.0.conv1.weight",
        ),
    ],
)
def test_incomplete_resnets_are_refused(change, message):
    with torch.device("meta"):
        state = torchvision.models.resnet18().state_dict()
        del state["fc.weight"], state["fc.bias"]
        change(state)
        with pytest.raises(CheckpointError, match=message):
            recognize(state, "it")


def test_wide_resnets_are_refused():
    with torch.device("meta"):
        state = torchvision.models.wide_resnet50_2().state_dict()
    del state["fc.weight"], state["fc.bias"]
    with pytest.raises(CheckpointError, match=r"similar one, ResNet-50: .* of another shape"):
        recognize(state, "it")


def test_every_published_name_is_in_the_table():
    golden = json.loads((HERE / "golden" / "checkpoint_keys_r50_coco.json").read_text())
    theirs = {name.removeprefix("module."): name for name in golden}
    ours = rename(theirs, reverse(PUBLISHED), (), "it")
    assert len(ours.values) == len(golden) and not ours.dropped
    assert rename(ours.values, PUBLISHED, (), "it").values == theirs


def test_the_digest_depends_on_every_value_but_not_on_the_order():
    a, b = torch.arange(6.0), torch.tensor(3)
    one = digest({"a": a, "b": b})
    assert one == digest({"b": b, "a": a.clone()})
    others = [
        {"a": a, "c": b},
        {"a": a.view(2, 3), "b": b},
        {"a": a.double(), "b": b},
        {"a": a + 1e-6, "b": b},
        {"a": a},
    ]
    assert len({one, *map(digest, others)}) == len(others) + 1


def test_a_config_is_read_and_not_run(tmp_path):
    trace = tmp_path / "was_run"
    program = f"""
import os
model = dict(a=-1, b=[dict(c=(1, 2.5)), None], d={{'e': True}})
planted = os.mkdir({str(trace)!r})
also = dict(x=__import__('os').mkdir({str(trace)!r}))
named = dict(**model)
unhashable = {{[1]: 2}}
text = 'x'
"""
    values = read_literals(program)
    assert values == {
        "model": {"a": -1, "b": [{"c": (1, 2.5)}, None], "d": {"e": True}},
        "text": "x",
    }
    assert not trace.exists()
    assert read_literals("a = (") == {} == read_literals("\0")
    assert lookup(values, "model.d.e") is True
    assert lookup(values, "model.d.f") is None is lookup(values, "text.x")
