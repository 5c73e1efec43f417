"""A training that was killed and resumed ends where an uninterrupted one ends, bit for bit."""

import os
import signal

import pytest
from tiny_training import assert_same, finish, start_training, train_apart, write_images

from benchmarks.processes import CONFIGS, DEMO
from benchmarks.small_benchmark import decoder_options, pretraining_options
from slotcon_plugin.runtime.safe_loading import load_checkpoint_safely

EPOCHS = 4
COMPARED = ("state_dict", "optimizer", "param_schedulers")  # student, teacher, center; momentum; lr


def kill_within_epoch(process, epoch: int) -> None:
    """kill -9, with its loading workers, as soon as the epoch's second step is logged."""
    for line in process.stdout:
        if f"Epoch(train) [{epoch}][2/" in line:
            os.killpg(process.pid, signal.SIGKILL)
            break
    process.stdout.close()
    assert process.wait(timeout=60) == -signal.SIGKILL


def test_killed_and_resumed_equals_uninterrupted(tmp_path):
    images = write_images(tmp_path / "images", count=20)  # 5 steps an epoch

    def options(work_dir: str, workers: int) -> list[str]:
        tiny = pretraining_options(images, tmp_path / work_dir, epochs=EPOCHS)
        loading = [f"train_dataloader.num_workers={workers}"]
        loading += [f"train_dataloader.persistent_workers={workers > 0}"]
        return [*tiny, *loading, "default_hooks.checkpoint.max_keep_ckpts=-1"]

    killed = start_training(DEMO, "--cfg-options", *options("killed", workers=1))
    kill_within_epoch(killed, epoch=3)
    assert (tmp_path / "killed" / "epoch_2.pth").exists()
    assert not (tmp_path / "killed" / "epoch_3.pth").exists()

    output = finish(
        start_training(DEMO, "--resume", "--cfg-options", *options("killed", workers=1))
    )
    assert "epoch_2.pth, after epoch 2, iteration 10" in output
    train_apart(1, DEMO, cfg_options=options("whole", workers=0))

    for epoch in (3, EPOCHS):
        one, other = (
            load_checkpoint_safely(tmp_path / work_dir / f"epoch_{epoch}.pth")
            for work_dir in ("whole", "killed")
        )
        for part in COMPARED:
            assert_same(one[part], other[part], f"epoch {epoch}, {part}")
        assert one["meta"]["iter"] == other["meta"]["iter"] == 5 * epoch
    names = set(one["state_dict"])
    assert {"teacher.prototypes.weight", "head.prototypes.weight"} <= names
    assert any("center" in name for name in names)


def test_a_decoder_and_its_dropout_resume_bit_for_bit(tmp_path):
    """After kill -9 in the second epoch: all centers and teachers, too."""
    pytest.importorskip("mmdet")
    images, config = write_images(tmp_path / "images", count=20), CONFIGS / "decon_fpn_r18_demo.py"
    whole, killed = (
        decoder_options(images, tmp_path / work_dir, epochs=2) for work_dir in ("whole", "killed")
    )
    kill_within_epoch(start_training(config, "--cfg-options", *killed), epoch=2)
    assert not (tmp_path / "killed" / "epoch_2.pth").exists()
    output = finish(start_training(config, "--resume", "--cfg-options", *killed))
    assert "epoch_1.pth, after epoch 1, iteration 5" in output
    train_apart(1, config, cfg_options=whole)
    one, other = (
        load_checkpoint_safely(tmp_path / work_dir / "epoch_2.pth")
        for work_dir in ("whole", "killed")
    )
    for part in COMPARED:
        assert_same(one[part], other[part], part)
    assert {
        "decoder_heads.0.group_loss.center",
        "teacher.decoder.lateral_convs.0.conv.weight",
        "teacher.decoder_necks.0.mlp.1.running_mean",
        "teacher.decoder_prototypes.0.weight",
    } <= one["state_dict"].keys()
