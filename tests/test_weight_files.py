"""Files of weights from elsewhere are read without running code in them, or refused."""

import argparse
import collections
import io
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from test_checkpoint import Planted, safe_mmengine  # noqa: F401  (a fixture)
from tiny_weights import ours, published_content, random_model

from slotcon_plugin.checkpoints import read_encoder
from slotcon_plugin.checkpoints.containers import read_file
from slotcon_plugin.checkpoints.export_formats import encoder_file
from slotcon_plugin.errors import CheckpointError
from slotcon_plugin.runtime.safe_loading import load_checkpoint_safely

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return ours(tmp_path_factory.mktemp("weights"), 18)


def planted_files(folder: Path, checkpoint: Path, trace: Path) -> list[Path]:
    """Complete, working checkpoints of every kind, each with code in it."""
    own = torch.load(checkpoint, weights_only=True)
    published = published_content()
    published["args"] = argparse.Namespace(arch=Planted(trace))
    data, _ = encoder_file(read_encoder(checkpoint), "detectron2", ".pkl")
    arrays = pickle.loads(data)
    content = {
        "in_meta.pth": {**own, "meta": {**own["meta"], "surprise": Planted(trace)}},
        "in_args.pth": published,
        "in_weights.pth": {**own, "state_dict": {**own["state_dict"], "x": Planted(trace)}},
        "arrays.pkl": {**arrays, "surprise": Planted(trace)},
    }
    for name, state in content.items():
        if name.endswith(".pkl"):
            (folder / name).write_bytes(pickle.dumps(state))
        else:
            torch.save(state, folder / name)
    (folder / "old_style.pth").write_bytes(pickle.dumps({"x": Planted(trace)}, protocol=2))
    return sorted(folder.iterdir())


def test_planted_code_is_refused_and_not_run(tmp_path, checkpoint):
    trace, folder = tmp_path / "was_run", tmp_path / "files"
    folder.mkdir()
    files = planted_files(folder, checkpoint, trace)
    assert len(files) == 5
    for file in files:
        with pytest.raises(CheckpointError, match=r"refused: it asks for `(posix|nt)\.mkdir`"):
            read_encoder(file)
        assert not trace.exists(), file
    with open(folder / "arrays.pkl", "rb") as file:
        pickle.load(file)  # the planted code works
    assert trace.exists()


@pytest.mark.parametrize("name", ["in_args.pth", "arrays.pkl"])
def test_the_tool_refuses_planted_code(tmp_path, checkpoint, name, run_tool):
    trace, folder = tmp_path / "was_run", tmp_path / "files"
    folder.mkdir()
    planted_files(folder, checkpoint, trace)
    to = "slotcon" if name == "in_args.pth" else "openmmlab"
    status, _, errors = run_tool("export", folder / name, tmp_path / "o.pth", "--to", to)
    assert status == 1
    assert "refused: it asks for" in errors and "Traceback" not in errors
    assert not trace.exists() and not (tmp_path / "o.pth").exists()


@pytest.mark.parametrize("reach", ["builtins.eval", "builtins.getattr", "numpy.load", "os.system"])
def test_a_pickle_of_arrays_reaches_nothing_else(tmp_path, reach):
    module, _, name = reach.rpartition(".")
    file = tmp_path / "a.pkl"
    file.write_bytes(f"c{module}\n{name}\n.".encode())
    with pytest.raises(CheckpointError, match=f"refused: it asks for `{reach}`"):
        read_file(file)


@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_pickles_of_arrays_are_read_in_every_protocol(tmp_path, protocol):
    arrays = {"a": np.arange(6.0).reshape(2, 3), "b": np.array(3), "c": np.float32(2)}
    content = {"model": collections.OrderedDict(arrays), "__author__": "x"}
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(content, protocol=protocol))
    found = read_file(tmp_path / "a.pkl")["model"]
    assert torch.equal(found["a"], torch.tensor(arrays["a"]))
    assert found["b"].shape == () and found["b"].item() == 3 and found["c"].item() == 2


def test_only_read_file_accepts_a_namespace(tmp_path):
    torch.save(published_content(), tmp_path / "p.pth")
    assert read_file(tmp_path / "p.pth")["args"].arch == "resnet18"
    with pytest.raises(CheckpointError, match=r"asks for `argparse\.Namespace`"):
        load_checkpoint_safely(tmp_path / "p.pth")


def test_the_config_in_a_checkpoint_is_not_run(tmp_path, safe_mmengine):  # noqa: F811
    from mmengine.runner import CheckpointLoader

    trace = tmp_path / "was_run"
    program = f"import os\nos.mkdir({str(trace)!r})\nmodel = dict(backbone=dict(depth=18))\n"
    state = random_model(18).state_dict()
    meta = dict(epoch=1, iter=1, cfg=program, config=program)  # Runner.resume runs `config`
    torch.save(dict(meta=meta, state_dict=state), tmp_path / "c.pth")
    assert read_encoder(tmp_path / "c.pth").meta["training"]["epoch"] == 1
    assert "config" not in CheckpointLoader.load_checkpoint(str(tmp_path / "c.pth"))["meta"]
    assert not trace.exists()


def broken_files(folder: Path, checkpoint: Path) -> dict[str, str]:
    """File name -> part of the expected message."""
    whole = checkpoint.read_bytes()
    contents = {
        "empty.pth": b"",
        "empty.safetensors": b"",
        "cut.pth": whole[: len(whole) // 2],
        "text.pth": b"hello",
        "text.pkl": b"hello",
        "renamed.pkl": whole,
        "renamed.safetensors": whole,
        "list.pkl": pickle.dumps([1]),
    }
    pkl, _ = encoder_file(read_encoder(checkpoint), "detectron2", ".pkl")
    contents["cut.pkl"] = pkl[: len(pkl) // 2]
    said = dict.fromkeys(contents, "damaged, or not")
    said |= {
        "empty.pth": "is empty",
        "empty.safetensors": "is empty",
        "list.pkl": "contains a list",
    }
    saved = {
        "model.pth": ({"model": {"head.weight": torch.ones(1)}}, "contains no known encoder"),
        "nothing.pth": ({"state_dict": {}}, "contains no known encoder"),
        "optimizer.pth": ({"epoch": 3}, "its entries are epoch"),
        "detector.pth": (
            {"state_dict": dict.fromkeys(("backbone.conv1.weight", "neck.bias"), torch.ones(1))},
            "is not a complete ResNet",
        ),
        "values.pth": ({"conv1.weight": 3}, "contains something else than tensors: conv1.weight"),
        "densenet.pth": (
            {"conv1.weight": torch.ones(1), "norm5.weight": torch.ones(1)},
            "contains unknown names: norm5.weight",
        ),
        "v1c.pth": ({"state_dict": {"stem.0.weight": torch.ones(1)}}, "has a deep stem"),
    }
    nan = random_model(18).backbone.state_dict()
    saved["nan.pth"] = ({**nan, "bn1.bias": nan["bn1.bias"] * torch.nan}, "bn1.bias` is not finite")
    for name, (content, message) in saved.items():
        torch.save(content, folder / name)
        said[name] = message
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    return {**said, "absent.pth": "There is no checkpoint"}


def test_broken_and_foreign_files_get_one_message_each(tmp_path, checkpoint):
    pytest.importorskip("safetensors")
    for name, message in broken_files(tmp_path, checkpoint).items():
        with pytest.raises(CheckpointError) as error:
            read_encoder(tmp_path / name)
        assert message in str(error.value), f"{name}: {error.value}"
        assert str(tmp_path / name) in str(error.value), name


def test_supervised_weights_are_read_without_the_classifier(tmp_path):
    net = torchvision.models.resnet18()
    torch.save(net.state_dict(), tmp_path / "resnet18.pth")
    encoder = read_encoder(tmp_path / "resnet18.pth")
    assert encoder.kind == "torchvision" and encoder.architecture.depth == 18
    assert encoder.dropped == ("fc.weight", "fc.bias")
    assert encoder.meta["training"]["method"] == "not stated in the file"


@pytest.mark.parametrize("part", ["teacher", "student"])
def test_published_and_own_checkpoints_give_the_same_encoder(tmp_path, checkpoint, part):
    torch.save(published_content(), tmp_path / "p.pth")
    one, other = read_encoder(checkpoint, part), read_encoder(tmp_path / "p.pth", part)
    assert one.meta["digest"] == other.meta["digest"]
    assert other.meta["training"]["images"] == "COCO"
    source = {"teacher": "encoder_k", "student": "encoder_q"}[part]
    assert other.old_names["bn1.bias"] == f"{source}.bn1.bias"
    assert len(other.old_names) + len(other.dropped) == len(published_content()["model"])
    assert read_encoder(checkpoint, "teacher").meta["digest"] != one.meta["digest"] or (
        part == "teacher"
    )


def test_an_additional_key_is_refused(tmp_path, checkpoint):
    state = torch.load(checkpoint, weights_only=True)
    state["state_dict"]["teacher.momentum_encoder.weight"] = torch.ones(1)
    torch.save(state, tmp_path / "more.pth")
    with pytest.raises(CheckpointError, match=r"unknown names: teacher.momentum_encoder.weight"):
        read_encoder(tmp_path / "more.pth")


def test_a_wrapped_state_dict_is_unwrapped(tmp_path, checkpoint):
    state = torch.load(checkpoint, weights_only=True)
    wrapped = {f"module.{name}": value for name, value in state["state_dict"].items()}
    torch.save({**state, "state_dict": wrapped}, tmp_path / "w.pth")
    assert read_encoder(tmp_path / "w.pth").meta == {
        **read_encoder(checkpoint).meta,
        "origin": dict(file="w.pth", kind="slotcon", part="teacher"),
    }


def test_style_caffe_is_refused(tmp_path):
    meta = dict(cfg="model = dict(backbone=dict(type='mmdet.ResNet', style='caffe'))")
    torch.save(dict(meta=meta, state_dict=random_model(18).state_dict()), tmp_path / "c.pth")
    with pytest.raises(CheckpointError, match="style='caffe', which has its stride in the"):
        read_encoder(tmp_path / "c.pth")


def test_the_same_export_gives_the_same_bytes(checkpoint):
    for to, suffix in (("detectron2", ".pkl"), ("torchvision", ".pth")):
        one, other = (encoder_file(read_encoder(checkpoint), to, suffix)[0] for _ in range(2))
        assert one == other
        assert io.BytesIO(one).getbuffer().nbytes > 40_000_000
