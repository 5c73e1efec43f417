"""Inverse augmentation: bring the common region of two views back onto one grid.

The published code resamples K score maps with RoIAlign. With one bilinear sample a bin, which is
what its adaptive sampling comes to here, a pixel of the grid is a mix of four pixels of the view,
the same for all maps, and a flip reverses the grid's columns. Resampling is linear and the scores
are linear in the pixels' directions, so that it may be done to the D channels of the directions or
to the K score maps, with the same result (METHOD facts a and b). The score maps are the cheaper
ones: four multiplications a score, where scoring resampled directions anew takes D.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from .precision import full_precision
from .shapes import check_shapes


class ViewGeometry(NamedTuple):
    """Where the two views of each image lie relative to each other."""

    boxes: Tensor  # (v, b, 4) x1, y1, x2, y2 of the common region: fractions of the view as flipped
    flips: Tensor  # (v, b) bool: whether the view was flipped left to right


class Alignment(NamedTuple):
    """Each pixel of the grid that two views share as a mix of four pixels of one of them."""

    index: Tensor  # (b, p, 4) int64, the view's pixels in rows, in [0, p)
    weight: Tensor  # (b, p, 4) their shares: they add up to 1, or to 0 for an empty box


def interpolate_axis(start_b: Tensor, stop_b: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Resample an axis on an interval, bilinearly at the centers of its bins.

    Args:
        start_b, stop_b: (b,) fractions of the axis, 0-1. An interval with stop <= start is empty:
            its weights are 0.
        size: pixels on the axis, and bins.

    Returns:
        For each bin its two pixels, (b, size, 2) int64, and their weights, (b, size, 2). Equal to
        `torchvision.ops.roi_align` with `aligned=True`: a pixel's center lies half a pixel in, and
        a bin center beyond the outermost pixel centers takes their value.
    """
    grid = torch.arange(size, device=start_b.device, dtype=start_b.dtype)
    step_b1 = (stop_b - start_b)[:, None]  # a bin's width, in pixels: as many bins as pixels
    center_bi = (size * start_b[:, None] - 0.5 + (grid + 0.5) * step_b1).clamp(0, size - 1)
    low_bi = center_bi.floor().nan_to_num(0)  # a box that is not a number stays so in its weights
    share_bi = center_bi - low_bi
    index_bi2 = torch.stack([low_bi, (low_bi + 1).clamp(max=size - 1)], dim=2).long()
    weight_bi2 = torch.stack([1 - share_bi, share_bi], dim=2)
    return index_bi2, weight_bi2 * (step_b1 > 0)[:, :, None]


@full_precision
def align(boxes_b4: Tensor, flips_b: Tensor, height: int, width: int) -> Alignment:
    """How each image's common region fills the whole grid, with its flip undone.

    Args:
        boxes_b4: (b, 4) x1, y1, x2, y2 of the common region, fractions of a view after its flip,
            0-1.
        flips_b: (b,) bool, whether this view was flipped.
        height, width: pixels of the view's maps, and of the grid; p is their product.

    Returns:
        The alignment. An empty box has weights of 0, as RoIAlign gives zeros: scores that favor no
        prototype.
    """
    check_shapes(boxes_b4=boxes_b4, flips_b=flips_b)
    x1, y1, x2, y2 = boxes_b4.unbind(dim=1)
    rows_biy, row_weights_biy = interpolate_axis(y1, y2, height)
    columns_bjx, column_weights_bjx = (
        torch.where(flips_b[:, None, None], part.flip(1), part)
        for part in interpolate_axis(x1, x2, width)
    )
    index_bijyx = width * rows_biy[:, :, None, :, None] + columns_bjx[:, None, :, None, :]
    weight_bijyx = row_weights_biy[:, :, None, :, None] * column_weights_bjx[:, None, :, None, :]
    return Alignment(*(t.flatten(3).flatten(1, 2) for t in (index_bijyx, weight_bijyx)))


def resample(maps_bpk: Tensor, index_bp4: Tensor, weight_bp4: Tensor) -> Tensor:
    """Mix pixels (b, p, k) of a view into those of the grid, (b, p, k); weights of their dtype."""
    check_shapes(maps_bpk=maps_bpk, index_bp4=index_bp4, weight_bp4=weight_bp4)
    source_n4 = _in_batch(index_bp4).flatten(0, 1)
    weight_n4 = weight_bp4.flatten(0, 1)
    mixed_nk = F.embedding_bag(
        source_n4, maps_bpk.flatten(0, 1), per_sample_weights=weight_n4, mode="sum"
    )
    return mixed_nk.view(maps_bpk.shape)


def resample_back(gradient_bpk: Tensor, index_bp4: Tensor, weight_bp4: Tensor) -> Tensor:
    """The gradient (b, p, k) of what `resample` mixed, of that of its result, (b, p, k)."""
    check_shapes(gradient_bpk=gradient_bpk, index_bp4=index_bp4, weight_bp4=weight_bp4)
    source, order = _in_batch(index_bp4).flatten().sort(stable=True)
    pixels = torch.arange(index_bp4.shape[:2].numel(), device=source.device)
    spread_nk = F.embedding_bag(
        order // 4,  # the grid's pixels, in the order of the view's pixels that they were mixed of
        gradient_bpk.flatten(0, 1),
        torch.searchsorted(source, pixels),
        per_sample_weights=weight_bp4.flatten()[order],
        mode="sum",
    )
    return spread_nk.view(gradient_bpk.shape)


def _in_batch(index_bp4: Tensor) -> Tensor:
    """Pixels of each image as pixels of the batch."""
    b, p, _ = index_bp4.shape
    return index_bp4 + p * torch.arange(b, device=index_bp4.device)[:, None, None]
