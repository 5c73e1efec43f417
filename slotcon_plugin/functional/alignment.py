"""Inverse augmentation: resample the common region of two views to one grid of pixels.

Equal to RoIAlign with one bilinear sample per bin and a flip: a resampled pixel is a mix of four
pixels of the view, the same for all score maps. See docs/method.md, "Alignment commutes with
scoring" and "Separable resampling".
"""

from typing import NamedTuple

import torch
from torch import Tensor

from .checks import check_shapes
from .precision import full_precision


class ViewGeometry(NamedTuple):
    """The common region of the two views of each image, and the views' flips."""

    boxes: Tensor  # (v, b, 4) x1, y1, x2, y2 of the region, fractions 0-1 of the view as flipped
    flips: Tensor  # (v, b) bool: whether the view was flipped left to right


class Alignment(NamedTuple):
    """Each pixel of the common grid as a mix of four pixels of a view."""

    index: Tensor  # (b, p, 4) int64, the view's pixels, numbered row by row, in [0, p)
    weight: Tensor  # (b, p, 4) their shares: they sum to 1, or to 0 for an empty box


def interpolate_axis(start_b: Tensor, stop_b: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """The two pixels of each bin of an interval, (b, size, 2) int64, and their weights.

    As `torchvision.ops.roi_align` with `aligned=True`: bilinear at the bin's center, the center of
    pixel i is at i + 1/2, and a bin center beyond the outermost pixel centers gets their value.
    There are as many bins as pixels on the axis. An interval is given in fractions of the axis,
    0-1; weights are 0 where stop <= start.
    """
    grid = torch.arange(size, device=start_b.device, dtype=start_b.dtype)
    step_b1 = (stop_b - start_b)[:, None]  # a bin's width, in pixels: as many bins as pixels
    center_bi = (size * start_b[:, None] - 0.5 + (grid + 0.5) * step_b1).clamp(0, size - 1)
    low_bi = center_bi.floor().nan_to_num(0)  # NaN in a box gives NaN weights, but a valid index
    share_bi = center_bi - low_bi
    index_bi2 = torch.stack([low_bi, (low_bi + 1).clamp(max=size - 1)], dim=2).long()
    weight_bi2 = torch.stack([1 - share_bi, share_bi], dim=2)
    return index_bi2, weight_bi2 * (step_b1 > 0)[:, :, None]


@full_precision
def align(boxes_b4: Tensor, flips_b: Tensor, height: int, width: int) -> Alignment:
    """The alignment that resamples each image's common region and undoes its flip.

    Boxes and flips are of one view, see `ViewGeometry`; height and width in pixels are those of its
    maps and of the grid.
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
