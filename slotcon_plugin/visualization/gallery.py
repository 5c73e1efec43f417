"""The images nearest to one prototype, its group marked and its attention shown."""

from typing import NamedTuple

import numpy as np
import torch
from PIL import Image

from ..evaluation.batches import LoaderOptions
from .painting import heat, mark
from .survey import Scores, WholeImages, attention, group, scaled


class Row(NamedTuple):
    """A prototype's nearest images, the nearest first. Pixels are uint8 (h, w, 3)."""

    names: list[str]
    similarities: list[float]
    photographs: list[np.ndarray]
    marked: list[np.ndarray]  # the group as it is, the rest dark
    heated: list[np.ndarray]  # attention as heat

    def small(self, short_side: int) -> "Row":
        """The same in the size of the page."""
        pixels = (
            [np.asarray(scaled(Image.fromarray(one), short_side)) for one in some]
            for some in self[2:]
        )
        return Row(self.names, self.similarities, *pixels)


def read_row(
    prototype: int,
    nearest: list[tuple[int, float]],
    images: WholeImages,
    names: list[str],
    scores: Scores,
    reading: LoaderOptions,
    temperature: float,
) -> Row:
    """Read the nearest images again and draw them: so nobody has to keep those of all prototypes.

    Args:
        prototype: its number.
        nearest: index and similarity of each, see `Survey.nearest_to`.
        images, names: those that were surveyed.
        scores: the network, on the reading's device.
        reading: where the network is.
        temperature: τ of the attention.
    """
    row = Row([], [], [], [], [])
    for index, similarity in nearest:
        image_3hw = images[index]
        with torch.no_grad():
            (scores_khw,) = scores(image_3hw[None].to(reading.device))
        pixels = image_3hw.permute(1, 2, 0).numpy()
        shape = pixels.shape[:2]
        row.names.append(names[index])
        row.similarities.append(similarity)
        row.photographs.append(pixels)
        row.marked.append(mark(pixels, group(scores_khw, *shape).assignment, prototype))
        row.heated.append(heat(pixels, attention(scores_khw, prototype, shape, temperature)))
    return row
