"""Two processes on a CPU train together through the launcher."""

import re

import torch
from tiny_training import finish, write_images

from benchmarks.processes import DEMO, ROOT, start
from benchmarks.small_benchmark import pretraining_options
from slotcon_plugin.runtime.safe_loading import load_checkpoint_safely


def test_two_processes_train_through_the_launcher(tmp_path):
    images = write_images(tmp_path / "images", count=16)  # 16 / (2 x 4): 2 steps an epoch
    options = pretraining_options(images, tmp_path / "work", epochs=2)
    process = start(ROOT / "tools" / "dist_train.sh", DEMO, 2, "--cfg-options", *options)
    output = finish(process)

    assert output.count("2 processes on CPUs: gloo, batch norm per process") == 1
    assert output.count("peak learning rate 0.25 = 1 x global batch 8 / 32") == 1
    steps = re.findall(r"Epoch\(train\) \[(\d)\]\[(\d)/2\]", output)
    assert steps == [("1", "1"), ("1", "2"), ("2", "1"), ("2", "2")]  # each logged once

    saved = load_checkpoint_safely(tmp_path / "work" / "epoch_2.pth")
    assert saved["meta"]["iter"] == 4
    assert not any(name.startswith("module.") for name in saved["state_dict"])
    assert all(torch.isfinite(t).all() for t in saved["state_dict"].values())
    assert len(list((tmp_path / "work").glob("*/*.log"))) >= 1
