"""FreezeHook: the encoder's weights are kept for the first epochs, the others are trained."""

import torch
from tiny_training import train_apart, write_images

from benchmarks.processes import DEMO
from benchmarks.small_benchmark import pretraining_options
from slotcon_plugin.runtime.safe_loading import load_checkpoint_safely


def test_the_encoder_is_trained_after_the_first_epoch(tmp_path):
    images = write_images(tmp_path / "images", count=8)
    options = pretraining_options(images, tmp_path / "work", epochs=2)
    options += ["+default_hooks.freeze.type=FreezeHook", "+default_hooks.freeze.epochs=1"]
    train_apart(1, DEMO, cfg_options=options)
    moved = {}
    for epoch in (1, 2):
        saved = load_checkpoint_safely(tmp_path / "work" / f"epoch_{epoch}.pth")["state_dict"]
        # The teacher starts equal to the student and follows it.
        moved[epoch] = {
            name.split(".")[0]
            for name in saved
            if f"teacher.{name}" in saved
            and not name.endswith(("running_mean", "running_var"))
            and not torch.equal(saved[name], saved[f"teacher.{name}"])
        }
    assert moved == {1: {"neck"}, 2: {"neck", "backbone"}}
