"""Frozen curves: 20 steps of the demo configs, shrunk, have the losses that they had.

A change that should not alter the result shows the same losses. One that should: look at both
curves, say so in the change, and freeze anew with

    PYTHONPATH=. python tests/test_loss_curve.py
"""

import json
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from mmengine.runner import Runner
from tiny_training import write_images

from benchmarks.processes import CONFIGS, DEMO
from benchmarks.small_benchmark import decoder_options, pretraining_options
from slotcon_plugin.runtime.config_options import read_config
from slotcon_plugin.runtime.fit_machine import fit_to_machine

FOLDER = Path(__file__).parent
CURVES = {
    "loss_curve.json": (DEMO, pretraining_options),
    "decon_loss_curve.json": (CONFIGS / "decon_fpn_r18_demo.py", decoder_options),
}


def run_curve(folder: Path, config: Path, options: Callable) -> dict[str, list[float]]:
    """Train 4 epochs of 5 steps on the CPU in one thread; the losses of each step."""
    images = write_images(folder / "images", count=20)
    cfg = read_config(config, options(images, folder / "work", epochs=4))
    fit_to_machine(cfg, precision="off")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        Runner.from_cfg(cfg).train()
    finally:
        torch.set_num_threads(threads)
    lines = next((folder / "work").rglob("scalars.json")).read_text().splitlines()
    steps = [json.loads(line) for line in lines]
    names = [name for name in steps[0] if name.startswith("loss_")]
    return {name: [step[name] for step in steps] for name in names}


@pytest.mark.parametrize("file", CURVES)
def test_the_losses_are_what_they_were(file, tmp_path, monkeypatch):
    if file != "loss_curve.json":
        pytest.importorskip("mmdet")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    frozen, now = json.loads((FOLDER / file).read_text()), run_curve(tmp_path, *CURVES[file])
    assert frozen.keys() == now.keys()
    for name in frozen:
        assert len(now[name]) == len(frozen[name]) == 20
        # Rounding differs between machines and grows with the steps; a change of the method is
        # seen well above it (1e-6 between instruction sets).
        assert now[name] == pytest.approx(frozen[name], rel=2e-5), name


if __name__ == "__main__":
    for name, run in CURVES.items():
        with tempfile.TemporaryDirectory() as scratch:
            curve = run_curve(Path(scratch), *run)
        (FOLDER / name).write_text(json.dumps(curve, indent=1) + "\n")
        print(f"wrote {FOLDER / name}")
