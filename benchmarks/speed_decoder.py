"""One level of a decoder, from its maps to losses and gradients, as a pair of (ours, plain)."""

import copy

import torch
from mmengine.registry import MODELS

from benchmarks.measuring import Pair
from benchmarks.plain_model import plain_losses, random_geometry
from benchmarks.speed_step import backward
from slotcon_plugin.functional.alignment import ViewGeometry

DIM = 256  # d, and the channels of the maps


def level_pair(
    batch: int,
    size: int,
    hidden: int,
    num_prototypes: int = 256,
    dim: int = DIM,
    device: str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> Pair:
    """Projector, prototypes, both losses and their gradients, of student and teacher.

    Ours has the projector that keeps one hidden map, the plain side the usual one. On a GPU both
    compute in bfloat16. The maps, (batch, dim, size, size) of each view, are normal noise.
    """
    torch.manual_seed(0)
    config = dict(
        type="SlotCon",
        backbone=dict(type="PixelsThemselves"),
        neck=dict(
            type="PixelProjector",
            in_channels=dim,
            hidden_channels=hidden,
            out_channels=dim,
            recompute=True,
        ),
        head=dict(
            type="PrototypeHead",
            prototypes=dict(type="Prototypes", num_prototypes=num_prototypes, channels=dim),
            group_loss=dict(type="GroupingLoss"),
            slot_loss=dict(type="SlotLoss"),
            predictor=dict(type="SlotPredictor", channels=dim, hidden_channels=hidden),
        ),
    )
    model = MODELS.build(config).to(device, dtype)
    model.expect_teacher_moves()
    plain_model = copy.deepcopy(model)
    plain_model.neck.recompute = plain_model.teacher.neck.recompute = False
    views = list(torch.randn(2, batch, dim, size, size, dtype=dtype).to(device))
    views = [view.requires_grad_() for view in views]
    boxes, flips = random_geometry(batch)
    geometry = ViewGeometry(boxes.to(device, dtype), flips.to(device))
    mixed = torch.autocast(device, torch.bfloat16, enabled=device == "cuda")

    def trained(net):
        return [*views, *(p for p in net.parameters() if p.requires_grad)]

    def ours():
        with mixed:
            losses = model.loss(views, geometry)
        total = losses["loss_group"] + losses["loss_slot"]
        return total, *backward(total, trained(model))

    def plainly():
        with mixed:
            (result,), center = plain_losses(plain_model, [(views, geometry)])
        plain_model.head.group_loss.center.copy_(center)
        return result.total, *backward(result.total, trained(plain_model))

    return ours, plainly
