"""Learning rate and teacher momentum: equal to the records, by hand, and under MMEngine."""

import json
import math
from pathlib import Path

import pytest
import torch
from mmengine.registry import PARAM_SCHEDULERS

from slotcon_plugin.functional.schedules import learning_rate, teacher_momentum
from slotcon_plugin.optim.lars import SlotConLARS

GOLDEN = Path(__file__).parent / "golden"
RECORDS = ["patch_1proc.json", "patch_2proc.json", "resnet18_1proc.json"]


@pytest.mark.parametrize("name", RECORDS)
def test_schedules_have_the_published_values(name):
    record = json.loads((GOLDEN / name).read_text())
    config = record["config"]
    iters = config["iters_per_epoch"]
    total, warmup = config["epochs"] * iters, config["warmup_epoch"] * iters
    for step in record["steps"]:
        k = step["step"]
        lr = learning_rate(k, total, warmup, config["lr"])
        momentum = teacher_momentum(k, total, config["teacher_momentum"])
        assert lr == pytest.approx(step["lr"], rel=1e-12)
        assert momentum == pytest.approx(step["teacher_momentum"], rel=1e-12)


def test_learning_rate_by_hand():
    """Peak 2, ten steps of warm-up of a hundred and ten: halves, ends, and the middle."""
    at = [learning_rate(k, 110, 10, peak=2.0, final=1.0) for k in range(111)]
    assert at[0] == 0.02
    assert at[5] == pytest.approx(1.01)
    assert at[10] == 2.0
    assert at[60] == pytest.approx(1.5)
    assert at[35] == pytest.approx(1 + (1 + math.sqrt(0.5)) / 2)
    assert at[110] == pytest.approx(1.0)
    assert at[:11] == sorted(at[:11])
    assert at[10:] == sorted(at[10:], reverse=True)


def test_learning_rate_without_warm_up_and_with_nothing_else():
    assert learning_rate(0, 10, 0, peak=3.0) == 3.0
    assert learning_rate(10, 10, 0, peak=3.0) == pytest.approx(1e-6)
    assert learning_rate(9, 10, 10, peak=1.0) == pytest.approx(0.01 + 0.99 * 0.9)
    assert learning_rate(10, 10, 10, peak=1.0) == 1.0  # no division by zero steps


def test_teacher_momentum_by_hand():
    at = [teacher_momentum(k, 100, base=0.9) for k in range(101)]
    assert at[0] == pytest.approx(0.9)
    assert at[50] == pytest.approx(0.95)
    assert at[100] == 1.0
    assert at == sorted(at)
    assert teacher_momentum(0, 1) == pytest.approx(0.99)
    assert {teacher_momentum(k, 7, base=1.0) for k in range(8)} == {1.0}


def optimizer_of(lr=2.0):
    params = [torch.nn.Parameter(torch.ones(1)) for _ in range(2)]
    return SlotConLARS([dict(params=params[:1]), dict(params=params[1:], lr=lr / 10)], lr=lr)


def run(optimizer, steps, **config):
    """The learning rates of both groups that the steps of a training see."""
    scheduler = PARAM_SCHEDULERS.build(
        dict(type="WarmupCosineLR", **config),
        default_args=dict(optimizer=optimizer, epoch_length=6),
    )
    seen = []
    for _ in range(steps):
        seen.append([group["lr"] for group in optimizer.param_groups])
        optimizer.step()
        scheduler.step()
    return seen, scheduler


@pytest.mark.parametrize(
    "config",
    [
        dict(warmup=2, end=5, by_epoch=True, convert_to_iter_based=True),
        dict(warmup=12, end=30, by_epoch=False),
    ],
    ids=["epochs", "iterations"],
)
def test_every_step_of_a_training_sees_the_formulas_value(config):
    seen, _ = run(optimizer_of(), 30, **config)
    for step, values in enumerate(seen):
        expected = [learning_rate(step, 30, 12, peak) for peak in (2.0, 0.2)]
        assert values == pytest.approx(expected, rel=1e-12)


def test_options_are_used():
    config = dict(warmup=1, end=3, by_epoch=True, convert_to_iter_based=True)
    seen, _ = run(optimizer_of(), 18, final=0.1, start_divisor=4, **config)
    expected = [learning_rate(k, 18, 6, 2.0, final=0.1, start_divisor=4) for k in range(18)]
    assert [group[0] for group in seen] == pytest.approx(expected)
    assert seen[0] == [0.5, 0.05]


def test_a_resumed_schedule_continues():
    config = dict(warmup=12, end=30, by_epoch=False)
    whole, _ = run(optimizer_of(), 30, **config)
    optimizer = optimizer_of()
    _, scheduler = run(optimizer, 17, **config)
    saved = scheduler.state_dict(), optimizer.state_dict()

    fresh = optimizer_of()
    resumed = PARAM_SCHEDULERS.build(
        dict(type="WarmupCosineLR", **config), default_args=dict(optimizer=fresh)
    )
    fresh.load_state_dict(saved[1])
    resumed.load_state_dict(saved[0])
    for expected in whole[17:]:
        assert [group["lr"] for group in fresh.param_groups] == expected
        fresh.step()
        resumed.step()


def test_lengths_are_epochs_unless_the_config_says_otherwise():
    """As in MMEngine, whose runner gives a schedule without `by_epoch` its end in epochs."""
    seen, scheduler = run(optimizer_of(), 5, warmup=2, end=5)
    assert scheduler.by_epoch
    assert [values[0] for values in seen] == pytest.approx(
        [learning_rate(epoch, 5, 2, 2.0) for epoch in range(5)]
    )


def test_a_warm_up_longer_than_the_training_is_refused():
    with pytest.raises(ValueError, match=r"warmup is 31, expected at most .* 30: shorten"):
        run(optimizer_of(), 1, warmup=31, end=30, by_epoch=False)
    with pytest.raises(ValueError, match=r"warmup is 186, expected at most .* 180: shorten"):
        run(optimizer_of(), 1, warmup=31, end=30, by_epoch=True, convert_to_iter_based=True)


@pytest.mark.parametrize("by_epoch", [True, False])
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("warmup", -1),
        ("warmup", "long"),
        ("final", -1e-6),
        ("start_divisor", 0),
        ("end", "never"),
    ],
)
def test_arguments_of_the_schedule_are_checked(name, value, by_epoch):
    options = dict(warmup=1, end=30, by_epoch=by_epoch, convert_to_iter_based=by_epoch)
    with pytest.raises(ValueError, match=f"{name} is {value!r}, expected a number in"):
        run(optimizer_of(), 1, **options | {name: value})
