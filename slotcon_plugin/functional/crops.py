"""Geometry of the two random resized crops of one image, and of their common region.

Numbers only, without pixels. Randomness comes from the generator that is passed in. The crops are
those of SlotCon's published code (arXiv 2205.15288); a single one is torchvision's
RandomResizedCrop.
"""

import math
from typing import NamedTuple

import numpy as np

from .checks import check_integers, check_numbers

TRIES = 10


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

    Up to ten times an area (uniform, `scale` as fractions of the image's area) and an aspect
    ratio width / height (log-uniform in `ratio`) are drawn; the first pair that fits gets a
    uniform position. If none fits: the largest centered crop whose aspect ratio is in `ratio`.

    Raises:
        ValueError: a size below 1, or a range that is not 0 < low <= high (scale: <= 1).
    """
    _check_arguments(width, height, scale, ratio)
    for _ in range(TRIES):
        crop, _ = _draw_once(rng, width, height, scale, ratio)
        if crop is not None:
            return crop
    return _center_crop(width, height, ratio)


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

    Raises:
        ValueError: as `random_resized_crop`, or `min_overlap` is not a share, 0-1.
    """
    _check_arguments(width, height, scale, ratio)
    check_numbers("[0, 1]", min_overlap=min_overlap)
    for _ in range(TRIES):
        crop, target_area = _draw_once(rng, width, height, scale, ratio)
        if crop is not None and overlap_area(first, crop) >= min_overlap * target_area:
            return crop
    return random_resized_crop(rng, width, height, scale, ratio)


def overlap_area(a: Crop, b: Crop) -> int:
    """Number of pixels that two crops of the same image share."""
    across = min(a.left + a.width, b.left + b.width) - max(a.left, b.left)
    down = min(a.top + a.height, b.top + b.height) - max(a.top, b.top)
    return max(across, 0) * max(down, 0)


def common_region(crops: tuple[Crop, Crop], flips: tuple[bool, bool]) -> np.ndarray:
    """The intersection of the two crops, in coordinates of each view.

    Args:
        crops: the two crops of one image.
        flips: whether each view is flipped left to right after it is cut.

    Returns:
        float32 (2, 4): xyxy, fraction of this view after its flip, 0-1. All zeros (an empty region)
        when the crops share no pixel.
    """
    region = np.zeros((2, 4), np.float32)
    if overlap_area(*crops) == 0:
        return region
    a, b = (crop.ltrb for crop in crops)
    x1, y1, x2, y2 = max(a[0], b[0]), max(a[1], b[1]), min(a[2], b[2]), min(a[3], b[3])
    for v, (crop, flip) in enumerate(zip(crops, flips, strict=True)):
        left, right = (x1 - crop.left) / crop.width, (x2 - crop.left) / crop.width
        if flip:
            left, right = 1 - right, 1 - left
        region[v] = left, (y1 - crop.top) / crop.height, right, (y2 - crop.top) / crop.height
    return region


def _draw_once(rng, width, height, scale, ratio) -> tuple[Crop | None, float]:
    """One try: the crop, or None if it does not fit, and the drawn area in pixels."""
    target_area = rng.uniform(*scale) * width * height
    aspect = math.exp(rng.uniform(math.log(ratio[0]), math.log(ratio[1])))
    w = round(math.sqrt(target_area * aspect))
    h = round(math.sqrt(target_area / aspect))
    if not (0 < w <= width and 0 < h <= height):
        return None, target_area
    top = int(rng.integers(0, height - h + 1))
    left = int(rng.integers(0, width - w + 1))
    return Crop(left, top, w, h), target_area


def _center_crop(width, height, ratio) -> Crop:
    w, h = width, height
    if width / height < ratio[0]:
        h = max(round(width / ratio[0]), 1)
    elif width / height > ratio[1]:
        w = max(round(height * ratio[1]), 1)
    return Crop((width - w) // 2, (height - h) // 2, w, h)


def _check_arguments(width, height, scale, ratio) -> None:
    check_integers(1, width=width, height=height)
    if not 0 < scale[0] <= scale[1] <= 1:
        raise ValueError(f"scale is {scale!r}, expected shares of the area, 0 < low <= high <= 1.")
    if not 0 < ratio[0] <= ratio[1]:
        raise ValueError(f"ratio is {ratio!r}, expected width / height, 0 < low <= high.")
