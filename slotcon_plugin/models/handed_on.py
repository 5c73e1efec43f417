"""The encoder that a pretraining hands on, of SlotCon or of another method."""

import torch
from torch import Tensor, nn


def handed_on(model: nn.Module) -> nn.Module:
    """The encoder that exports and evaluations read from the checkpoints of a pretraining.

    It is the teacher's, of SlotCon. Of another method it is the `backbone`, which gradients train,
    also if the method has a momentum encoder, as MoCo and BYOL have.
    """
    return getattr(getattr(model, "teacher", None), "backbone", None) or model.backbone


@torch.no_grad()
def last_map(model: nn.Module, images_b3hw: Tensor) -> Tensor:
    """The last map (b, c, h, w) of that encoder, of normalized images."""
    maps = handed_on(model)(images_b3hw)
    return maps if isinstance(maps, Tensor) else maps[-1]
