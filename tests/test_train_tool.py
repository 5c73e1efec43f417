"""tools/train.py: what it prints, what it adjusts, what it says to mistakes."""

import importlib.util
import itertools
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from mmengine.runner import CheckpointLoader
from tiny_training import write_images

from benchmarks.processes import CONFIGS, DEMO, ROOT
from benchmarks.small_benchmark import pretraining_options
from slotcon_plugin.errors import ConfigError
from slotcon_plugin.runtime import launch
from slotcon_plugin.runtime.config_options import read_config
from slotcon_plugin.runtime.safe_loading import load_checkpoint_safely

runs = itertools.count()


class Planted:
    """Unpickling this makes a folder."""

    def __init__(self, trace: Path):
        self.trace = trace

    def __reduce__(self):
        return os.mkdir, (str(self.trace),)


@pytest.fixture(scope="module")
def tool():
    spec = importlib.util.spec_from_file_location("train_tool", ROOT / "tools" / "train.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    return write_images(tmp_path_factory.mktemp("data") / "images")


@pytest.fixture
def train(tool, images, tmp_path, monkeypatch, capsys):
    """Runs the tool on the tiny demo config in this process, on the CPU: status, output, errors."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    schemes = dict(CheckpointLoader._schemes)

    def run(*arguments, options=(), config=DEMO):
        shrunk = [*pretraining_options(images, tmp_path / "work"), *options]
        # MMEngine reuses a logger of the same name and second, with the last test's closed output.
        shrunk.append(f"+experiment_name=run{next(runs)}")
        status = tool.main([str(config), *arguments, "--cfg-options", *shrunk])
        output = capsys.readouterr()
        return status, output.out, output.err

    yield run
    CheckpointLoader._schemes = schemes


def test_help_teaches_without_loading_torch():
    began = time.monotonic()
    shown = subprocess.run(
        [sys.executable, "-X", "importtime", ROOT / "tools" / "train.py", "--help"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "| torch" not in shown.stderr, f"{time.monotonic() - began:.1f} s"
    for word in ("examples:", "--resume", "--amp", "--cfg-options", "dist_train.sh", "COCO_ROOT"):
        assert word in shown.stdout


def test_a_dry_run_says_what_would_happen_and_writes_nothing(train, tmp_path):
    status, out, _ = train("--dry-run", options=["optim_wrapper.optimizer.lr=0.8"])
    assert status == 0
    for words in (
        "12\n",
        "8 prototypes",
        "4 = 1 processes x 4 images",
        "2 epochs of 3 iterations: 6 steps, 24 images seen",
        "peak learning rate 0.1 = 0.8 x global batch 4 / 32",
        "float32 instead of the config's mixed precision",
        str(tmp_path / "work"),
    ):
        assert words in out
    assert not (tmp_path / "work").exists()


def test_training_leaves_checkpoints_and_logs(train, tmp_path):
    status, out, _ = train("--amp", "bf16", "--seed", "3")
    assert status == 0
    assert "precision: bfloat16 mixed" in out
    saved = load_checkpoint_safely(tmp_path / "work" / "epoch_2.pth")
    assert saved["meta"]["seed"] == 3
    assert any(key.startswith("teacher.backbone.") for key in saved["state_dict"])
    assert (tmp_path / "work" / "last_checkpoint").read_text().endswith("epoch_2.pth")
    assert list((tmp_path / "work").rglob("events.out.tfevents.*"))
    log = next((tmp_path / "work").rglob("*.log")).read_text()
    for word in (
        *("loss_group", "loss_slot", "prototypes_used", "prototypes_used_running", "eta"),
        *("assignment_entropy", "active_slots", "feature_std", "center_norm"),
        *("teacher_momentum", "grad_norm", "data_wait"),
    ):
        assert f"{word}: " in log


def test_resume_says_from_where_and_needs_no_checkpoint(train, tmp_path):
    status, out, _ = train("--resume")
    assert status == 0
    assert "nothing to resume from" in out
    (tmp_path / "work" / "epoch_2.pth").write_bytes(b"")
    status, out, _ = train("--resume", "--dry-run")
    assert status == 0
    assert "Passing over epoch_2.pth" in out
    assert "epoch_1.pth, after epoch 1, iteration 3" in out


def test_resume_keeps_the_seed_of_the_run(train, tmp_path, tool):
    train("--seed", "7", options=["train_cfg.max_epochs=1"])
    args = tool.parse_args([str(DEMO), "--resume", str(tmp_path / "work" / "epoch_1.pth")])
    cfg = read_config(DEMO)
    tool.settle_start(cfg, args, lambda line: None)
    assert cfg.randomness.seed == 7


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ("train_cfg.max_epochs=3", ["WarmupCosineLR's end was 6, now 9"]),
        (
            "train_dataloader.batch_size=2",
            ["1 epochs were 3 iterations, now they are 6", "[0.125]"],
        ),
        ("+optim_wrapper.accumulative_counts=2", ["base_values was [0.125], now [0.25]"]),
    ],
)
def test_a_resume_under_another_schedule_is_refused(train, tmp_path, changed, words):
    train()
    (tmp_path / "work" / "epoch_2.pth").unlink()
    before = sorted((tmp_path / "work").glob("*.pth"))
    status, out, err = train("--resume", options=[changed])
    assert status == 1
    assert "epoch_1.pth was trained under another schedule" in err
    assert all(word in err for word in words)
    assert "Traceback" not in out + err
    assert sorted((tmp_path / "work").glob("*.pth")) == before


def test_resume_in_a_config_is_safe_too(train, tmp_path):
    train()
    (tmp_path / "work" / "epoch_2.pth").write_bytes(b"")
    status, out, _ = train(options=["resume=True"])
    assert status == 0
    assert "Passing over epoch_2.pth" in out
    assert "resuming from" in out
    assert load_checkpoint_safely(tmp_path / "work" / "epoch_2.pth")["meta"]["iter"] == 6


def test_a_resume_may_change_the_precision(train, tmp_path):
    """bfloat16 on a GPU saves an empty loss scale, which float16 cannot take over."""
    train("--amp", "bf16")
    path = tmp_path / "work" / "epoch_1.pth"
    saved = load_checkpoint_safely(path)
    saved["optimizer"]["loss_scaler"] = {}
    torch.save(saved, path)
    (tmp_path / "work" / "epoch_2.pth").unlink()
    assert train("--resume", "--amp", "off")[0] == 0


def test_planted_code_is_not_run(train, tmp_path):
    trace = tmp_path / "was_run"
    torch.save({"state_dict": {}, "surprise": Planted(trace)}, tmp_path / "planted.pth")
    for arguments, options in (
        (["--resume", str(tmp_path / "planted.pth")], []),
        ([], [f"load_from={tmp_path / 'planted.pth'}"]),
        ([], [f"+model.init_cfg={{'type':'Pretrained','checkpoint':'{tmp_path}/planted.pth'}}"]),
    ):
        status, out, err = train(*arguments, options=options)
        assert status == 1
        assert "refused" in err
        assert "Traceback" not in out + err
        assert not trace.exists()


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        ([], ["train_cfg.max_epoch=3"], "train_cfg has no `max_epoch`. Did you mean max_epochs?"),
        ([], ["custom_hooks.9.patience=3"], "custom_hooks is a list of 6"),
        ([], ["seed"], "expected KEY=VALUE"),
        ([], ["model.type=SlotCom"], "model type='SlotCom', which is not registered."),
        ([], ["model.type=SlotCom"], "Did you mean SlotCon?"),
        ([], ["model.backbone.type=mmnone.ResNet"], "Is mmnone installed?"),
        ([], ["custom_hooks.0.type=LossGardHook"], "Did you mean LossGuardHook?"),
        ([], ["optim_wrapper.optimizer.type=LARSS"], "which is not registered"),
        ([], ["+model.neck.depth=3"], "unexpected keyword argument 'depth'"),
        ([], ["model.head.group_loss_weight=2"], "group_loss_weight is 2, expected a weight in"),
        ([], ["+train_dataloader.dataset.preset=cocoo"], "cocoo"),
        ([], ["param_scheduler.warmup=3"], "shorten param_scheduler.warmup or lengthen train_cfg"),
        ([], ["resume=True", "load_from=absent.pth"], "There is no checkpoint absent.pth"),
        ([], ["train_dataloader.dataset.source=/no/where"], "/no/where does not exist"),
        ([], ["train_dataloader.batch_size=13"], "12 images, fewer than one batch of 13"),
        (["--amp", "fp16"], [], "--amp fp16 needs a GPU"),
        (["--resume", "absent.pth"], [], "There is no checkpoint absent.pth"),
        (["--launcher", "mpi"], [], "OMPI_COMM_WORLD_RANK"),
    ],
)
def test_a_mistake_gets_one_message(train, arguments, options, message):
    status, out, err = train(*arguments, options=options)
    assert status == 1
    assert message in err
    assert err.count("error: ") == 1
    assert "Traceback" not in out + err


def test_of_many_processes_one_tells(train, monkeypatch):
    for name, value in (("RANK", "1"), ("WORLD_SIZE", "2"), ("LOCAL_RANK", "1")):
        monkeypatch.setenv(name, value)
    told = train("--launcher", "pytorch", options=["train_cfg.max_epoch=3"])
    assert told == (1, "", "")
    monkeypatch.setenv("RANK", "0")
    _, _, err = train("--launcher", "pytorch", options=["train_cfg.max_epoch=3"])
    assert err.count("error: ") == 1


def test_a_config_that_is_not_there_or_broken(train, tmp_path):
    status, _, err = train(config=CONFIGS / "slotcon_r50_coko.py")
    assert status == 1
    assert "Did you mean slotcon_r50_coco.py?" in err
    (tmp_path / "broken.py").write_text("model = dict(\n")
    status, _, err = train(config=tmp_path / "broken.py")
    assert status == 1
    assert "cannot be read: SyntaxError" in err


def test_options_are_read_as_python():
    cfg = read_config(
        DEMO,
        [
            "train_dataloader.dataset.views.scale=(0.3, 1)",
            "train_dataloader.dataset.source=/a folder/with, commas",
            "model.compile=true",
            "work_dir=None",
            "optim_wrapper.optimizer.lr=1e-3",
            "custom_hooks.0.patience=9",
            "+model.head.init_cfg={'type': 'Constant'}",
        ],
    )
    assert cfg.train_dataloader.dataset.views.scale == (0.3, 1)
    assert cfg.train_dataloader.dataset.source == "/a folder/with, commas"
    assert cfg.model.compile is True
    assert cfg.work_dir is None
    assert cfg.optim_wrapper.optimizer.lr == 1e-3
    assert cfg.custom_hooks[0].patience == 9
    assert cfg.model.head.init_cfg.type == "Constant"


def test_the_learning_rate_follows_the_global_batch():
    """METHOD: 1.0 x batch / 256, accumulated iterations included."""
    for world_size, batch, accumulation, lr in ((8, 64, 1, 2.0), (1, 64, 1, 0.25), (4, 64, 2, 2.0)):
        cfg = read_config(
            CONFIGS / "slotcon_r50_coco.py",
            [
                f"train_dataloader.batch_size={batch}",
                f"+optim_wrapper.accumulative_counts={accumulation}",
            ],
        )
        said = launch.fit_learning_rate(cfg, world_size)
        assert cfg.optim_wrapper.optimizer.lr == lr
        assert f"peak learning rate {lr:g} = 2 x global batch" in said[0]
        again = launch.fit_learning_rate(cfg, world_size)  # as when the dumped config is used
        assert cfg.optim_wrapper.optimizer.lr == lr
        assert "as configured" in again[0]


def test_the_learning_rate_can_be_left_alone():
    cfg = read_config(CONFIGS / "slotcon_r50_coco.py")
    launch.fit_learning_rate(cfg, 1, scale=False)
    assert cfg.optim_wrapper.optimizer.lr == 2.0
    cfg.auto_scale_lr = None
    with pytest.raises(ConfigError, match="base_batch_size"):
        launch.fit_learning_rate(cfg, 1, scale=True)


@pytest.mark.parametrize(
    ("cuda", "precision", "kind"),
    [
        (True, None, dict(type="AmpOptimWrapper", dtype="float16", loss_scale="dynamic")),
        (True, "fp16", dict(type="AmpOptimWrapper", dtype="float16", loss_scale="dynamic")),
        (
            True,
            "bf16",
            dict(type="AmpOptimWrapper", dtype="bfloat16", loss_scale={"enabled": False}),
        ),
        (True, "off", dict(type="OptimWrapper")),
        (False, None, dict(type="OptimWrapper")),
        (False, "bf16", dict(type="CpuAmpOptimWrapper")),
        (False, "off", dict(type="OptimWrapper")),
    ],
)
def test_the_precision_fits_the_machine(monkeypatch, cuda, precision, kind):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    cfg = read_config(CONFIGS / "slotcon_r50_coco.py")
    launch.fit_precision(cfg, precision)
    wrapper = dict(cfg.optim_wrapper)
    wrapper.pop("optimizer")
    assert wrapper == kind


def test_batch_norm_is_synchronized_on_several_gpus_only(monkeypatch):
    for name, value in (("RANK", "1"), ("WORLD_SIZE", "8"), ("LOCAL_RANK", "1")):
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    cfg = read_config(CONFIGS / "slotcon_r50_coco.py")
    launch.fit_to_processes(cfg, "none")
    assert "sync_bn" not in cfg
    launch.fit_to_processes(cfg, "pytorch")
    assert cfg.sync_bn == "torch"
    assert "model_wrapper_cfg" not in cfg
    assert launch.processes("pytorch") == (1, 8)


def test_training_does_without_tensorboard(monkeypatch):
    monkeypatch.setattr(launch, "find_spec", lambda name: None)
    cfg = read_config(DEMO)
    assert "not installed" in launch.fit_loggers(cfg)[0]
    assert [backend.type for backend in cfg.visualizer.vis_backends] == ["LocalVisBackend"]


def test_the_compile_option_reaches_the_model(tool, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    args = tool.parse_args([str(DEMO), "--compile", "--work-dir", "elsewhere", "--deterministic"])
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    cfg = tool.settle_config(args, lambda line: None)
    assert cfg.model.compile is True
    assert cfg.work_dir == "elsewhere"
    assert cfg.randomness == {"seed": 0, "deterministic": True}


def test_folders_come_from_the_environment(monkeypatch):
    monkeypatch.setenv("COCO_ROOT", "/big/coco")
    monkeypatch.setenv("SLOTCON_WORK_DIR", "/big/results")
    cfg = read_config(CONFIGS / "slotcon_r50_coco.py")
    assert cfg.train_dataloader.dataset.source == "/big/coco"
    assert cfg.work_dir == "/big/results"
