"""Pretraining needs torch, torchvision and mmengine, and imports no other library."""

import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

# Libraries that torch, torchvision and mmengine do not require.
FORBIDDEN = (
    "mmcv",
    "mmdet",
    "mmseg",
    "mmpretrain",
    "detectron2",
    "pycocotools",
    "skimage",
    "sklearn",
    "tabulate",
    "tqdm",
    "timm",
    "safetensors",
)

PROGRAM = """
import sys


class Without:
    def __init__(self, finder):
        self.finder = finder

    def __getattr__(self, name):
        return getattr(self.finder, name)

    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] not in {forbidden!r}:
            return self.finder.find_spec(name, path, target)


sys.meta_path[:] = map(Without, sys.meta_path)
"""

STEP = """
import torch
from mmengine.registry import MODELS, OPTIMIZERS

from benchmarks.small_benchmark import pretraining_options
from slotcon_plugin.functional.alignment import ViewGeometry
from slotcon_plugin.runtime.config_options import read_config

cfg = read_config("configs/pretrain/slotcon_r18_demo.py", pretraining_options("images", "work"))
model = MODELS.build(cfg.model)
model.init_weights()
optimizer = OPTIMIZERS.build(
    dict(type="SlotConLARS", lr=0.1),
    default_args=dict(params=[p for p in model.parameters() if p.requires_grad]),
)
model.update_teacher(0, 10)
geometry = ViewGeometry(torch.tensor([0, 0, 1.0, 1.0]).expand(2, 2, 4), torch.zeros(2, 2) > 0)
losses = model([torch.randn(2, 3, 32, 32), torch.randn(2, 3, 32, 32)], geometry, mode="loss")
(losses["loss_group"] + losses["loss_slot"]).backward()
optimizer.step()
print("loss", float(losses["loss_group"] + losses["loss_slot"]))
"""


def run(program: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT)


def test_a_step_needs_neither_mmcv_nor_mmdet_nor_mmseg():
    done = run(PROGRAM.format(forbidden=FORBIDDEN) + STEP)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout.split()[-1]) > 0


def test_the_program_blocks_imports():
    for name in ("mmcv", "mmdet.models", "sklearn.cluster"):
        done = run(PROGRAM.format(forbidden=FORBIDDEN) + f"import {name}")
        assert "ModuleNotFoundError" in done.stderr


@pytest.mark.parametrize("name", ["SlotCon", "SlotConLARS", "WarmupCosineLR", "UnlabeledImages"])
def test_importing_the_package_registers_its_names(name):
    from mmengine import registry

    import slotcon_plugin.registry as ours

    (where,) = [key for key, parts in ours.NAMES.items() if name in {c.__name__ for c in parts}]
    assert where.get(name).__module__.startswith("slotcon_plugin.")
    assert where in vars(registry).values()  # MMEngine's own, where every library looks


def test_names_of_modules_are_unique_and_files_short():
    sources = list((ROOT / "slotcon_plugin").rglob("*.py"))
    names = Counter(path.stem for path in sources if path.stem != "__init__")
    assert [name for name, count in names.items() if count > 1] == []
    assert not names.keys() & {"utils", "util", "helpers", "misc", "common"}
    sources += [*(ROOT / "tools").glob("*.py"), *(ROOT / "configs").rglob("*.py")]
    lengths = {path.name: len(path.read_text(encoding="utf-8").splitlines()) for path in sources}
    assert {name: lines for name, lines in lengths.items() if lines > 300} == {}
