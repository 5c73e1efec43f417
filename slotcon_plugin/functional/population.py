"""Mean and variance of a population that arrives in batches, per channel."""

import torch
from torch import Tensor

from .collectives import sum_over_processes


class PopulationMoments:
    """Mean and variance per channel over all values of all batches, of all processes.

    A batch counts by the number of its values, as in the population estimator of Wu and Johnson,
    "Rethinking Batch in BatchNorm" (arXiv 2105.07576), appendix. Sums are float64.
    """

    def __init__(self, channels: int, device: torch.device | str = "cpu") -> None:
        self.sums_3c = torch.zeros(3, channels, dtype=torch.float64, device=device)

    def add(self, values: Tensor) -> None:
        """Add a batch (b, c, ...) of any floating-point type; b may be 0."""
        channels, shape = self.sums_3c.shape[1], tuple(values.shape)
        if len(shape) < 2 or shape[1] != channels:
            raise ValueError(f"values have shape {shape}, expected (b, {channels}, ...).")
        count = values.numel() // channels
        if count == 0:
            return
        axes = [axis for axis in range(values.dim()) if axis != 1]
        moments = torch.var_mean(values.detach().float(), axes, correction=0)
        variance_c, mean_c = (moment.double() for moment in moments)
        ones_c = torch.ones_like(mean_c)
        self.sums_3c += count * torch.stack([ones_c, mean_c, variance_c + mean_c.square()])

    def result(self) -> tuple[Tensor, Tensor] | None:
        """Mean and biased variance, (c,) float64 each; None if there was no value.

        Every process must call this; all get the same result.
        """
        count_c, sum_c, square_sum_c = sum_over_processes(self.sums_3c)
        if not count_c.any():
            return None
        mean_c = sum_c / count_c
        return mean_c, (square_sum_c / count_c - mean_c.square()).clamp(min=0)
