"""Numbers that show whether training is healthy or collapsing, as scalars on the device."""

import torch
from torch import Tensor

from .checks import check_shapes
from .kernels import image_chunks, log_normalizer, pixel_rows
from .precision import full_precision


@full_precision
def assignment_entropy(scores_bkhw: Tensor, temperature: float) -> Tensor:
    """Mean entropy of a pixel's assignment `softmax_k(s / τ)`, in nats: at most log k."""
    check_shapes(scores_bkhw=scores_bkhw)
    scores_bpk = pixel_rows(scores_bkhw)
    total = scores_bkhw.new_zeros(())
    for chunk in image_chunks(scores_bpk):
        logits = scores_bpk[chunk] / temperature
        assignment = logits.softmax(dim=2)
        # -Σ a log a = log Σ exp(l) - Σ a l
        total += log_normalizer(logits, assignment).sum()
        total -= torch.dot(assignment.flatten(), logits.flatten())
    return total / scores_bpk[..., 0].numel()


@full_precision
def feature_std(*directions_bdhw: Tensor) -> Tensor:
    """Standard deviation of unit-length pixels over the batch, mean over channels, times √d.

    1 for directions spread evenly over the sphere, 0 when all pixels are equal (Chen & He, CVPR
    2021, fig. 2). The pixels are those of all arguments, such as two views.
    """
    for part in directions_bdhw:
        check_shapes(directions_bdhw=part)
    # By sums and sums of squares, a third of torch.std's time on a CPU. In float32, 0 becomes
    # 0.0005 at most; a value is called collapsed below a hundred times that.
    parts_nd = [part.permute(0, 2, 3, 1).flatten(0, 2) for part in directions_bdhw]
    pixels, channels = sum(map(len, parts_nd)), parts_nd[0].shape[1]
    mean_d = sum(part.sum(dim=0) for part in parts_nd) / pixels
    squares_d = sum(part.norm(dim=0).square() for part in parts_nd)
    variance_d = (squares_d - pixels * mean_d.square()).clamp(min=0) / (pixels - 1)
    return variance_d.sqrt().mean() * channels**0.5
