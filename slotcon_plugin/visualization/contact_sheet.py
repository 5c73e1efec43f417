"""Several photographs and their groups in one picture."""

from collections.abc import Iterable
from io import BytesIO

import numpy as np
from PIL import Image

from .painting import overlay

WIDTH = 1400  # of the sheet, pixels


def draw_sheet(
    grouped: Iterable[tuple[np.ndarray, np.ndarray]], height: int = 200, gap: int = 8
) -> Image.Image:
    """Each photograph above its groups, in lines of at most WIDTH pixels.

    Args:
        grouped: uint8 RGB (h, w, 3) and the prototype of each pixel (h, w), of one or more images.
        height: of each photograph, pixels; wide ones are less high.
        gap: between them, pixels.
    """
    sheet, left, top, bottom = Image.new("RGB", (0, 0)), 0, 0, 0
    for pixels, assignment in grouped:
        pair = _pair(pixels, assignment, height, gap)
        if left and left + pair.width > WIDTH:
            left, top = 0, bottom + 2 * gap
        right, bottom = left + pair.width, max(bottom, top + pair.height)
        larger = Image.new("RGB", (max(sheet.width, right), bottom), "white")
        larger.paste(sheet)
        larger.paste(pair, (left, top))
        sheet, left = larger, right + gap
    return sheet


def _pair(pixels: np.ndarray, assignment: np.ndarray, height: int, gap: int) -> Image.Image:
    photograph = Image.fromarray(pixels)
    scale = min(height / photograph.height, WIDTH / photograph.width)
    size = [max(round(side * scale), 1) for side in photograph.size]
    groups = Image.fromarray(assignment.astype(np.int32)).resize(size, Image.Resampling.NEAREST)
    photograph = photograph.resize(size, Image.Resampling.BILINEAR)
    painted = Image.fromarray(overlay(np.asarray(photograph), np.asarray(groups)))
    pair = Image.new("RGB", (size[0], 2 * size[1] + gap), "white")
    pair.paste(photograph, (0, 0))
    pair.paste(painted, (0, size[1] + gap))
    return pair


def png_bytes(image: Image.Image) -> bytes:
    """The content of a PNG file."""
    file = BytesIO()
    image.save(file, "PNG")
    return file.getvalue()
