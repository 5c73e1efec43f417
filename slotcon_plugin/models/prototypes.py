"""The prototypes: the weights that pixels are compared with."""

import torch
from torch import Tensor, nn

from ..functional.checks import check_integers, check_numbers
from ..functional.grouping import Grouping, active_slots, prototype_scores, unit_directions


class Prototypes(nn.Module):
    """K learnable directions in feature space, initialized from a standard normal distribution.

    Args:
        num_prototypes: K, at least 2; 256 on COCO and COCO+, 2048 on ImageNet-1K.
        channels: d, at least 1.
        temperature: τ of the attention that pools slots, positive.
    """

    def __init__(
        self, num_prototypes: int = 256, channels: int = 256, temperature: float = 0.07
    ) -> None:
        super().__init__()
        check_integers(2, num_prototypes=num_prototypes)
        check_integers(1, channels=channels)
        check_numbers("(0, inf)", temperature=temperature)
        self.temperature = temperature
        self.weight = nn.Parameter(torch.randn(num_prototypes, channels))

    def forward(self, features_bdhw: Tensor) -> Grouping:
        """Group the projected pixels (b, d, h, w) of one view."""
        directions_bdhw = unit_directions(features_bdhw)
        scores_bkhw = prototype_scores(directions_bdhw, self.weight)
        active = active_slots(scores_bkhw)
        return Grouping(features_bdhw, directions_bdhw, scores_bkhw, self.temperature, active)
