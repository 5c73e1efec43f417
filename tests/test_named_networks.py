"""What every command takes instead of a checkpoint: `zoo:NAME`, and a work dir."""

import json
import re
import shutil

import numpy as np
import pytest
import torch
from tiny_training import write_images
from tiny_weights import ours, published_content

import slotcon_plugin
from benchmarks.processes import ROOT
from slotcon_plugin.apis.export import export
from slotcon_plugin.apis.train import train
from slotcon_plugin.benchmark.planner import Planner
from slotcon_plugin.benchmark.protocols import Protocols
from slotcon_plugin.benchmark.schema import read_benchmark
from slotcon_plugin.checkpoints import named_networks
from slotcon_plugin.checkpoints.containers import read_file, safetensors_bytes
from slotcon_plugin.errors import CheckpointError, SlotConError
from slotcon_plugin.evaluation.networks import open_groups
from slotcon_plugin.transfer.fill_backbone import check_source

pytest.importorskip("safetensors", reason="needs slotcon_plugin[export]")
SHIPPED = sorted((ROOT / "zoo").glob("*/model.safetensors"))
SMALL = ["train_dataloader.batch_size=4", "train_dataloader.dataset.views.size=64"]
SMALL += ["train_dataloader.num_workers=0"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Images, and `work`, the work dir of a training of one epoch."""
    folder = tmp_path_factory.mktemp("networks")
    images = write_images(folder / "images" / "class", 4)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("torch.cuda.is_available", lambda: False)
        train(
            "slotcon_r18_small", data=images, epochs=1, work_dir=folder / "work", cfg_options=SMALL
        )
    return folder


@pytest.fixture
def zoo(folder, monkeypatch):
    """A zoo with the network of `folder`, as `mine`."""
    if not (folder / "zoo").exists():
        export(folder / "work", folder / "zoo" / "mine", "zoo")
    monkeypatch.setattr(named_networks, "ZOO", folder / "zoo")
    return folder / "zoo"


def test_the_teacher_of_the_zoo_computes_what_the_checkpoint_does(folder, zoo, run_tool):
    status, printed, _ = run_tool("list")
    line = next(line for line in printed.splitlines() if "zoo:mine" in line)
    assert status == 0 and "ResNet-18 without layer4, 32 prototypes" in line
    assert run_tool("list", "--path", "zoo:mine")[1].strip() == str(zoo / "mine")
    image = np.random.default_rng(0).integers(0, 256, (64, 96, 3), dtype=np.uint8)
    expected, found = (slotcon_plugin.load(n, device="cpu") for n in (folder / "work", "zoo:mine"))
    one, other = expected.groups(image), found.groups(image)
    assert np.abs(one.scores - other.scores).max() < 1e-3
    assert np.abs(one.slots - other.slots).max() < 1e-2 * np.abs(one.slots).max()
    dense, again = expected.features(image)[0], found.features(image)[0]
    assert 0 < np.abs(dense - again).max() < 1e-3 * np.abs(dense).max()  # it is in float16
    card = (zoo / "mine" / "README.md").read_text()
    assert str(folder) not in card  # nor are this machine's paths in the weights
    assert str(folder) not in json.dumps(read_file("zoo:mine")["meta"])
    assert "momentum" not in str(read_file("zoo:mine").keys())
    log = [json.loads(line) for line in (zoo / "mine" / "log.jsonl").read_text().splitlines()]
    assert log[-1]["step"] == 1 and log[-1]["loss"] > 0


@pytest.mark.parametrize("name", ["zoo:mine", "work"])
def test_every_command_takes_it(name, folder, zoo, run_tool, tmp_path):
    source = name if name == "zoo:mine" else folder / name
    images, small = folder / "images", ("--size", "64", "--device", "cpu", "--quiet")
    config = "slotcon_r18_small"
    commands = [
        ("evaluate", "rank", source, "--images", images, *small),
        ("embed", source, "--data", images, "--out", tmp_path / "v.npz", *small),
        ("export", source, tmp_path / "encoder.pth", "--to", "openmmlab"),
        ("visualize", source, "--images", images, "--out", tmp_path / "pages", *small),
        ("draw_groups", config, source, "--images", images, "--out", tmp_path / "groups.png"),
        ("train", config, "--data", images, "--backbone", source, "--dry-run", "--no-step"),
    ]
    for command in commands:
        if command[0] == "train":
            command += ("--work-dir", tmp_path / "new", "--cfg-options", *SMALL)
        status, printed, errors = run_tool(*command)
        assert status == 0, (command, errors)
        if name == "work":
            assert f"{source} is a work dir: epoch_1.pth is used" in printed, command
    assert (tmp_path / "groups.png").stat().st_size > 1000


def test_a_work_dir_of_another_network_is_named_with_its_file(folder, run_tool, tmp_path):
    status, printed, errors = run_tool("test", "fcn_r18_tiny", folder / "work")
    assert status == 1 and "epoch_1.pth is used" in printed, errors
    (tmp_path / "empty").mkdir()
    command = ("export", tmp_path / "empty", tmp_path / "x.pth", "--to", "openmmlab")
    status, _, errors = run_tool(*command)
    assert status == 1 and "empty is a folder, and has no checkpoint of a training" in errors


def test_a_benchmark_takes_networks_of_the_zoo(folder, zoo, tmp_path):
    images = folder / "images"
    text = f"""
work_dir: {tmp_path / "out"}
pretrainings:
  mine: zoo:mine
  same: {{checkpoint: zoo:mine}}
transfers:
  rank: {{evaluate: knn, images: {images}, train: {images}}}
"""
    (tmp_path / "b.yaml").write_text(text)
    jobs = Planner(read_benchmark(tmp_path / "b.yaml"), ROOT, Protocols(ROOT)).plan().jobs
    assert len(jobs) == 2 and jobs[0].recipe["of"] == jobs[1].recipe["of"]
    assert str(zoo / "mine" / "model.safetensors") in jobs[0].steps[0].command
    (tmp_path / "b.yaml").write_text(text.replace("zoo:mine", "zoo:mime"))
    with pytest.raises(SlotConError, match=r"pretrainings\.mine.*Did you mean zoo:mine\?"):
        Planner(read_benchmark(tmp_path / "b.yaml"), ROOT, Protocols(ROOT)).plan()


def test_unknown_and_changed_networks_are_refused(zoo, tmp_path, run_tool):
    for read in (read_file, slotcon_plugin.load, check_source):
        with pytest.raises(CheckpointError, match=r"zoo:mime\. Did you mean zoo:mine\?"):
            read("zoo:mime")
    for name in ("zoo:", "zoo:../zoo/mine", "zoo:/etc"):
        with pytest.raises(CheckpointError, match="contains zoo:mine"):
            slotcon_plugin.load(name)
    with pytest.raises(CheckpointError, match="student"):
        slotcon_plugin.load("zoo:mine", part="student")
    shutil.copytree(zoo / "mine", tmp_path / "changed")
    content = read_file(zoo / "mine")
    state = {n: v.half() if v.ndim > 1 else v for n, v in content["state_dict"].items()}
    state["teacher.prototypes.weight"][0, 0] += 1
    file = tmp_path / "changed" / "model.safetensors"
    file.write_bytes(safetensors_bytes(state, content["meta"]))
    with pytest.raises(CheckpointError, match="not those that were exported"):
        slotcon_plugin.load(tmp_path / "changed")


def test_what_has_no_teacher_makes_no_folder(folder, zoo, tmp_path, run_tool):
    encoder = tmp_path / "encoder.pth"
    export(ours(tmp_path, 18), encoder, "openmmlab")
    with pytest.raises(CheckpointError, match="an encoder alone"):
        export(encoder, tmp_path / "new", "zoo")
    status, _, errors = run_tool(
        "export", folder / "work", tmp_path / "new", "--to", "zoo", "--part", "student"
    )
    assert status == 1 and "--part cannot be used with --to zoo" in errors
    assert not (tmp_path / "new").exists()
    torch.save(published_content(), tmp_path / "published.pth")
    export(tmp_path / "published.pth", tmp_path / "new", "zoo")
    image = torch.randint(256, (1, 3, 64, 64), dtype=torch.uint8)
    scores = (open_groups(tmp_path / n)(image) for n in ("published.pth", "new"))
    torch.testing.assert_close(*scores, rtol=0, atol=1e-3)


@pytest.mark.parametrize("file", SHIPPED, ids=lambda file: file.parent.name)
def test_a_network_of_the_package(file):
    """It is read, with its digest, and gives groups of an image."""
    source = f"zoo:{file.parent.name}"
    assert re.fullmatch(r"sha256:[0-9a-f]{64}", read_file(source)["meta"]["stored"])
    assert named_networks.zoo_networks()[source]
    assert not re.search(r"/(home|root|tmp|work)/", (file.parent / "README.md").read_text())
    image = np.random.default_rng(0).integers(0, 256, (64, 96, 3), dtype=np.uint8)
    groups = slotcon_plugin.load(source, device="cpu").groups(image)
    assert groups.assignment.shape == (64, 96) and np.isfinite(groups.slots).all()


def test_the_zoo_has_at_most_12_megabytes():
    """Each folder in it has a network, so that none is left out of the test above."""
    folders = [path for path in (ROOT / "zoo").iterdir() if path.is_dir()]
    assert sorted(folders) == [file.parent for file in SHIPPED]
    size = sum(path.stat().st_size for path in (ROOT / "zoo").rglob("*"))
    assert size <= 12e6, f"{size:,} bytes"
