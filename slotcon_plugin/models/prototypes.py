"""The prototypes: the weights that pixels are compared with."""

import torch
from torch import Tensor, nn

from ..functional.grouping import Grouping, active_slots, prototype_scores, unit_directions


class Prototypes(nn.Module):
    """K learnable directions in feature space, started from a standard normal.

    Args:
        num_prototypes: K; 256 on COCO and COCO+, 2048 on ImageNet-1K.
        channels: d.
        temperature: τ of the attention that pools slots, the student's and the teacher's.
    """

    def __init__(
        self, num_prototypes: int = 256, channels: int = 256, temperature: float = 0.07
    ) -> None:
        super().__init__()
        if num_prototypes < 2:
            raise ValueError(f"num_prototypes is {num_prototypes}, expected at least 2.")
        self.temperature = temperature
        self.weight = nn.Parameter(torch.randn(num_prototypes, channels))

    def forward(self, features_bdhw: Tensor) -> Grouping:
        """Group the projected pixels (b, d, h, w) of one view."""
        directions_bdhw = unit_directions(features_bdhw)
        scores_bkhw = prototype_scores(directions_bdhw, self.weight)
        active = active_slots(scores_bkhw)
        return Grouping(features_bdhw, directions_bdhw, scores_bkhw, self.temperature, active)
