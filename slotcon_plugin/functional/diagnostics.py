"""Figures that tell a healthy training from a collapsing one, as scalars on the device."""

import torch
from torch import Tensor

from .chunks import picture_chunks
from .precision import full_precision
from .shapes import check_shapes


@full_precision
def assignment_entropy(scores_bkhw: Tensor, temperature: float) -> Tensor:
    """Mean entropy of a pixel's assignment `softmax_k(s / τ)`, in nats: at most log k."""
    check_shapes(scores_bkhw=scores_bkhw)
    scores_bpk = scores_bkhw.flatten(2).transpose(1, 2)
    total = scores_bkhw.new_zeros(())
    for chunk in picture_chunks(scores_bpk):
        log_assignment = (scores_bpk[chunk] / temperature).log_softmax(dim=2)
        total -= (log_assignment.exp() * log_assignment).sum()
    return total / scores_bpk[..., 0].numel()


@full_precision
def feature_std(directions_bdhw: Tensor) -> Tensor:
    """Standard deviation of unit-length pixels over the batch, mean over channels, times √d.

    1 for directions spread evenly over the sphere, 0 when all pixels point the same way (Chen & He,
    CVPR 2021, fig. 2).
    """
    check_shapes(directions_bdhw=directions_bdhw)
    channels = directions_bdhw.shape[1]
    return directions_bdhw.transpose(0, 1).flatten(1).std(dim=1).mean() * channels**0.5


def share(mask: Tensor) -> Tensor:
    """Share of true entries, in [0, 1]."""
    return mask.to(torch.float32).mean()
