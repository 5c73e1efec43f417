"""Images of one height side by side in a figure, in lines that are not too wide."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

GAP = 0.06  # inches between images


class Place(NamedTuple):
    """Where an image is, in inches from the left end of its line."""

    index: int
    left: float
    width: float


def lines_of(images: Sequence[np.ndarray], height: float, widest: float) -> list[list[Place]]:
    """The images (h, w, 3), scaled to a height, in lines of at most `widest`; both in inches.

    Lines are about equally long. An image that is wider than a line is made as narrow as one, and
    is less high.
    """
    widths = [min(height * image.shape[1] / image.shape[0], widest) for image in images]
    lines = _broken(widths, widest)
    for shorter in np.linspace(max(widths), widest, 20):
        if len(found := _broken(widths, shorter)) == len(lines):
            return found
    return lines


def _broken(widths: list[float], widest: float) -> list[list[Place]]:
    lines: list[list[Place]] = [[]]
    left = 0.0
    for index, width in enumerate(widths):
        if left and left + width > widest:
            lines.append([])
            left = 0.0
        lines[-1].append(Place(index, left, width))
        left += width + GAP
    return lines


def width_of(lines: list[list[Place]]) -> float:
    """The width of the longest line, in inches."""
    return max(line[-1].left + line[-1].width for line in lines)


def add_box(figure: Figure, left: float, top: float, width: float, height: float) -> Axes:
    """Axes without ticks at a place in inches from the figure's upper left corner."""
    wide, high = figure.get_size_inches()
    axis = figure.add_axes((left / wide, 1 - (top + height) / high, width / wide, height / high))
    axis.set_axis_off()
    return axis


def show_line(
    figure: Figure,
    line: Sequence[Place],
    images: Sequence[np.ndarray],
    left: float,
    top: float,
    height: float,
) -> None:
    """Draw the images of one line."""
    for place in line:
        box = add_box(figure, left + place.left, top, place.width, height)
        box.imshow(images[place.index], interpolation="antialiased")
