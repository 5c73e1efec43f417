"""Trainings small enough for tests: images drawn here, commands run and compared."""

import importlib.util
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from benchmarks.processes import ROOT, run_processes, start


def load_tool(name: str, monkeypatch):
    """A tool as a module, whose `parse_args(argv)` can be called in this process."""
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


def train_apart(processes: int, config: Path, **settings: object) -> str:
    """`apis.train` on the CPU in other processes; the output of the first.

    Unlike a start of tools/train.py, they do not import the libraries again.
    """
    return run_processes(_train, processes, config, settings, connect=False)[0]


def _train(rank: int, config: Path, settings: dict) -> str:
    from slotcon_plugin.apis.train import train

    torch.cuda.is_available = lambda: False
    with redirect_stdout(StringIO()) as printed:
        train(config, **settings)
    return printed.getvalue()


def start_training(*arguments: str | Path) -> subprocess.Popen:
    """Start tools/train.py."""
    return start(sys.executable, ROOT / "tools" / "train.py", *arguments)


def wait_for(condition: Callable[[], object], process: subprocess.Popen, seconds: float = 300):
    """Wait until a condition is true; fail if the process ends before."""
    end = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, process.stdout.read()
        assert time.monotonic() < end, f"not true after {seconds} s"
        time.sleep(0.02)


def finish(process: subprocess.Popen, seconds: float = 240) -> str:
    """Wait for a command that must succeed; its output."""
    output, _ = process.communicate(timeout=seconds)
    last = "\n".join(output.splitlines()[-60:])  # a failure is reported at the end
    assert process.returncode == 0, f"exit status {process.returncode}\n{last}"
    return output


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
