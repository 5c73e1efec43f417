"""Several photographs and their groups in one picture."""

from collections.abc import Sequence
from io import BytesIO

import numpy as np
from PIL import Image

from .painting import overlay

HEIGHT, WIDTH, GAP = 200, 1400, 8  # of each photograph, of the sheet, and between; pixels


def draw_sheet(grouped: Sequence[tuple[np.ndarray, np.ndarray]]) -> Image.Image:
    """Each photograph above its groups, in lines of at most WIDTH pixels.

    `grouped` has uint8 RGB (h, w, 3) and the prototype of each pixel (h, w), of one or more images.
    """
    pairs = [_pair(*one) for one in grouped]
    lines: list[list[Image.Image]] = [[]]
    for pair in pairs:
        if lines[-1] and sum(one.width + GAP for one in [*lines[-1], pair]) - GAP > WIDTH:
            lines.append([])
        lines[-1].append(pair)
    widths = [sum(one.width + GAP for one in line) - GAP for line in lines]
    heights = [max(one.height for one in line) for line in lines]
    sheet = Image.new("RGB", (max(widths), sum(heights) + 2 * GAP * (len(lines) - 1)), "white")
    top = 0
    for line, height in zip(lines, heights, strict=True):
        left = 0
        for one in line:
            sheet.paste(one, (left, top))
            left += one.width + GAP
        top += height + 2 * GAP
    return sheet


def _pair(pixels: np.ndarray, assignment: np.ndarray) -> Image.Image:
    photograph = Image.fromarray(pixels)
    scale = min(HEIGHT / photograph.height, WIDTH / photograph.width)
    size = [max(round(side * scale), 1) for side in photograph.size]
    groups = Image.fromarray(assignment.astype(np.int32)).resize(size, Image.Resampling.NEAREST)
    photograph = photograph.resize(size, Image.Resampling.BILINEAR)
    painted = Image.fromarray(overlay(np.asarray(photograph), np.asarray(groups)))
    pair = Image.new("RGB", (size[0], 2 * size[1] + GAP), "white")
    pair.paste(photograph, (0, 0))
    pair.paste(painted, (0, size[1] + GAP))
    return pair


def png_bytes(image: Image.Image) -> bytes:
    """The content of a PNG file."""
    file = BytesIO()
    image.save(file, "PNG")
    return file.getvalue()
