"""Several photographs and their groups in one picture."""

from collections.abc import Mapping, Sequence
from io import BytesIO

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from .painting import overlay

WIDTH = 1400  # of the photographs in a line, pixels
LABEL, LARGEST_FONT = 24, 15  # of the rows' names at the left: their room and size, pixels

Grouped = tuple[np.ndarray, np.ndarray]  # uint8 RGB (h, w, 3), and each pixel's prototype (h, w)


def draw_sheet(
    rows: Mapping[str, Sequence[Grouped]], height: int = 200, gap: int = 8
) -> Image.Image:
    """Each photograph above its groups, in lines of at most WIDTH pixels beside the rows' names.

    Args:
        rows: the same one or more photographs with their groups in each row, by the row's name.
        height: of each photograph, pixels; wide ones are less high.
        gap: between them, pixels.
    """
    columns = [_column(grouped, height) for grouped in zip(*rows.values(), strict=True)]
    lines, left = [[]], LABEL
    for column in columns:
        width = column[0].width
        if lines[-1] and left + width > LABEL + WIDTH:
            lines.append([])
            left = LABEL
        lines[-1].append((left, column))
        left += width + gap
    steps = [max(column[0].height for _, column in line) + gap for line in lines]
    names = ["photograph", *rows]
    right = max(left + column[0].width for line in lines for left, column in line)
    bottom = len(names) * sum(steps) + (len(lines) - 1) * gap - gap
    sheet, top = Image.new("RGB", (right, bottom), "white"), 0
    for line, step in zip(lines, steps, strict=True):
        for row, name in enumerate(names):
            sheet.paste(_label(name, step - gap), (0, top))
            for left, column in line:
                sheet.paste(column[row], (left, top))
            top += step
        top += gap
    return sheet


def _column(grouped: Sequence[Grouped], height: int) -> list[Image.Image]:
    """A photograph, and its groups of each row."""
    photograph = Image.fromarray(grouped[0][0])
    scale = min(height / photograph.height, WIDTH / photograph.width)
    size = [max(round(side * scale), 1) for side in photograph.size]
    photograph = photograph.resize(size, Image.Resampling.BILINEAR)
    column = [photograph]
    for _, assignment in grouped:
        groups = Image.fromarray(assignment.astype(np.int32)).resize(size, Image.Resampling.NEAREST)
        column.append(Image.fromarray(overlay(np.asarray(photograph), np.asarray(groups))))
    return column


def _label(name: str, length: int) -> Image.Image:
    """A name that is read from below, as large as there is room for."""
    image = Image.new("RGB", (length, LABEL), "white")
    room = ImageFont.load_default(LARGEST_FONT).getlength(name) / max(length - 4, 1)
    font = ImageFont.load_default(max(LARGEST_FONT / max(room, 1), 6))
    ImageDraw.Draw(image).text((length / 2, LABEL / 2 - 1), name, "#333333", font, anchor="mm")
    return image.transpose(Image.Transpose.ROTATE_90)


def png_bytes(image: Image.Image) -> bytes:
    """The content of a PNG file."""
    file = BytesIO()
    image.save(file, "PNG")
    return file.getvalue()
