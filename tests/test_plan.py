"""Steps that are timed before a training, and the plan that is made of them."""

import pytest
import torch
from mmengine.config import Config
from tiny_training import write_images

from benchmarks.processes import DEMO
from benchmarks.small_benchmark import pretraining_options
from slotcon_plugin.apis.step_times import StepTimes, time_steps
from slotcon_plugin.runtime.config_options import read_config
from slotcon_plugin.runtime.fit_machine import fit_to_machine


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    return write_images(tmp_path_factory.mktemp("data") / "images")


@pytest.fixture
def cfg(images, tmp_path, monkeypatch) -> Config:
    """The small demo config, 3 iterations in each of its 2 epochs, adapted to a CPU."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    options = pretraining_options(images, tmp_path / "work")
    cfg = read_config(DEMO, [*options, "+randomness.seed=0"])
    fit_to_machine(cfg)
    return cfg


def test_steps_are_timed_beyond_the_end_of_a_short_training(cfg, tmp_path):
    text, left = cfg.pretty_text, []
    times = time_steps(cfg, steps=5, watch=lambda _, n: left.append(n))
    assert left == [6, 5, 4, 3, 2, 1, 0]  # 2 of the warm-up, without times
    assert len(times.seconds) == len(times.waiting) == 5 and min(times.seconds) > 0
    assert times.images == 4
    assert cfg.pretty_text == text and not list(tmp_path.iterdir())


def test_a_step_has_all_accumulated_iterations_and_the_time_is_limited(cfg):
    cfg.optim_wrapper.accumulative_counts = 3
    times = time_steps(cfg, max_seconds=0)
    assert len(times.seconds) == 1 and times.images == 12


def test_waiting_counts_with_its_mean_and_steps_with_their_median():
    times = StepTimes([1.0, 1.0, 1.0, 9.0], [0.0, 0.0, 0.0, 4.0], images=8)
    assert times.step == 2.0 and times.images_per_second == 4.0 and times.data_wait == 0.5
    assert StepTimes([1.0, 2.0, 3.0], [0.0] * 3, 1).spread == 0.25
