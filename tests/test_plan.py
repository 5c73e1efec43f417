"""Steps that are timed before a training, and the plan that is made of them."""

import json

import pytest
import torch
from mmengine.config import Config
from mmengine.runner import Runner
from tiny_training import assert_same, write_images

from benchmarks.processes import DEMO, ROOT
from benchmarks.small_benchmark import (
    pretraining_options,
    small_benchmark,
    write_benchmark,
    write_mini,
)
from slotcon_plugin.apis import plan as plan_module
from slotcon_plugin.apis.plan import plan
from slotcon_plugin.apis.step_times import StepTimes, time_steps
from slotcon_plugin.benchmark.job_states import State
from slotcon_plugin.benchmark.planner import Planner
from slotcon_plugin.benchmark.protocols import Protocols
from slotcon_plugin.benchmark.schema import read_benchmark
from slotcon_plugin.benchmark.timed_jobs import time_jobs
from slotcon_plugin.errors import SlotConError
from slotcon_plugin.hooks import diagnostics_hook
from slotcon_plugin.models import training_cost
from slotcon_plugin.runtime.config_options import read_config
from slotcon_plugin.runtime.device_peaks import peak_flops
from slotcon_plugin.runtime.fit_machine import fit_to_machine
from slotcon_plugin.runtime.scalars import read_curves


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
    assert StepTimes([1.0], [0.0], 1).spread is None


def small_plan(images, folder, monkeypatch, more=(), **options) -> dict:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    options = dict(steps=2, out=folder / "plan.json") | options
    return plan(DEMO, cfg_options=[*pretraining_options(images, folder / "work"), *more], **options)


def test_the_plan_of_a_training_on_more_processes(images, tmp_path, monkeypatch, capsys):
    found = small_plan(images, tmp_path, monkeypatch, gpus=3)
    assert found == json.loads((tmp_path / "plan.json").read_text())
    assert [path.name for path in tmp_path.iterdir()] == ["plan.json"]
    assert found["images_seen"] == 2 * 1 * 12  # epochs x steps x images of a step
    assert found["seconds_alone"] == pytest.approx(24 / found["images_per_second"])
    assert found["seconds"] == pytest.approx(found["seconds_alone"] / 3)
    assert found["flops_per_image"] > 0 and found["mfu"] is None
    printed = capsys.readouterr().out
    for words in (
        *("12 = 3 processes x 4 images", "2 epochs of 1 iterations: 2 steps, 24 images seen"),
        *("2 steps of 4 images on this CPU", "with 3 such machines: 3 times as fast"),
        *("communication not measured", "cannot be known from a CPU", "GFLOP an image"),
        *("estimated", "resident memory", "waiting for images", "checkpoints of about"),
    ):
        assert words in printed


def test_a_plan_with_a_budget(images, tmp_path, monkeypatch, capsys):
    options = [one for one in pretraining_options(images, tmp_path) if "max_epochs" not in one]
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert plan(DEMO, budget="3epochs", steps=1, cfg_options=options)["images_seen"] == 3 * 12
    printed = capsys.readouterr().out
    assert "s each, ± not known from one step" in printed and "± 0%" not in printed


def test_too_little_memory_is_said_and_a_smaller_batch_is_timed(
    images, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(training_cost, "_free_memory", lambda device, weights: 2 * weights + 2**22)
    found = small_plan(images, tmp_path, monkeypatch, ["train_dataloader.batch_size=12"])
    printed = capsys.readouterr().out
    batch = found["timed_batch_size"]
    assert 2 <= batch < 12 == found["batch_size"]
    assert f"NOT ENOUGH; use train_dataloader.batch_size={batch}" in printed
    assert f"{batch} instead of 12 images" in printed


def test_ctrl_c_gives_the_plan_of_the_steps_so_far(images, tmp_path, monkeypatch, capsys):
    def interrupted(cfg, start, steps, max_seconds, watch):
        def stop(times: StepTimes, left: int) -> None:
            watch(times, left)
            if len(times.seconds) == 3:
                raise KeyboardInterrupt

        return time_steps(cfg, start, steps, max_seconds, stop)

    monkeypatch.setattr(plan_module, "time_steps", interrupted)
    assert small_plan(images, tmp_path, monkeypatch, steps=9)["timed_steps"] == 3
    assert "3 steps (not 9" in capsys.readouterr().out


def test_images_of_a_preset_that_are_not_there_are_made(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(plan_module, "MADE_IMAGES", 4)
    monkeypatch.setitem(plan_module.PRESETS, "coco", (["train2017"], 40))
    more = ["+train_dataloader.dataset.preset=coco"]
    found = small_plan(tmp_path / "absent", tmp_path, monkeypatch, more)
    assert found["images_seen"] == 2 * 10 * 4
    printed = capsys.readouterr().out
    assert f"{tmp_path / 'absent'} is not there: 4 made images of 640 x 480 pixels" in printed


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(gpus=0), "--gpus is 0, expected a whole number from 1"),
        (dict(steps=1.5), "--steps is 1.5"),
        (dict(max_minutes=-1), "--max-minutes is -1"),
        (dict(out="/"), "--out / is a folder"),
        (dict(gpus=13), "fewer than one batch of 4 for each of 13 processes"),
    ],
)
def test_wrong_options_of_a_plan(options, message, images, tmp_path, monkeypatch):
    with pytest.raises(SlotConError, match=message):
        small_plan(images, tmp_path, monkeypatch, **options)


def test_logs_have_speed_and_use_of_the_peak_and_training_is_the_same(cfg, monkeypatch, tmp_path):
    def trained(name: str) -> tuple[dict, dict, str]:
        folder = tmp_path / name
        cfg.work_dir, cfg.experiment_name = str(folder), name
        runner = Runner.from_cfg(cfg)
        runner.train()
        log = next(folder.glob("*/*.log")).read_text()
        return read_curves(folder), dict(runner.model.state_dict()), log

    plain, weights, _ = trained("plain")
    assert "mfu" not in plain  # a CPU has no known peak
    assert len(plain["images_per_second"]) == 6
    monkeypatch.setattr(diagnostics_hook, "peak_flops", lambda device, precision: 1e12)
    monkeypatch.setattr(training_cost, "_free_memory", lambda device, weights: 1)
    found, same, log = trained("estimated")
    assert all(0 < value < 1 for _, value in found["mfu"]) and len(found["mfu"]) == 6
    assert found["loss"] == plain["loss"]
    assert_same(weights, same)
    assert "memory: " in log and "NOT ENOUGH; use a smaller model" in log


@pytest.mark.parametrize(
    ("device", "precision", "tera"),
    [
        ("NVIDIA A100-SXM4-80GB", "bfloat16", 312),
        ("NVIDIA A100-SXM4-80GB", "float32", 156),
        ("NVIDIA A10G", "float16", None),  # another GPU than an A10
        ("NVIDIA H100 80GB HBM3", "float16", 989),
        ("NVIDIA H100 PCIe", "bfloat16", 756),
        ("NVIDIA H200", "float32", 494),
        ("NVIDIA H200 NVL", "float32", 417),
        ("NVIDIA A100-SXM4-40GB MIG 1g.5gb", "bfloat16", None),
        ("NVIDIA GeForce RTX 3090 Ti", "float16", None),
        ("Tesla V100-SXM2-32GB", "float16", 125),
        ("Tesla V100-PCIE-16GB", "float16", 112),
        ("Tesla V100-SXM2-32GB", "bfloat16", None),
        ("NVIDIA L40S", "float16", 362),
        ("NVIDIA L4", "float16", 121),
        ("NVIDIA GeForce RTX 4090", "float16", 165.2),
        ("CPU", "float32", None),
    ],
)
def test_peaks_of_gpus(device, precision, tera):
    assert peak_flops(device, precision) == (tera and tera * 1e12)


def test_the_plan_of_a_benchmark_times_each_kind_of_training_once(tmp_path, capsys):
    content = small_benchmark(write_mini(tmp_path / "data"), tmp_path / "out")
    content["pretrainings"]["tiny"]["seeds"] = [0, 1]
    content["transfers"]["coco"]["gpus"] = 2
    benchmark = read_benchmark(write_benchmark(tmp_path / "b.yaml", content))
    jobs = Planner(benchmark, ROOT, Protocols(ROOT)).plan().jobs
    jobs = [job for job in jobs if ".voc." not in job.name]
    waiting = {job.name: State("waiting", 0.0, None, None) for job in jobs}
    states = time_jobs(jobs, waiting, ROOT, max_minutes=0.05)
    known = {name for name, state in states.items() if state.seconds_left}
    printed = capsys.readouterr().out
    assert known == {"pretrain.tiny.s0", "pretrain.tiny.s1"}, printed
    assert printed.count("timing steps of pretrain") == 1 and "on 1 x CPU" in printed
    assert "timing steps of transfer.tiny.s0.coco.s0\n  not timed: there is no GPU" in printed
