"""tools/train.py and tools/test.py on detection and segmentation, on images made here."""

import importlib.util
import itertools
import re
import runpy
from pathlib import Path

import pytest
import torch
import torchvision
from mmengine.logging import MMLogger
from mmengine.registry import MODELS
from mmengine.runner import CheckpointLoader
from tiny_training import finish
from tiny_weights import write_encoder

from benchmarks.processes import ROOT, start
from benchmarks.small_benchmark import DET, SEG, transfer_options, write_mini
from slotcon_plugin.runtime.config_options import read_config
from slotcon_plugin.runtime.safe_loading import load_checkpoint_safely
from slotcon_plugin.transfer.fill_backbone import fill_backbone
from slotcon_plugin.transfer.fit_transfer import name_backbone

pytest.importorskip("mmdet", reason="detection needs mmdet")
pytest.importorskip("mmseg", reason="segmentation needs mmseg")

METRICS = {DET: "coco/segm_mAP", SEG: "mIoU"}
runs = itertools.count()


def load_tool(name):
    spec = importlib.util.spec_from_file_location(f"{name}_tool", ROOT / "tools" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    return write_mini(tmp_path_factory.mktemp("mini") / "coco_mini")


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "encoder.pth"
    write_encoder(path)
    return path


@pytest.fixture
def tool(root, monkeypatch, capsys):
    """Runs a tool in this process, on the CPU: status, output, errors."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.setenv("SLOTCON_DATA", str(root))
    schemes = dict(CheckpointLoader._schemes)
    MMLogger._instance_dict.clear()  # the last test's logger writes to that test's closed output

    def run(name, config, *arguments, options=()):
        own = [*transfer_options(config, root), *options, f"+experiment_name=transfer{next(runs)}"]
        status = load_tool(name).main([str(config), *arguments, "--cfg-options", *own])
        output = capsys.readouterr()
        return status, output.out, output.err

    yield run
    CheckpointLoader._schemes = schemes


@pytest.mark.parametrize("config", [DET, SEG], ids=["det", "seg"])
def test_trains_evaluates_resumes_and_tests(config, tool, weights, root, tmp_path):
    work = tmp_path / "work"
    train = ("train", config, "--backbone", str(weights), "--work-dir", str(work))
    status, out, err = tool(*train)
    assert status == 0, out + err
    assert "total batch 2 = 1 processes x 2" in out
    assert "batch norm of each process instead of synchronized" in out
    log = "".join(path.read_text() for path in sorted(work.glob("*/*.log")))
    assert "all 120 tensors used" in log
    assert "Precise BN: statistics of" in log
    (in_training,) = re.findall(rf"{METRICS[config]}: ([-\d.]+)", log)
    assert list(work.rglob("events.out.tfevents.*"))

    first = load_checkpoint_safely(work / "iter_2.pth")["state_dict"]
    given = torch.load(weights, weights_only=True)["state_dict"]["conv1.weight"]
    moved = (first["backbone.conv1.weight"] - given).abs().max()
    assert 0 < moved < 0.01  # the weights given, two steps later

    longer = ["train_cfg.max_iters=3", "train_cfg.val_interval=3"]
    status, out, _ = tool(*train, "--resume", options=longer)
    assert status == 0
    assert "iteration 2" in out
    assert "from the checkpoint" in out

    # The same figure as in training: what precise BN measured is in the checkpoint.
    arguments = (str(work / "iter_2.pth"), "--work-dir", str(tmp_path / "test"))
    status, out, _ = tool("test", config, *arguments)
    assert status == 0
    (shown,) = re.findall(rf"^{METRICS[config]}: (\S+)$", out, re.MULTILINE)
    assert float(shown) == pytest.approx(float(in_training), abs=1e-3)


def test_a_dry_run_shows_the_plan_and_writes_nothing(tool, weights, tmp_path):
    work = tmp_path / "work"
    for config in (DET, SEG):
        status, out, _ = tool(
            "train", config, "--dry-run", "--backbone", str(weights), "--work-dir", str(work)
        )
        assert status == 0
        for words in ("all 120 tensors used", "2 = 1 processes x 2 images", "2 iterations"):
            assert words in out
    assert not work.exists()


@pytest.mark.parametrize(
    ("config", "arguments", "options", "message"),
    [
        (SEG, [], [], "No backbone is named"),
        (SEG, ["--backbone", "absent.pth"], [], "absent.pth"),
        (SEG, ["--backbone", "WEIGHTS"], ["model.backbone.type=ResNetV1c"], "deep stem"),
        (DET, ["--backbone", "WEIGHTS"], ["model.backbone.depth=34"], "left at random"),
        (
            SEG,
            ["--backbone", "none"],
            ["+optim_wrapper.accumulative_counts=3"],
            "cannot be divided",
        ),
        (DET, ["--backbone", "none", "--amp", "bf16"], [], "NMS and RoIAlign have no bfloat16"),
        (SEG, ["--backbone", "none"], ["train_dataloader.dataset.ann_file=no.txt"], "no.txt"),
    ],
)
def test_a_mistake_gets_one_message(config, arguments, options, message, tool, weights, tmp_path):
    arguments = [str(weights) if word == "WEIGHTS" else word for word in arguments]
    status, out, err = tool(
        "train", config, "--work-dir", str(tmp_path), *arguments, options=options
    )
    assert status == 1
    assert message in err
    assert err.count("error: ") == 1
    assert "Traceback" not in out + err


def test_what_is_missing_is_named_together(tool, root, tmp_path):
    status, _, err = tool(
        "train",
        DET,
        "--backbone",
        "none",
        options=[
            "train_dataloader.dataset.ann_file=away.json",
            "val_dataloader.dataset.data_prefix.img=gone/",
        ],
    )
    assert status == 1
    assert "away.json" in err
    assert "gone" in err
    assert "Expected: a folder of small COCO images" in err
    copy = write_mini(tmp_path / "copy")
    (copy / "voc21" / "001.png").unlink()
    (copy / "images" / "002.jpg").unlink()
    status, _, err = tool(
        "train",
        SEG,
        "--backbone",
        "none",
        "--work-dir",
        str(tmp_path / "work"),
        options=[f"train_dataloader.dataset.data_root={copy}/"],
    )
    assert status == 1
    assert "2 of 8 files" in err
    assert "001.png" in err
    assert "002.jpg" in err


def test_evaluation_wants_the_right_checkpoint(tool, weights, tmp_path):
    status, _, err = tool("test", SEG, str(weights), "--work-dir", str(tmp_path))
    assert status == 1
    assert "does not fit the config's model" in err
    pretraining = ROOT / "configs" / "pretrain" / "slotcon_r18_demo.py"
    assert load_tool("test").main([str(pretraining), str(weights)]) == 1


def test_the_supervised_backbone_is_torchvision_s(tool, tmp_path, monkeypatch):
    """From torch's own cache, as after a first download."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    cache = tmp_path / "hub" / "checkpoints"
    cache.mkdir(parents=True)
    torch.manual_seed(0)
    torch.save(torchvision.models.resnet18().state_dict(), cache / "resnet18-f37072fd.pth")
    status, out, err = tool("train", SEG, "--dry-run", "--backbone", "supervised")
    assert status == 0, err
    assert "resnet18-f37072fd.pth (torchvision), all 120 tensors used" in out


def test_a_pretraining_starts_from_a_backbone_too(weights):
    """Student and teacher alike."""
    cfg = read_config(ROOT / "configs" / "pretrain" / "slotcon_r18_demo.py")
    cfg.model.backbone.num_stages, cfg.model.neck.in_channels = 4, 512
    model = MODELS.build(cfg.model)
    model.init_weights()
    assert "all 120 tensors used" in fill_backbone(model, cfg.model, str(weights))
    given = torch.load(weights, weights_only=True)["state_dict"]["layer4.1.conv2.weight"]
    for backbone in (model.backbone, model.teacher.backbone):
        assert torch.equal(backbone.state_dict()["layer4.1.conv2.weight"], given)
    assert name_backbone(cfg, str(weights)) == [f"backbone: {weights}"]
    assert cfg.custom_hooks[0] == dict(type="BackboneHook", source=str(weights))


@pytest.mark.parametrize("config", [DET, SEG], ids=["det", "seg"])
def test_two_processes_train(config, root, weights, tmp_path, monkeypatch):
    monkeypatch.setenv("SLOTCON_DATA", str(root))
    options = [*transfer_options(config, root), "total_batch_size=2"]
    process = start(
        ROOT / "tools" / "dist_train.sh",
        config,
        2,
        "--backbone",
        weights,
        "--work-dir",
        tmp_path,
        "--cfg-options",
        *options,
    )
    output = finish(process)
    assert output.count("total batch 2 = 2 processes x 1") == 1
    assert output.count("2 processes on CPUs: gloo") == 1
    assert "all 120 tensors used" in output
    saved = load_checkpoint_safely(tmp_path / "iter_2.pth")
    assert saved["meta"]["iter"] == 2
    assert not any(name.startswith("module.") for name in saved["state_dict"])


@pytest.mark.parametrize(("library", "config"), [("mmdet", DET), ("mmseg", SEG)])
def test_the_library_s_own_script_trains_it(library, config, root, weights, tmp_path, monkeypatch):
    """mmdet's and mmseg's tools/train.py, as they are installed, with a config and nothing else."""
    folder = Path(importlib.import_module(library).__file__).parent
    script = folder / ".mim" / "tools" / "train.py"
    if not script.exists():
        pytest.skip(f"this {library} comes without tools/train.py")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setenv("SLOTCON_DATA", str(root))
    monkeypatch.setenv("SLOTCON_BACKBONE", str(weights))
    MMLogger._instance_dict.clear()
    options = [*transfer_options(config, root, iterations=1), f"experiment_name=foreign_{library}"]
    arguments = [str(config), "--work-dir", str(tmp_path), "--cfg-options", *options]
    monkeypatch.setattr("sys.argv", [str(script), *arguments])
    runpy.run_path(str(script), run_name="__main__")
    assert "all 120 tensors used" in next(tmp_path.glob("*/*.log")).read_text()
    assert (tmp_path / "iter_1.pth").exists()
