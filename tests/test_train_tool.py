"""`apis.train` on the demo config, and the command line of tools/train.py."""

import itertools
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torchvision
from mmengine.config import config as mmengine_config
from mmengine.runner import CheckpointLoader
from tiny_training import write_images

from benchmarks.processes import CONFIGS, DEMO, ROOT
from benchmarks.small_benchmark import pretraining_options
from slotcon_plugin.apis import train as train_module
from slotcon_plugin.apis.export import export
from slotcon_plugin.checkpoints import read_encoder
from slotcon_plugin.runtime.run_command import run_command
from slotcon_plugin.runtime.safe_loading import load_checkpoint_safely

runs = itertools.count()


class Planted:
    """Unpickling this makes a folder."""

    def __init__(self, trace: Path):
        self.trace = trace

    def __reduce__(self):
        return os.mkdir, (str(self.trace),)


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    return write_images(tmp_path_factory.mktemp("data") / "images")


@pytest.fixture
def train(images, tmp_path, monkeypatch, capsys):
    """Trains with the small demo config in this process, on the CPU: status, output, errors."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)

    def run(cfg_options=(), config=DEMO, launcher="none", **options):
        small = [*pretraining_options(images, tmp_path / "work"), *cfg_options]
        # MMEngine reuses a logger of the same name and second, with the last test's closed output.
        small.append(f"+experiment_name=run{next(runs)}")
        status = run_command(
            lambda: train_module.train(config, cfg_options=small, launcher=launcher, **options),
            launcher,
        )
        output = capsys.readouterr()
        return status, output.out, output.err

    return run


@pytest.mark.parametrize("name", sorted(path.stem for path in (ROOT / "tools").glob("*.py")))
def test_help_does_not_load_torch(name):
    shown = subprocess.run(
        [sys.executable, "-X", "importtime", ROOT / "tools" / f"{name}.py", "--help"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "| torch" not in shown.stderr
    if name == "train":
        for word in ("examples:", "--resume", "--amp", "--cfg-options", "--gpus 8"):
            assert word in shown.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("train.py", DEMO, "--seed", "-1"), "argument --seed: '-1', expected a whole number"),
        (("train.py", DEMO, "--seed", "one"), "argument --seed: 'one', expected a whole number"),
        (("demo.py", "--steps", "0"), "argument --steps: '0', expected a whole number from 1 on"),
        (("demo.py", "--seed", "-1"), "argument --seed: '-1', expected a whole number from 0 on"),
        (
            ("draw_groups.py", DEMO, "none.pth", "--out", "none.png", "--count", "0"),
            "argument --count: '0', expected a whole number from 1 on",
        ),
        (("train.py", DEMO, "--budget", "3", "h"), "as --data DIR; it is one word, as 3h, or"),
        (("train.py", DEMO, "/my/images"), "unrecognized arguments: /my/images. A value follows"),
        (("train.py", DEMO, "--buget=3h"), "--buget=3h. Did you mean --budget?"),
        (("plan.py", DEMO, "--workers"), "unrecognized arguments: --workers. --help lists"),
        (("train.py", "--data", "/my/images", DEMO), "required: config. Write it before --data,"),
    ],
)
def test_a_command_line_is_checked(arguments, message):
    tool, *words = arguments
    command = [sys.executable, ROOT / "tools" / tool, *words]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2
    assert message in done.stderr


def test_cfg_options_may_be_given_twice(images, tmp_path, run_tool):
    small = pretraining_options(images, tmp_path / "work")
    words = ["--cfg-options", *small, "--cfg-options", "train_cfg.max_epochs=3"]
    status, output, _ = run_tool("train", DEMO, "--dry-run", "--local_rank=0", *words)
    assert status == 0
    assert "3 epochs of 3 iterations" in output
    assert "8 prototypes" in output


def test_a_dry_run_prints_the_plan_and_writes_nothing(train, tmp_path):
    status, out, _ = train(["optim_wrapper.optimizer.lr=0.8"], dry_run=True)
    assert status == 0
    for words in (
        "12\n",
        "8 prototypes",
        "4 = 1 processes x 4 images",
        "2 epochs of 3 iterations: 6 steps, 24 images seen",
        "peak learning rate 0.1 = 0.8 x global batch 4 / 32",
        "float32 instead of the config's mixed precision",
        "precision:     float32",
        str(tmp_path / "work"),
    ):
        assert words in out
    assert not (tmp_path / "work").exists()


def test_training_writes_checkpoints_and_logs(train, tmp_path):
    status, out, _ = train(amp="bf16", seed=3)
    assert status == 0
    assert "precision: bfloat16 mixed" in out
    assert out.index("System environment:") < out.index("Config:") < out.index("Epoch(train)")
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


def test_an_error_before_the_first_step_stands_alone(train, tmp_path):
    """Not behind MMEngine's environment and config, which are in the log file."""
    torch.save({"state_dict": {"a": torch.zeros(1)}}, tmp_path / "weights.pth")
    for option, words in (
        (f"train_dataloader.dataset.source={tmp_path / 'nowhere'}", "nowhere does not exist"),
        (f"load_from={tmp_path / 'weights.pth'}", "1 unexpected: a"),
        ("train_dataloader.batch_size=13", "12 images"),
    ):
        status, out, err = train([option])
        assert status == 1 and words in err, err
        assert "System environment" not in out and len(out.splitlines()) < 20, out
    log = next((tmp_path / "work").rglob("*.log")).read_text()
    assert "System environment:" in log and "Config:" in log


def test_resume_without_a_good_checkpoint(train, tmp_path):
    status, out, _ = train(resume="auto")
    assert status == 0
    assert "a new training starts" in out
    (tmp_path / "work" / "epoch_2.pth").write_bytes(b"")
    status, out, _ = train(resume="auto", dry_run=True)
    assert status == 0
    assert "epoch_2.pth is skipped" in out
    assert "epoch_1.pth, after epoch 1, iteration 3" in out
    (tmp_path / "work" / "epoch_1.pth").write_bytes(b"")
    status, out, err = train(resume="auto")
    assert status == 1
    assert "epoch_1.pth is empty" in out  # the reason of each, before the message that none is good
    assert "None of the checkpoints" in err


def test_resume_keeps_the_seed_of_the_run(train, tmp_path):
    train(["train_cfg.max_epochs=1"], seed=7)
    start, again = tmp_path / "work" / "epoch_1.pth", tmp_path / "again"
    train(["train_cfg.max_epochs=1"], resume=str(start), work_dir=again)
    assert load_checkpoint_safely(start)["meta"]["seed"] == 7
    logs = [*(tmp_path / "work").rglob("*.log"), *again.rglob("*.log")]  # named by the second
    assert len(logs) == 2
    assert all("    seed: 7\n" in log.read_text() for log in logs)


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
    status, out, err = train([changed], resume="auto")
    assert status == 1
    assert "epoch_1.pth was trained under another schedule" in err
    assert all(word in err for word in words)
    assert "Traceback" not in out + err
    assert sorted((tmp_path / "work").glob("*.pth")) == before


def test_resume_in_a_config_is_safe_too(train, tmp_path):
    train()
    (tmp_path / "work" / "epoch_2.pth").write_bytes(b"")
    status, out, _ = train(["resume=True"])
    assert status == 0
    assert "epoch_2.pth is skipped" in out
    assert "resuming from" in out
    assert load_checkpoint_safely(tmp_path / "work" / "epoch_2.pth")["meta"]["iter"] == 6


def test_a_resume_may_change_the_precision(train, tmp_path):
    """bfloat16 on a GPU saves an empty loss scale, which float16 cannot load."""
    train(amp="bf16")
    path = tmp_path / "work" / "epoch_1.pth"
    saved = load_checkpoint_safely(path)
    saved["optimizer"]["loss_scaler"] = {}
    torch.save(saved, path)
    (tmp_path / "work" / "epoch_2.pth").unlink()
    assert train(resume="auto", amp="off")[0] == 0


def test_code_in_a_checkpoint_is_not_run(train, tmp_path):
    trace = tmp_path / "was_run"
    planted = str(tmp_path / "planted.pth")
    torch.save({"state_dict": {}, "surprise": Planted(trace)}, planted)
    for resume, cfg_options in (
        (planted, []),
        (None, [f"load_from={planted}"]),
        (None, [f"+model.init_cfg={{'type':'Pretrained','checkpoint':'{planted}'}}"]),
    ):
        status, out, err = train(cfg_options, resume=resume)
        assert status == 1
        assert "refused" in err
        assert "Traceback" not in out + err
        assert not trace.exists()


@pytest.mark.parametrize("dry_run", [False, True])
def test_weights_of_another_model_are_refused(train, tmp_path, dry_run):
    torch.save(torchvision.models.resnet18().state_dict(), tmp_path / "resnet18.pth")
    status, _, err = train([f"load_from={tmp_path / 'resnet18.pth'}"], dry_run=dry_run)
    assert status == 1
    assert "does not fit the config's model, SlotCon" in err and "missing: " in err
    assert f"slotcon train --backbone {tmp_path / 'resnet18.pth'}" in err


def test_another_number_of_prototypes_is_loaded_by_name_alone(train, tmp_path, run_tool, images):
    assert train()[0] == 0
    start, work = tmp_path / "work" / "epoch_2.pth", tmp_path / "other"
    options = [f"load_from={start}", "model.head.prototypes.num_prototypes=6"]
    status, _, err = train(options, work_dir=work)
    assert status == 1
    assert "8, 16) instead of (6, 16)" in err and "--allow-missing PATTERN" in err
    patterns = ["*prototypes.weight", "idle_steps", "*.center"]
    words = ["--cfg-options", *pretraining_options(images, work), *options]
    for pattern in patterns:
        words += ["--allow-missing", pattern]
    status, output, _ = run_tool("train", DEMO, *words)
    assert status == 0, output
    saved = load_checkpoint_safely(work / "epoch_2.pth")
    (names,) = saved["meta"]["left_out"].values()
    assert set(names) == {
        *("head.prototypes.weight", "teacher.prototypes.weight"),
        *("head.group_loss.center", "idle_steps"),
    }
    export(work / "epoch_2.pth", tmp_path / "encoder.pth", "openmmlab")
    exported = read_encoder(tmp_path / "encoder.pth").meta["training"]
    assert exported["not_loaded"].startswith("4 tensors are not loaded from")
    # The same command again, as a queue repeats it: a resume needs all weights, and keeps the note.
    for name in ("epoch_2.pth", "last_checkpoint"):
        (work / name).unlink()
    status, _, err = train(options, work_dir=work, resume="auto", allow_missing=patterns)
    assert status == 0, err
    (again,) = load_checkpoint_safely(work / "epoch_2.pth")["meta"]["left_out"].values()
    assert again == names


def test_a_resume_needs_all_weights_of_the_model(train, tmp_path):
    assert train()[0] == 0
    path = tmp_path / "work" / "epoch_2.pth"
    saved = load_checkpoint_safely(path)
    weights = saved["state_dict"]
    name = "teacher.backbone.conv1.weight"
    for changed, message in (
        ({k: v for k, v in weights.items() if k != name}, f"1 missing: {name}"),
        ({**weights, "more": torch.ones(1)}, "1 unexpected: more"),
        ({**weights, name: weights[name][1:]}, f"1 of another shape: {name}"),
        ({**weights, name: weights[name].half()}, "torch.float16 instead of torch.float32"),
        ({}, "missing: "),
    ):
        torch.save({**saved, "state_dict": changed}, tmp_path / "changed.pth")
        status, _, err = train(resume=tmp_path / "changed.pth", overwrite=True)
        assert (status, message in err) == (1, True), err
        assert "Traceback" not in err


@pytest.mark.parametrize(
    ("options", "cfg_options", "message"),
    [
        ({}, ["train_cfg.max_epoch=3"], "train_cfg has no `max_epoch`. Did you mean max_epochs?"),
        ({}, ["log_processor.custom_cfg.9.window_size=3"], "custom_cfg is a list of 2"),
        ({}, ["seed"], "expected KEY=VALUE"),
        ({}, ["model.type=SlotCom"], "model type='SlotCom', which is not registered."),
        ({}, ["model.type=SlotCom"], "Did you mean SlotCon?"),
        ({}, ["model.type=3"], "model.type is 3, expected a name"),
        ({}, ["model.backbone.type=mmnone.ResNet"], "Is mmnone installed?"),
        ({}, ["default_hooks.logger.type=LogerHook"], "Did you mean LoggerHook?"),
        ({}, ["optim_wrapper.optimizer.type=LARSS"], "which is not registered"),
        ({}, ["+model.neck.depth=3"], "unexpected keyword argument 'depth'"),
        ({}, ["optim_wrapper.optimizer.lr=-1"], "optim_wrapper.optimizer.lr is -1"),
        ({}, ["model=None"], "cannot be trained: it has no model"),
        ({}, ["optim_wrapper.optimizer=None"], "has no optim_wrapper.optimizer.type"),
        ({}, ["optim_wrapper.optimizer.lr=None"], "optimizer.lr is None, expected a number"),
        ({}, ["train_dataloader.dataset=None"], "it has no train_dataloader.dataset"),
        ({}, ["train_cfg.max_epochs=None"], "max_epochs is None, expected a whole number"),
        ({}, ["+train_cfg.max_iters=5"], "train_cfg has both max_epochs and max_iters"),
        ({}, ["+default_hooks.foo=dict(a=1)"], "`dict(a=1)` is not a Python literal"),
        ({}, ["+default_hooks.foo={'a':1}"], "default_hooks.foo is {'a': 1}, expected"),
        ({}, ["+custom_hooks=['a']"], "custom_hooks.0 is 'a', expected a dictionary"),
        ({}, ["load_from=https://x.org/a.pth"], "https://x.org/a.pth is a URL"),
        ({}, ["+train_dataloader.dataset.preset=cocoo"], "cocoo"),
        ({}, ["param_scheduler.warmup=3"], "shorten param_scheduler.warmup or lengthen train_cfg"),
        ({}, ["resume=True", "load_from=absent.pth"], "There is no checkpoint absent.pth"),
        ({}, ["train_dataloader.dataset.source=/no/where"], "/no/where does not exist"),
        ({}, ["train_dataloader.batch_size=13"], "12 images, fewer than one batch of 13"),
        ({"seed": -1}, [], "randomness.seed is -1, expected a whole number from 0"),
        ({"amp": "fp16"}, [], "--amp fp16 needs a GPU"),
        ({"resume": "absent.pth"}, [], "There is no checkpoint absent.pth"),
        ({"launcher": "mpi"}, [], "OMPI_COMM_WORLD_RANK"),
    ],
)
def test_a_mistake_gets_one_message(train, options, cfg_options, message):
    status, out, err = train(cfg_options, **options)
    assert status == 1
    assert message in err
    assert err.count("error: ") == 1
    assert "Traceback" not in out + err


def test_a_value_is_checked_in_a_dry_run_too(train):
    status, out, err = train(["model.head.prototypes.num_prototypes=abc"], dry_run=True)
    assert (status, out) == (1, "")
    assert "num_prototypes is 'abc', expected a whole number from 2 on" in err
    status, _, err = train(["default_hooks.loss_guard.patience=0"], dry_run=True)
    assert status == 1 and "patience is 0" in err


def test_mmengine_s_loader_is_restored(train):
    schemes = dict(CheckpointLoader._schemes)
    assert train()[0] == 0
    assert train(resume="absent.pth")[0] == 1
    assert CheckpointLoader._schemes == schemes


def test_hooks_can_be_switched_off_and_the_seed_left_to_chance(train, tmp_path):
    off = ["default_hooks.loss_guard=None", "default_hooks.unreadable_images=None"]
    status, out, err = train([*off, "randomness.seed=None"])
    assert status == 0, err
    assert "LossGuardHook" not in out and "TeacherHook" in out


def test_only_the_first_process_reports_a_common_error(train, monkeypatch):
    for name, value in (("RANK", "1"), ("WORLD_SIZE", "2"), ("LOCAL_RANK", "1")):
        monkeypatch.setenv(name, value)
    assert train(["train_cfg.max_epoch=3"], launcher="pytorch") == (1, "", "")
    monkeypatch.setenv("RANK", "0")
    _, _, err = train(["train_cfg.max_epoch=3"], launcher="pytorch")
    assert err.count("error: ") == 1


def test_a_missing_or_broken_config_is_reported(train, tmp_path):
    status, _, err = train(config=CONFIGS / "slotcon_r50_coko.py")
    assert status == 1
    assert "Did you mean slotcon_r50_coco.py?" in err
    (tmp_path / "broken.py").write_text("model = dict(\n")
    status, _, err = train(config=tmp_path / "broken.py")
    assert status == 1
    assert "cannot be read: SyntaxError" in err


def test_the_options_are_written_into_the_config(train, tmp_path, monkeypatch):
    class Stop(BaseException):
        pass

    def stop(cfg):
        seen.append(cfg)
        raise Stop

    seen = []
    monkeypatch.setattr(train_module.CheckedRunner, "from_cfg", stop)
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    with pytest.raises(Stop):
        train(compile=True, work_dir="elsewhere", deterministic=True)
    (cfg,) = seen
    assert cfg.model.compile is True
    assert cfg.work_dir == "elsewhere"
    assert cfg.randomness == {"seed": 0, "deterministic": True}


def test_the_work_dir_comes_from_the_environment_or_the_config_s_name(monkeypatch):
    monkeypatch.delenv("SLOTCON_WORK_DIR", raising=False)
    assert train_module.default_work_dir(DEMO) == "work_dirs/slotcon_r18_demo"
    monkeypatch.setenv("SLOTCON_WORK_DIR", "/big/results")
    assert train_module.default_work_dir(DEMO) == "/big/results"


@pytest.mark.parametrize("part", ["yapf.yapflib.yapf_api.FormatCode", "torch.save"])
def test_ctrl_c_at_any_moment_is_status_130(train, tmp_path, monkeypatch, part):
    """Also while MMEngine formats the config, which takes any exception for a syntax error."""

    def interrupt(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(part, interrupt)
    if part.startswith("yapf") and hasattr(mmengine_config, "FormatCode"):  # upstream's own name
        monkeypatch.setattr(mmengine_config, "FormatCode", interrupt)
    status, out, err = train()
    assert status == 130
    assert "stopped" in err and "Traceback" not in out + err and "error" not in err
