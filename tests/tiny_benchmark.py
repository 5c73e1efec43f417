"""A benchmark small enough for tests: images drawn here, every job some seconds."""

import json
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import yaml
from tiny_training import CONFIGS, ROOT
from tiny_training import tiny_options as tiny_pretraining
from tiny_transfer import DET, SEG, tiny_options

TOOL = ROOT / "tools" / "benchmark.sh"
EPOCHS, ITERATIONS = 2, 2


def overrides(options: list[str]) -> dict:
    """--cfg-options as a benchmark file has them."""
    pairs = dict(option.split("=", 1) for option in options)
    return {key: yaml.safe_load(value) for key, value in pairs.items() if key != "work_dir"}


def tiny_benchmark(root: Path, work_dir: Path, interval: int | None = None) -> dict:
    """A benchmark of one pretraining and random weights by Mask R-CNN and FCN.

    Args:
        root: of `write_mini`.
        work_dir: where its results go.
        interval: iterations between two checkpoints of the transfers, which then are longer.
    """
    length = 3 * interval if interval else ITERATIONS
    # Four stages: the transfers want the whole ResNet-18
    stages = {"model.backbone.num_stages": 4, "model.neck.in_channels": 512}
    pretraining = overrides(tiny_pretraining(root / "images", work_dir, EPOCHS)) | stages
    transfers = {}
    for name, config, column in (("coco", DET, "coco"), ("voc", SEG, "voc")):
        changed = overrides(tiny_options(config, root, length))
        changed["default_hooks.checkpoint.interval"] = interval or ITERATIONS
        transfers[name] = dict(config=str(config), column=column, overrides=changed)
    transfers["voc"]["overrides"]["train_dataloader.dataset.pipeline.2.crop_size"] = 64
    demo = CONFIGS / "slotcon_r18_demo.py"
    return dict(
        title="tiny",
        work_dir=str(work_dir),
        references=False,
        pretrainings=dict(tiny=dict(config=str(demo), overrides=pretraining), random="random"),
        transfers=transfers,
    )


def write_benchmark(path: Path, content: dict) -> Path:
    """The file of a benchmark."""
    path.write_text(yaml.safe_dump(json.loads(json.dumps(content)), sort_keys=False))
    return path


def wait_for(condition: Callable[[], object], process: subprocess.Popen, seconds: float = 300):
    """Until something is there; fails if the process ends before."""
    end = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, process.stdout.read()
        assert time.monotonic() < end, "it took too long"
        time.sleep(0.02)
