"""What a pretraining cannot hand on is said before the first step, in dry runs too."""

import re

import pytest
import torch
from mmengine.config import Config
from mmengine.logging import MMLogger
from mmengine.registry import MODELS
from tiny_training import write_images
from tiny_weights import slotcon_config

from benchmarks.processes import DEMO
from benchmarks.small_benchmark import pretraining_options
from slotcon_plugin.apis.train import train
from slotcon_plugin.checkpoints import read_encoder
from slotcon_plugin.checkpoints.metadata import MEASURED
from slotcon_plugin.evaluation.limits import find_limits, find_untrained, measure_encoder

FOUR = dict(depth=18, norm_eval=False, out_indices=(3,))
ALL = "slotcon export, slotcon evaluate, slotcon visualize and --backbone"
FPN = dict(type="mmdet.FPN", in_channels=[64, 128, 256, 512], out_channels=16, num_outs=4)
DECODER = dict(
    decoder=FPN,
    decoder_neck=slotcon_config(18)["neck"] | dict(in_channels=16),
    decoder_head=slotcon_config(18)["head"],
)
CASES = {
    "whole": (dict(type="TorchvisionResNet", depth=18), {}, []),
    "mmdet": (dict(type="mmdet.ResNet", **FOUR), {}, []),
    "three stages": (
        dict(type="TorchvisionResNet", depth=18, num_stages=3),
        dict(in_channels=256),
        [
            "slotcon export --to torchvision or timm or hub: ",
            "--backbone for a network of four stages",
        ],
    ),
    "dilated": (
        dict(type="mmseg.ResNet", strides=(1, 2, 1, 1), dilations=(1, 1, 2, 4), **FOUR),
        {},
        [
            r"slotcon export --to hub or a folder --to timm: .*\(1, 1, 2, 4\); .* --to onnx",
            "slotcon export --to published: ",
        ],
    ),
    "convolutions after the last map": (
        dict(type="TimmEncoder", name="mobilenetv3_small_050"),
        dict(in_channels=288),
        [
            "slotcon export --to torchvision or detectron2: ",
            "slotcon export --to hub or a folder --to timm: .* stay random: conv_head.weight",
            "slotcon export --to published: ",
        ],
    ),
    "contracted": (
        dict(type="mmseg.ResNet", dilations=(1, 1, 2, 4), contract_dilation=True, **FOUR),
        {},
        [
            "slotcon export --to hub or a folder --to timm: .*, contract_dilation; timm's resnet18",
            "slotcon export --to published: ",
        ],
    ),
    "contracted otherwise": (
        dict(type="mmseg.ResNet", dilations=(1, 1, 1, 4), contract_dilation=True, **FOUR),
        {},
        [f"{ALL}, which do not read the encoder ResNet: .*map differs"],
    ),
    "deep stem": (
        dict(type="mmseg.ResNetV1c", **FOUR),
        {},
        [f"{ALL}, which do not read the encoder ResNetV1c: ResNetV1c has a deep stem"],
    ),
    "prefix": (
        dict(type="mmseg.TIMMBackbone", model_name="resnet18", pretrained=False),
        {},
        [f"{ALL}, which do not read the encoder TIMMBackbone: "],
    ),
    "transformer": (
        dict(type="mmseg.TIMMBackbone", model_name="test_vit", pretrained=False),
        dict(in_channels=64),
        [f"{ALL}, which do not read the encoder TIMMBackbone: "],
    ),
    "no projector": (
        dict(type="TorchvisionResNet", depth=18),
        dict(type="LastMap"),
        [
            "slotcon export --to published: ",
            "slotcon visualize, slotcon evaluate unsupervised and --projected: ",
        ],
    ),
    "decoder": (
        dict(type="TorchvisionResNet", depth=18, out_indices=(0, 1, 2, 3)),
        DECODER,
        ["slotcon export --to published: "],
    ),
}


@pytest.mark.parametrize("kind", CASES)
def test_each_use_that_is_not_possible_is_named(kind, tmp_path):
    pytest.importorskip("mmdet")
    pytest.importorskip("mmseg")
    pytest.importorskip("timm")
    import benchmarks.plain_model  # noqa: F401  (registers LastMap)

    backbone, neck, expected = CASES[kind]
    config = slotcon_config(18) | dict(backbone=backbone)
    if kind == "decoder":
        config |= neck
    elif neck.get("type"):
        config["neck"], config["head"]["prototypes"]["channels"] = neck, 512
        config["head"]["predictor"]["channels"] = 512
    else:
        config["neck"] = config["neck"] | neck
    model, before = MODELS.build(config), torch.get_rng_state()
    measured = measure_encoder(model)
    found = find_limits(model, Config(dict(model=config)), measured)
    assert torch.equal(torch.get_rng_state(), before)  # training stays the same by every bit
    assert len(found) == len(expected), found
    for text, pattern in zip(found, expected, strict=True):
        assert re.match(pattern, text), text


SWIN = dict(type="mmdet.SwinTransformer", embed_dims=8, depths=(1, 1, 1, 1), window_size=2)
SWIN |= dict(num_heads=(1, 1, 1, 1), drop_path_rate=0.5)


@pytest.mark.parametrize(
    ("backbone", "untrained"),
    [
        (SWIN | dict(out_indices=(3,)), []),
        (SWIN | dict(out_indices=(2,)), ["stages.2.downsample.", "stages.3."]),
        (SWIN | dict(out_indices=(1, 3)), ["norm1."]),
        (dict(type="mmseg.TIMMBackbone", model_name="test_vit", pretrained=False, img_size=64), []),
        (dict(type="mmseg.ResNet", **FOUR | dict(out_indices=(0, 3))), []),
        (CASES["decoder"][0], []),
    ],
)
def test_layers_that_no_loss_reaches_are_named(backbone, untrained):
    pytest.importorskip("mmdet")
    pytest.importorskip("mmseg")
    pytest.importorskip("timm")
    decoder = DECODER if backbone is CASES["decoder"][0] else {}
    config = slotcon_config(18) | dict(backbone=backbone) | decoder
    model, before = MODELS.build(config), torch.get_rng_state()
    found = find_untrained(model, 64)
    assert torch.equal(torch.get_rng_state(), before)
    assert bool(found) == bool(untrained)
    assert all(name.startswith(tuple(untrained)) for name in found), found
    assert all(p.grad is None for p in model.parameters())


@pytest.mark.parametrize("library", ["ours", "timm"])
def test_a_training_and_its_dry_run_say_it(library, tmp_path, monkeypatch, capsys):
    pytest.importorskip("mmseg")
    pytest.importorskip("timm")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    MMLogger._instance_dict.clear()
    options = pretraining_options(write_images(tmp_path / "images"), tmp_path / "work", epochs=1)
    config = DEMO
    if library == "timm":
        config = tmp_path / "vit.py"
        backbone = dict(type="mmseg.TIMMBackbone", model_name="test_vit", pretrained=False)
        backbone |= dict(_delete_=True, img_size=32)
        config.write_text(f"_base_ = ['{DEMO}']\nmodel = dict(backbone={backbone})\n")
        options = [o for o in options if not o.startswith("model.backbone.")]
        options.append("model.neck.in_channels=64")
    expected = {
        "ours": "slotcon export --to torchvision or timm or hub: This encoder is a ResNet-18",
        "timm": "slotcon export, slotcon evaluate, slotcon visualize and --backbone, which do",
    }[library]
    name = f"+experiment_name=limits_{library}"
    train(config, dry_run=True, step=False, cfg_options=[*options, name])
    row = f"encoder:       its checkpoints are not for {expected}"
    assert row in capsys.readouterr().out
    train(config, cfg_options=[*options, f"{name}2"])
    (log,) = (path.read_text() for path in (tmp_path / "work").glob("*/*.log"))
    assert log.count(f"WARNING - its checkpoints are not for {expected}") == 1
    assert log.index("its checkpoints are not for") < log.index("Epoch(train)")
    saved = tmp_path / "work" / "epoch_1.pth"
    measured = torch.load(saved, weights_only=False)["meta"].get(MEASURED)
    if library == "ours":
        assert measured == dict(strides=[1, 2], dilations=[1, 1])
        assert read_encoder(saved).architecture.strides == (1, 2)
    else:
        assert measured is None
