"""Trainings small enough for tests: images drawn here, and the options that shrink a config."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import torch
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
CONFIGS = ROOT / "configs" / "pretrain"
DEMO = CONFIGS / "slotcon_r18_demo.py"


def load_tool(name: str, monkeypatch):
    """A tool as a module, whose `main(argv)` runs it in this process."""
    monkeypatch.syspath_prepend(ROOT / "tools")  # where Python looks first when it runs a tool
    spec = importlib.util.spec_from_file_location(name, ROOT / "tools" / f"{name}.py")
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    return tool


def write_images(folder: Path, count: int = 12) -> Path:
    """PNG images of 64 x 48 pixels: colored blocks, the same on every machine."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    for i in range(count):
        blocks = rng.integers(0, 256, (6, 8, 3), dtype=np.uint8)
        Image.fromarray(np.kron(blocks, np.ones((8, 8, 1), np.uint8))).save(folder / f"{i:03}.png")
    return folder


def tiny_options(images: Path, work_dir: Path, epochs: int = 2) -> list[str]:
    """--cfg-options that make the demo config a training of seconds: 32-pixel views, batch 4."""
    return [
        f"train_dataloader.dataset.source={images}",
        "train_dataloader.dataset.views.size=32",
        "train_dataloader.batch_size=4",
        "optim_wrapper.optimizer.lr=1.0",
        "auto_scale_lr.base_batch_size=32",
        "train_dataloader.num_workers=0",
        "model.backbone.num_stages=2",
        "model.teacher_momentum=0.99",
        "model.neck.in_channels=128",
        "model.neck.hidden_channels=16",
        "model.neck.out_channels=16",
        "model.head.prototypes.num_prototypes=8",
        "model.head.prototypes.channels=16",
        "model.head.predictor.channels=16",
        "model.head.predictor.hidden_channels=16",
        f"train_cfg.max_epochs={epochs}",
        "param_scheduler.warmup=1",
        "default_hooks.logger.interval=1",
        "default_hooks.checkpoint.interval=1",
        f"work_dir={work_dir}",
    ]


def environment() -> dict[str, str]:
    """The environment of a training on the CPU with one thread, whatever this machine has."""
    hidden = {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
    hidden["PYTHON"] = sys.executable  # for the shell launchers
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")]))
    return {**os.environ, **hidden, "PYTHONPATH": path}


def start(*command: str | Path) -> subprocess.Popen:
    """Start a command of the repository in a process group of its own; its output is one stream."""
    return subprocess.Popen(
        [str(word) for word in command],
        cwd=ROOT,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def finish(process: subprocess.Popen, seconds: float = 240) -> str:
    """Wait for a command that is to succeed; its output."""
    output, _ = process.communicate(timeout=seconds)
    last = "\n".join(output.splitlines()[-60:])  # a failure stands at the end
    assert process.returncode == 0, f"exit status {process.returncode}\n{last}"
    return output


def start_training(*arguments: str | Path) -> subprocess.Popen:
    """Start tools/train.py."""
    return start(sys.executable, ROOT / "tools" / "train.py", *arguments)


def assert_same(one: object, other: object, where: str = "checkpoint") -> None:
    """Every number of two nested states is the same, bit for bit."""
    if isinstance(one, torch.Tensor):
        assert torch.equal(one, other), f"{where} differs by up to {(one - other).abs().max()}"
    elif isinstance(one, dict):
        assert one.keys() == other.keys(), where
        for key in one:
            assert_same(one[key], other[key], f"{where}.{key}")
    elif isinstance(one, list | tuple):
        assert len(one) == len(other), where
        for i, pair in enumerate(zip(one, other, strict=True)):
            assert_same(*pair, f"{where}[{i}]")
    else:
        assert one == other, f"{where}: {one} and {other}"
