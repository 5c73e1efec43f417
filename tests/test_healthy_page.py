"""docs/healthy.md explains every value that a pretraining logs, and no others."""

import json
import re

import torch
from mmengine.runner import Runner
from tiny_training import write_images

from benchmarks.healthy_curves import PANELS, draw
from benchmarks.processes import DEMO, ROOT
from benchmarks.small_benchmark import pretraining_options
from slotcon_plugin.runtime.config_options import read_config
from slotcon_plugin.runtime.fit_machine import fit_to_machine
from slotcon_plugin.runtime.scalars import read_curves

ON_A_GPU = {"memory", "mfu"}
COUNTS = {"epoch", "iter", "step"}


def test_every_logged_value_has_a_row(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    options = pretraining_options(write_images(tmp_path / "images", count=8), tmp_path / "work")
    cfg = read_config(DEMO, options)
    fit_to_machine(cfg)
    Runner.from_cfg(cfg).train()
    (file,) = (tmp_path / "work").glob("*/vis_data/scalars.json")
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

    curves = read_curves(tmp_path / "work")
    assert curves.keys() >= PANELS.keys()
    axes = draw({"tiny": curves, "empty": {}}).axes
    assert [axis.get_title() for axis in axes] == list(PANELS)
    assert all(len(axis.lines) == 1 for axis in axes)
