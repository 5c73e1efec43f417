"""From small maps of scores to one class per pixel, and from labels to shares of classes."""

import torch
import torch.nn.functional as F
from torch import Tensor

from .checks import check_shapes


def upsampled_argmax(maps_bkhw: Tensor, height: int, width: int, chunk: int = 64) -> Tensor:
    """The best map of each pixel, see `upsampled_best`: (b, height, width) int64 in [0, k)."""
    return upsampled_best(maps_bkhw, height, width, chunk)[1]


def upsampled_best(
    maps_bkhw: Tensor, height: int, width: int, chunk: int = 64
) -> tuple[Tensor, Tensor]:
    """Resample score maps bilinearly (align_corners False) and take the best of each pixel.

    `chunk` maps are upsampled at a time. Returns the best score of each pixel, (b, height, width)
    float32, and its map, int64 in [0, k).
    """
    check_shapes(maps_bkhw=maps_bkhw)
    best = maps_bkhw.new_full((len(maps_bkhw), height, width), -torch.inf, dtype=torch.float32)
    winner = torch.zeros_like(best, dtype=torch.int64)
    for start in range(0, maps_bkhw.shape[1], chunk):
        part = maps_bkhw[:, start : start + chunk].float()
        part = F.interpolate(part, (height, width), mode="bilinear", align_corners=False)
        value, index = part.max(dim=1)
        winner = torch.where(value > best, index + start, winner)
        best = torch.maximum(value, best)
    return best, winner


def label_shares(labels_byx: Tensor, height: int, width: int, num_classes: int) -> Tensor:
    """Share of each class among the labeled pixels of each cell of a grid of `height` x `width`.

    Args:
        labels_byx: (b, y, x) integers; those outside [0, num_classes) are ignored. Sides that are
            not multiples of the grid's are split as evenly as possible.

    Returns:
        (b, height, width, num_classes) float32; all 0 in a cell without labeled pixels.
    """
    check_shapes(labels_byx=labels_byx)
    b, y, x = labels_byx.shape
    row_y = torch.arange(y, device=labels_byx.device) * height // y
    column_x = torch.arange(x, device=labels_byx.device) * width // x
    cell_yx = row_y[:, None] * width + column_x
    image_b = torch.arange(b, device=labels_byx.device)[:, None, None]
    labeled = (labels_byx >= 0) & (labels_byx < num_classes)
    bins = ((image_b * height * width + cell_yx) * num_classes + labels_byx.long())[labeled]
    counts = torch.bincount(bins, minlength=b * height * width * num_classes)
    counts = counts.view(b, height, width, num_classes).float()
    return counts / counts.sum(dim=3, keepdim=True).clamp(min=1)
