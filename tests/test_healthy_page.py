"""docs/healthy.md explains every value that a pretraining logs, and no others; curves of them."""

import json
import re

import cv2
import numpy as np
import pytest
import torch
from mmengine.runner import Runner
from tiny_training import write_images

from benchmarks import learning_curves
from benchmarks.healthy_curves import PANELS, draw
from benchmarks.processes import DEMO, ROOT
from benchmarks.small_benchmark import pretraining_options
from slotcon_plugin.runtime.config_options import read_config
from slotcon_plugin.runtime.fit_machine import fit_to_machine
from slotcon_plugin.runtime.scalars import read_curves

ON_A_GPU = {"memory", "mfu"}
COUNTS = {"epoch", "iter", "step"}


@pytest.fixture(scope="module")
def work_dir(tmp_path_factory):
    """That of a pretraining on a CPU, beside its images."""
    root = tmp_path_factory.mktemp("healthy")
    cfg = read_config(DEMO, pretraining_options(write_images(root / "images", 8), root / "work"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.cuda, "is_available", lambda: False)
        fit_to_machine(cfg)
        Runner.from_cfg(cfg).train()
    return root / "work"


def test_every_logged_value_has_a_row(work_dir):
    (file,) = work_dir.glob("*/vis_data/scalars.json")
    logged = set().union(*map(json.loads, file.read_text().splitlines())) - COUNTS
    page = (ROOT / "docs" / "healthy.md").read_text(encoding="utf-8")
    table = page.partition("## Each value")[2].partition("\n## ")[0]
    rows = [
        re.findall(r"`([\w/]+)`", line.split("|")[1])
        for line in table.splitlines()
        if line[:3] == "| `"
    ]
    explained = [name for row in rows for name in row]
    assert len(explained) == len(set(explained))
    assert set(explained) - ON_A_GPU == logged

    curves = read_curves(work_dir)
    assert curves.keys() >= PANELS.keys()
    axes = draw({"tiny": curves, "empty": {}}).axes
    assert [axis.get_title() for axis in axes] == list(PANELS)
    assert all(len(axis.lines) == 1 for axis in axes)


def test_retrieval_of_each_checkpoint_is_drawn_beside_the_curves(work_dir, tmp_path):
    images, labels = work_dir.parent / "images", tmp_path / "labels"
    lists, paths = [tmp_path / "train.txt", tmp_path / "test.txt"], sorted(images.iterdir())
    labels.mkdir()
    for path in paths:
        brightness = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
        cv2.imwrite(str(labels / f"{path.stem}.png"), np.uint8(brightness > np.median(brightness)))
    for file, some in zip(lists, (paths[:6], paths[6:]), strict=True):
        file.write_text("\n".join(path.stem for path in some))
    arguments = [work_dir, "--images", images, "--labels", labels, "--labels-format", "index:2"]
    arguments += ["--train-list", lists[0], "--list", lists[1], "--size", 64]
    drawn = tmp_path / "figures" / "curves.png"
    learning_curves.main([*map(str, arguments), "--out", str(drawn)])
    scores = json.loads(drawn.with_suffix(".json").read_text())
    checkpoints = len([*work_dir.glob("epoch_*.pth")])
    assert scores["epoch"] == [*range(checkpoints + 1)]  # the first one is of random weights
    assert len(scores["miou"]) == len(scores["epoch"]) > 1
    assert drawn.stat().st_size > 10_000
