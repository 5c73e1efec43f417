"""Bytes that real gloo processes send in a step, ours and plain."""

import torch
import torch.distributed as dist

from benchmarks import plain_exchange
from benchmarks.measuring import CountTraffic
from benchmarks.processes import run_processes
from benchmarks.speed_step import SlotsThemselves, Step
from slotcon_plugin import reference as plain


def exchange(
    num_prototypes: list[int], batch: int, size: int = 7, processes: int = 2
) -> dict[int, dict]:
    """What process 0 sent and computed, for each number of prototypes.

    Returns:
        {k: {"ours": bytes, "plain": bytes, "loss_ours": [..], "loss_plain": [..], "center_error":
        float}}; losses of the two directions.
    """
    return run_processes(_all_steps, processes, num_prototypes, batch, size)[0]


def _all_steps(rank: int, num_prototypes: list[int], batch: int, size: int) -> dict[int, dict]:
    return {k: _one_step(Step(k, batch, size=size, seed=rank)) for k in num_prototypes}


@torch.no_grad()
def _one_step(step: Step) -> dict:
    """Losses, center and logged values: all that a step sends except the networks' gradients."""
    # Seeds differ, so that each process has other images; all use the weights of rank 0.
    weights = (step.model.head.prototypes.weight, step.model.teacher.prototypes.weight)
    for weight in weights:
        dist.broadcast(weight.data, 0)
    with CountTraffic() as ours:
        result = step.model.loss(step.views, step.geometry)
    center = torch.zeros_like(step.model.head.group_loss.center)
    mine = plain.Projected(step.views, step.views, *step.geometry)
    with CountTraffic() as plainly:
        losses = plain_exchange.slot_losses(mine, *weights, SlotsThemselves(), plain.Settings())
        scores = [plain.score_maps(view, weights[1]) for view in step.views]
        center = plain_exchange.moved_center(scores, center, 0.9)
    return {
        "ours": ours.total,
        "plain": plainly.total,
        "loss_ours": float(result["loss_slot"]),
        "loss_plain": float(0.5 * losses.sum()),
        "center_error": float((step.model.head.group_loss.center - center).abs().max()),
    }
