"""The losses of `slotcon_plugin.reference`, with the networks and settings of a built model."""

from collections.abc import Callable

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
    results = [plain.losses(*level) for level in _levels(processes, head, teacher.prototypes)]
    return [losses for losses, _ in results], results[0][1]


def plain_level_losses(model: nn.Module, batches: list[tuple]) -> list[tuple]:
    """`plain.level_losses` of a SlotCon model with a decoder, for each process; see above.

    Returns:
        (total, [(losses, center after the step) of each level]) of each process.
    """
    networks = projector(model.parts), projector(model.teacher.parts)
    processes = [plain.project_levels(*networks, views, *geo) for views, geo in batches]
    heads = [level.head for level in model.levels]
    first = [model.teacher.prototypes] if model.head else []
    prototypes = [*first, *model.teacher.decoder_prototypes]
    levels = [
        _levels(projected, *weights)
        for *projected, weights in zip(*processes, zip(heads, prototypes, strict=True), strict=True)
    ]
    weight = model.encoder_loss_weight
    return [plain.level_losses(own, weight) for own in zip(*levels, strict=True)]


def projector(parts) -> Callable:
    """The function from images to the projected pixels of each level, by a model's `Parts`."""

    def run(images):
        maps = parts.backbone(images)
        encoder = [parts.neck(maps)] if parts.neck else []
        decoded = zip(parts.decoder_necks, parts.decoder(maps), strict=False)
        return encoder + [neck(map_bchw) for neck, map_bchw in decoded]

    return run


def _levels(processes: list, head: nn.Module, teacher_prototypes: nn.Module) -> list[tuple]:
    """The arguments of `plain.losses` for each process, of one level."""
    settings = plain.Settings(
        head.group_loss.student_temperature,
        head.group_loss.teacher_temperature,
        head.slot_loss.temperature,
        head.group_loss.center_momentum,
        head.group_loss_weight,
    )
    weights = head.prototypes.weight, teacher_prototypes.weight, head.predictor
    center = head.group_loss.center
    return [
        (own, *weights, center, settings, [other for other in processes if other is not own])
        for own in processes
    ]
