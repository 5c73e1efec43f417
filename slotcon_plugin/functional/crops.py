"""Geometry of the two random resized crops of one image, and of their common region.

The crops are those of SlotCon's published code (arXiv 2205.15288).
"""

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from .checks import check_integers, check_numbers


class Crop(NamedTuple):
    """A rectangle of whole pixels of an image: columns [left, left + width), rows alike."""

    left: int
    top: int
    width: int
    height: int

    @property
    def ltrb(self) -> tuple[int, int, int, int]:
        """Left, top, right, bottom in pixels of the image; right and bottom are exclusive."""
        return self.left, self.top, self.left + self.width, self.top + self.height


def random_resized_crop(
    rng: np.random.Generator,
    width: int,
    height: int,
    scale: tuple[float, float] = (0.08, 1.0),
    ratio: tuple[float, float] = (3 / 4, 4 / 3),
) -> Crop:
    """Draw one crop of an image of `width` x `height` pixels.

    As torchvision's RandomResizedCrop: up to ten times an area (uniform, `scale` as fractions of
    the image's area) and an aspect ratio width / height (log-uniform in `ratio`) are drawn; the
    first pair that fits gets a uniform position. If none fits: the largest centered crop whose
    aspect ratio is in `ratio`.
    """
    for crop, _ in _fitting_crops(rng, width, height, scale, ratio):
        return crop
    w = max(min(width, round(height * ratio[1])), 1)
    h = max(min(height, round(width / ratio[0])), 1)
    return Crop((width - w) // 2, (height - h) // 2, w, h)


def overlapping_crop(
    rng: np.random.Generator,
    first: Crop,
    width: int,
    height: int,
    scale: tuple[float, float] = (0.08, 1.0),
    ratio: tuple[float, float] = (3 / 4, 4 / 3),
    min_overlap: float = 0.01,
) -> Crop:
    """Draw a second crop that shares pixels with `first`.

    Drawn up to ten times, until it fits the image and its intersection with `first` is at least
    `min_overlap` of its own drawn area (the target, before rounding to whole pixels). If no try
    succeeds, it is drawn without the condition, so the two crops may not overlap.
    """
    check_numbers("[0, 1]", min_overlap=min_overlap)
    for crop, target_area in _fitting_crops(rng, width, height, scale, ratio):
        if overlap_area(first, crop) >= min_overlap * target_area:
            return crop
    return random_resized_crop(rng, width, height, scale, ratio)


def overlap_area(a: Crop, b: Crop) -> int:
    """Number of pixels that two crops of the same image share."""
    x1, y1, x2, y2 = _intersection(a, b)
    return max(x2 - x1, 0) * max(y2 - y1, 0)


def common_region(crops: tuple[Crop, Crop], flips: tuple[bool, bool]) -> np.ndarray:
    """The intersection of the two crops of an image in each view: float32 (2, 4).

    x1, y1, x2, y2 are fractions of the view, 0-1, after it was flipped left to right where `flips`
    says so. All are 0 when the crops share no pixel.
    """
    region = np.zeros((2, 4), np.float32)
    x1, y1, x2, y2 = _intersection(*crops)
    if x2 <= x1 or y2 <= y1:
        return region
    for v, (crop, flip) in enumerate(zip(crops, flips, strict=True)):
        left, right = (x1 - crop.left) / crop.width, (x2 - crop.left) / crop.width
        if flip:
            left, right = 1 - right, 1 - left
        region[v] = left, (y1 - crop.top) / crop.height, right, (y2 - crop.top) / crop.height
    return region


def _intersection(a: Crop, b: Crop) -> tuple[int, int, int, int]:
    """x1, y1, x2, y2 in pixels of the image; without a shared pixel x2 <= x1 or y2 <= y1."""
    left, top, right, bottom = zip(a.ltrb, b.ltrb)
    return max(left), max(top), min(right), min(bottom)


def _fitting_crops(rng, width, height, scale, ratio) -> Iterator[tuple[Crop, float]]:
    """Those of ten draws that fit into the image, and their drawn areas in pixels."""
    check_integers(1, width=width, height=height)
    if not 0 < scale[0] <= scale[1] <= 1:
        raise ValueError(f"scale is {scale!r}, expected shares of the area, 0 < low <= high <= 1.")
    if not 0 < ratio[0] <= ratio[1]:
        raise ValueError(f"ratio is {ratio!r}, expected width / height, 0 < low <= high.")
    for _ in range(10):
        area = rng.uniform(*scale) * width * height
        aspect = math.exp(rng.uniform(math.log(ratio[0]), math.log(ratio[1])))
        w, h = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < w <= width and 0 < h <= height:
            top = int(rng.integers(0, height - h + 1))
            left = int(rng.integers(0, width - w + 1))
            yield Crop(left, top, w, h), area
