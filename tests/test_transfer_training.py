"""tools/train.py and tools/test.py on detection and segmentation, on images made here."""

import importlib
import itertools
import json
import re
import runpy
from pathlib import Path

import pytest
import torch
import torchvision
from mmengine.logging import MMLogger
from mmengine.registry import MODELS, init_default_scope
from tiny_training import train_apart
from tiny_weights import ours, write_encoder

from benchmarks.processes import DEMO
from benchmarks.small_benchmark import DET, SEG, transfer_options, write_mini
from slotcon_plugin.apis.test import test as evaluate
from slotcon_plugin.apis.train import train
from slotcon_plugin.runtime import safe_loading
from slotcon_plugin.runtime.config_options import read_config
from slotcon_plugin.runtime.run_command import run_command
from slotcon_plugin.runtime.safe_loading import load_checkpoint_safely
from slotcon_plugin.transfer.fill_backbone import fill_backbone, name_backbone

pytest.importorskip("mmdet", reason="detection needs mmdet")
pytest.importorskip("mmseg", reason="segmentation needs mmseg")

METRICS = {DET: "coco/segm_mAP", SEG: "mIoU"}
runs = itertools.count()


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    return write_mini(tmp_path_factory.mktemp("mini") / "coco_mini")


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "encoder.pth"
    write_encoder(path)
    return path


@pytest.fixture
def run(root, monkeypatch, capsys):
    """Runs `train` or `test` in this process, on the CPU: status, output, errors."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.setenv("SLOTCON_DATA", str(root))
    MMLogger._instance_dict.clear()  # the last test's logger writes to that test's closed output

    def run_api(function, config, *arguments, cfg_options=(), **options):
        own = [*transfer_options(config, root), *cfg_options]
        own.append(f"+experiment_name=transfer{next(runs)}")
        status = run_command(lambda: function(config, *arguments, cfg_options=own, **options))
        output = capsys.readouterr()
        return status, output.out, output.err

    return run_api


@pytest.mark.parametrize("config", [DET, SEG], ids=["det", "seg"])
def test_trains_evaluates_resumes_and_tests(config, run, weights, root, tmp_path):
    work = tmp_path / "work"
    options = dict(backbone=str(weights), work_dir=work)
    status, out, err = run(train, config, **options)
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
    status, out, _ = run(train, config, resume="auto", cfg_options=longer, **options)
    assert status == 0
    assert "iteration 2" in out
    assert "from the checkpoint" in out

    # The same metric as in training: the checkpoint contains the statistics of precise BN.
    out_file = tmp_path / "metrics.json"
    status, out, _ = run(
        evaluate, config, work / "iter_2.pth", work_dir=tmp_path / "test", out=out_file
    )
    assert status == 0
    (shown,) = re.findall(rf"^{METRICS[config]}: (\S+)$", out, re.MULTILINE)
    assert float(shown) == pytest.approx(float(in_training), abs=1e-3)
    assert json.loads(out_file.read_text())[METRICS[config]] == pytest.approx(float(shown), 1e-3)

    # A config without anything for training gives it too.
    cfg = read_config(config, transfer_options(config, root))
    for name in ("train_dataloader", "train_cfg", "optim_wrapper", "param_scheduler"):
        cfg.pop(name)
    cfg.dump(tmp_path / "evaluation.py")
    name = f"+experiment_name=transfer{next(runs)}"
    metrics = evaluate(
        tmp_path / "evaluation.py", work / "iter_2.pth", tmp_path / "only", cfg_options=[name]
    )
    assert metrics[METRICS[config]] == pytest.approx(float(shown), 1e-3)


def test_weights_of_a_pretraining_are_refused_as_those_of_the_model(run, tmp_path):
    checkpoint = ours(tmp_path, 18)
    status, _, err = run(train, SEG, cfg_options=[f"load_from={checkpoint}"], work_dir=tmp_path)
    assert status == 1
    assert f"slotcon train --backbone {checkpoint}" in err
    assert not list(tmp_path.glob("iter_*.pth"))


def test_another_head_is_loaded_by_name_alone(run, tmp_path, monkeypatch):
    """A network for other classes: the rest of its weights is complete, and read once."""
    reads = []
    load = safe_loading.load_checkpoint_safely
    for module in (safe_loading, importlib.import_module("slotcon_plugin.apis.test")):
        monkeypatch.setattr(module, "load_checkpoint_safely", lambda p: reads.append(p) or load(p))
    cfg = read_config(SEG, ["model.decode_head.num_classes=5"])
    init_default_scope("mmseg")
    torch.save({"state_dict": MODELS.build(cfg.model).state_dict()}, tmp_path / "five.pth")
    given = dict(cfg_options=[f"load_from={tmp_path / 'five.pth'}"], work_dir=tmp_path / "work")
    names = [f"decode_head.conv_seg.{name}" for name in ("weight", "bias")]
    for patterns, message in (
        ([], "2 of another shape: decode_head.conv_seg"),
        (["*.conv_seg.*", "tail.*"], "--allow-missing tail.*: no tensor"),
    ):
        status, _, err = run(train, SEG, allow_missing=patterns, dry_run=True, step=False, **given)
        assert (status, message in err) == (1, True), err
    given["allow_missing"] = ["*.conv_seg.*"]
    status, out, _ = run(train, SEG, dry_run=True, step=False, **given)
    assert status == 0
    assert "not loaded:    2 tensors are not loaded from" in out
    assert all(name in out for name in names)
    status, _, _ = run(train, SEG, **given)
    assert status == 0
    saved = load_checkpoint_safely(tmp_path / "work" / "iter_2.pth")
    assert saved["meta"]["left_out"] == {str(tmp_path / "five.pth"): names}

    reads.clear()
    options = dict(work_dir=tmp_path / "work", allow_missing=["*.conv_seg.*"])
    status, out, _ = run(evaluate, SEG, tmp_path / "five.pth", **options)
    assert status == 0
    assert all(name in out for name in names)
    assert len(reads) == 1


@pytest.mark.parametrize("dry_run", [True, False], ids=["dry", "train"])
@pytest.mark.parametrize("road", ["load_from", "init_cfg", "pretrained"])
def test_torchvisions_weights_are_no_network(run, tmp_path, road, dry_run):
    file = tmp_path / "resnet18.pth"
    torch.save(torchvision.models.resnet18().state_dict(), file)
    entry = {
        "load_from": f"load_from={file}",
        "init_cfg": f"+model.backbone.init_cfg={{'type': 'Pretrained', 'checkpoint': '{file}'}}",
        "pretrained": f"+model.backbone.pretrained={file}",
    }[road]
    options = dict(backbone=None if road == "load_from" else "none", dry_run=dry_run)
    status, _, err = run(train, SEG, cfg_options=[entry], work_dir=tmp_path / "work", **options)
    assert status == 1
    assert "unexpected: " in err and f"--backbone {file if road == 'load_from' else 'FILE'}" in err
    assert not list(tmp_path.glob("work/*.pth"))


def test_a_dry_run_prints_the_plan_and_writes_nothing(run, weights, tmp_path):
    work = tmp_path / "work"
    for config in (DET, SEG):
        status, out, _ = run(train, config, dry_run=True, backbone=str(weights), work_dir=work)
        assert status == 0
        for words in ("all 120 tensors used", "2 = 1 processes x 2 images", "2 iterations"):
            assert words in out
    assert not work.exists()


@pytest.mark.parametrize(
    ("config", "options", "cfg_options", "message"),
    [
        (SEG, {}, [], "No backbone is named"),
        (SEG, {"backbone": "absent.pth"}, [], "absent.pth"),
        (SEG, {"backbone": "WEIGHTS"}, ["model.backbone.type=ResNetV1c"], "deep stem"),
        (DET, {"backbone": "WEIGHTS"}, ["model.backbone.depth=34"], "missing: layer1.2"),
        (SEG, {"backbone": "none"}, ["+optim_wrapper.accumulative_counts=3"], "cannot be divided"),
        (SEG, {"backbone": "none"}, ["total_batch_size=0"], "total_batch_size is 0, expected"),
        (SEG, {"backbone": "none", "compile": True}, [], "--compile is for pretraining"),
        (DET, {"backbone": "none", "amp": "bf16"}, [], "NMS and RoIAlign have no bfloat16"),
        (SEG, {"backbone": "none"}, ["train_dataloader.dataset.ann_file=no.txt"], "no.txt"),
    ],
)
def test_a_mistake_gets_one_message(config, options, cfg_options, message, run, weights, tmp_path):
    if options.get("backbone") == "WEIGHTS":
        options = {**options, "backbone": str(weights)}
    status, out, err = run(train, config, work_dir=tmp_path, cfg_options=cfg_options, **options)
    assert status == 1
    assert message in err
    assert err.count("error: ") == 1
    assert "Traceback" not in out + err


def test_all_missing_files_are_named_together(run, root, tmp_path):
    missing = [
        "train_dataloader.dataset.ann_file=away.json",
        "val_dataloader.dataset.data_prefix.img=gone/",
    ]
    status, _, err = run(train, DET, backbone="none", cfg_options=missing)
    assert status == 1
    assert "away.json" in err
    assert "gone" in err
    assert "Expected: a folder of small COCO images" in err
    copy = write_mini(tmp_path / "copy")
    (copy / "voc21" / "001.png").unlink()
    (copy / "images" / "002.jpg").unlink()
    options = dict(backbone="none", work_dir=tmp_path / "work")
    moved = [f"train_dataloader.dataset.data_root={copy}/"]
    status, _, err = run(train, SEG, cfg_options=moved, **options)
    assert status == 1
    assert "2 of 8 files" in err
    assert "001.png" in err
    assert "002.jpg" in err


def test_evaluation_needs_a_fitting_checkpoint_and_a_test_set(run, weights, tmp_path):
    status, _, err = run(evaluate, SEG, weights, work_dir=tmp_path)
    assert status == 1
    assert "does not fit the config's model" in err
    assert run_command(lambda: evaluate(DEMO, weights)) == 1


def test_the_supervised_backbone_is_torchvision_s(run, tmp_path, monkeypatch):
    """From torch's own cache, as after a first download."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    cache = tmp_path / "hub" / "checkpoints"
    cache.mkdir(parents=True)
    torch.manual_seed(0)
    torch.save(torchvision.models.resnet18().state_dict(), cache / "resnet18-f37072fd.pth")
    status, out, err = run(train, SEG, dry_run=True, backbone="supervised")
    assert status == 0, err
    assert "resnet18-f37072fd.pth (torchvision), all 120 tensors used" in out


def test_a_pretraining_starts_from_a_backbone_too(weights):
    """Student and teacher alike."""
    cfg = read_config(DEMO)
    cfg.model.backbone.num_stages, cfg.model.neck.in_channels = 4, 512
    model = MODELS.build(cfg.model)
    model.init_weights()
    assert "all 120 tensors used" in fill_backbone(model, cfg.model, str(weights))
    given = torch.load(weights, weights_only=True)["state_dict"]["layer4.1.conv2.weight"]
    for backbone in (model.backbone, model.teacher.backbone):
        assert torch.equal(backbone.state_dict()["layer4.1.conv2.weight"], given)
    assert name_backbone(cfg, str(weights)) == [f"backbone: {weights}"]
    assert cfg.default_hooks.backbone == dict(type="BackboneHook", source=str(weights))


@pytest.mark.parametrize("config", [DET, SEG], ids=["det", "seg"])
def test_two_processes_train(config, root, weights, tmp_path):
    options = [*transfer_options(config, root), "total_batch_size=2"]
    settings = dict(backbone=weights, work_dir=tmp_path, cfg_options=options)
    output = train_apart(2, config, launcher="pytorch", **settings)
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
