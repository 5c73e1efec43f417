"""Memory and arithmetic of a step, known before it is taken, against a step that is taken."""

from contextlib import nullcontext

import pytest
import torch
from mmengine.registry import MODELS
from tiny_training import assert_same
from tiny_weights import slotcon_config
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.measuring import peak_bytes
from benchmarks.plain_model import random_geometry
from slotcon_plugin.functional.alignment import ViewGeometry
from slotcon_plugin.models.step_cost import step_cost

BATCH, SIDE = 3, 64


def bfloat16():
    return torch.autocast("cpu", dtype=torch.bfloat16)


@pytest.mark.parametrize(("depth", "precision"), [(18, bfloat16), (50, nullcontext)])
def test_the_estimate_is_near_what_a_step_takes_and_changes_nothing(depth, precision):
    torch.manual_seed(0)
    model = MODELS.build(slotcon_config(depth)).train()
    model.expect_teacher_moves()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    random = torch.get_rng_state()
    cost = step_cost(model, BATCH, (SIDE, SIDE), precision)
    assert_same(before, dict(model.state_dict()))
    assert torch.equal(random, torch.get_rng_state())
    assert all(p.grad is None for p in model.parameters())

    def step():
        views = [torch.randn(BATCH, 3, SIDE, SIDE) for _ in range(2)]
        with precision():
            losses = model(views, ViewGeometry(*random_geometry(BATCH)), mode="loss")
        sum(value for name, value in losses.items() if "loss" in name).backward()
        model.zero_grad()

    with FlopCounterMode(display=False) as counted:
        step()
    assert cost.whole
    assert 0 <= cost.flops / counted.get_total_flops() - 1 < 0.02  # not every slot is active
    assert 0.8 < cost.memory / peak_bytes(step) < 1.2


def test_a_model_that_cannot_be_run_has_no_estimate():
    assert step_cost(torch.nn.Linear(3, 3), 2, (8, 8), nullcontext) is None
