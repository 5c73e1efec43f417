"""The losses of `slotcon_plugin.reference`, with the networks and settings of a built model."""

import torch
from mmengine.registry import MODELS
from torch import nn

from slotcon_plugin import reference as plain
from slotcon_plugin.functional.alignment import ViewGeometry


@MODELS.register_module(force=True)
class LastMap(nn.Module):
    """A neck without weights: the last of the encoder's feature maps."""

    def forward(self, maps):
        return maps[-1]


def random_geometry(batch: int, seed: int = 0) -> ViewGeometry:
    """Random boxes of every size, and random flips."""
    g = torch.Generator().manual_seed(seed)
    corners = torch.rand(2, batch, 2, 2, generator=g, dtype=torch.float64).sort(dim=2).values
    return ViewGeometry(corners.flatten(2), torch.rand(2, batch, generator=g) < 0.5)


def plain_losses(model: nn.Module, batches: list[tuple]) -> tuple:
    """`plain.losses` of a SlotCon model.

    Args:
        model: its parameters receive the gradients; of its buffers only those of batch norms
            change.
        batches: (views, geometry) of each process.

    Returns:
        The losses of each process, and the center after the step.
    """
    head, teacher = model.head, model.teacher
    processes = [
        plain.project(
            lambda image: model.neck(model.backbone(image)),
            lambda image: teacher.neck(teacher.backbone(image)),
            views,
            *geometry,
        )
        for views, geometry in batches
    ]
    settings = plain.Settings(
        head.group_loss.student_temperature,
        head.group_loss.teacher_temperature,
        head.slot_loss.temperature,
        head.group_loss.center_momentum,
        head.group_loss_weight,
    )
    center = head.group_loss.center
    prototypes = head.prototypes.weight, teacher.prototypes.weight
    results = [
        plain.losses(process, *prototypes, head.predictor, center, settings, others)
        for process in processes
        for others in [[other for other in processes if other is not process]]
    ]
    return [losses for losses, _ in results], results[0][1]
