"""Trainings on one's own images: --data and --epochs."""

import pytest
from tiny_training import write_images

from benchmarks.processes import CONFIGS
from slotcon_plugin.apis.own_images import choose_epochs, choose_images
from slotcon_plugin.errors import ConfigError
from slotcon_plugin.runtime.config_options import read_config


def test_data_and_epochs_of_a_pretraining(run_tool, tmp_path):
    write_images(tmp_path / "images", count=40)
    (tmp_path / "list.txt").write_text("images/000.png\nimages/001.png\n")
    small = CONFIGS / "slotcon_r18_small.py"
    options = ("--dry-run", "--no-step", "--work-dir", tmp_path / "work", "--epochs", 3)
    status, out, err = run_tool("train", small, "--data", tmp_path / "images", *options)
    assert status == 0, err
    assert "images:        40\n" in out
    assert "3 epochs of 1 iterations" in out
    assert "warm-up of 0.6 epochs instead of 5: a fifth of 3" in out
    status, _, err = run_tool("train", small, "--data", tmp_path / "absent", *options)
    assert status == 1
    assert f"{tmp_path / 'absent'} does not exist" in err
    assert "DATA_ROOT" not in err  # the config's folder is not used

    cfg = read_config(CONFIGS / "slotcon_r50_cocoplus.py")
    choose_images(cfg, "the config", [tmp_path / "images", str(tmp_path / "list.txt")])
    dataset = cfg.train_dataloader.dataset
    assert (len(dataset.source), dataset.preset) == (2, None)
    assert not list(choose_epochs(cfg, "the config", 25))
    assert (cfg.train_cfg.max_epochs, cfg.param_scheduler.warmup) == (25, 5)


def test_data_and_epochs_are_for_pretrainings():
    cfg = read_config(CONFIGS.parent / "seg" / "fcn_r18_tiny.py")
    with pytest.raises(ConfigError, match=r"--data names the images of a pretraining, but fcn"):
        choose_images(cfg, "fcn", "images")
    with pytest.raises(ConfigError, match="fcn is trained for 100 iterations, not for epochs"):
        list(choose_epochs(cfg, "fcn", 3))
