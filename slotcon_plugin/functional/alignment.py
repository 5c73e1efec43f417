"""Inverse augmentation: bring the common region of two views back onto one grid.

The published code resamples K score maps with RoIAlign. With one bilinear sample a bin, which is
what its adaptive sampling comes to here, an axis-aligned box separates into one small interpolation
matrix per axis, and a flip reverses the rows of one of them; together they are one matrix a
picture. Resampling is linear and the scores are linear in the pixels' directions, so that it may be
done to the D channels of the directions or to the K score maps, with the same result (METHOD facts
a and b). With a matrix, the score maps are the cheaper ones up to D pixels: h · w multiplications a
score, 49 in the recipes, where scoring resampled directions anew takes D, 256.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from .precision import full_precision
from .shapes import check_shapes


class ViewGeometry(NamedTuple):
    """Where the two views of each picture lie relative to each other."""

    boxes: Tensor  # (v, b, 4) x1, y1, x2, y2 of the common region: fractions of the view as flipped
    flips: Tensor  # (v, b) bool: whether the view was flipped left to right


def interpolation_matrix(start_b: Tensor, stop_b: Tensor, size: int) -> Tensor:
    """Weights that resample an axis on an interval, bilinearly at the centres of its bins.

    Args:
        start_b, stop_b: (b,) fractions of the axis, 0-1. An interval with stop <= start is empty:
            its weights are 0.
        size: pixels on the axis, and bins.

    Returns:
        (b, size, size) weights; rows are bins, columns are pixels. Equal to
        `torchvision.ops.roi_align` with `aligned=True`: a pixel's centre lies half a pixel in, and
        a bin centre beyond the outermost pixel centres takes their value.
    """
    grid = torch.arange(size, device=start_b.device, dtype=start_b.dtype)
    step_b1 = (stop_b - start_b)[:, None]  # a bin's width, in pixels
    centre_bi = (size * start_b[:, None] - 0.5 + (grid + 0.5) * step_b1).clamp(0, size - 1)
    weights_bij = (1 - (centre_bi[:, :, None] - grid).abs()).clamp(min=0)  # hats round the centres
    return weights_bij * (step_b1 > 0)[:, :, None]


@full_precision
def alignment_matrix(boxes_b4: Tensor, flips_b: Tensor, height: int, width: int) -> Tensor:
    """Weights that resample each picture's common region to the whole grid and undo its flip.

    Args:
        boxes_b4: (b, 4) x1, y1, x2, y2 of the common region, fractions of a view after its flip,
            0-1.
        flips_b: (b,) bool, whether this view was flipped.
        height, width: pixels of the view's maps, and of the grid.

    Returns:
        (b, p, p) weights, p = height · width; rows are pixels of the grid, columns of the view.
        Zeros for an empty box, as RoIAlign gives: scores that favour no prototype.
    """
    check_shapes(boxes_b4=boxes_b4, flips_b=flips_b)
    x1, y1, x2, y2 = boxes_b4.unbind(dim=1)
    rows_biy = interpolation_matrix(y1, y2, height)
    columns_bjx = interpolation_matrix(x1, x2, width)
    columns_bjx = torch.where(flips_b[:, None, None], columns_bjx.flip(1), columns_bjx)
    return torch.einsum("biy,bjx->bijyx", rows_biy, columns_bjx).flatten(3).flatten(1, 2)
