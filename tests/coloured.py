"""Labelled pictures whose colours tell the class, and a network that sees nothing but colour."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from slotcon_plugin.functional.grouping import prototype_scores, unit_directions

# One colour a class, of clearly different directions from grey.
COLOURS = np.array(
    [(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0), (0, 255, 255), (255, 0, 255)], np.uint8
)
CELL = 8
_MIDDLE = np.zeros((CELL, CELL), bool)
_MIDDLE[3:5, 3:5] = True


def write_coloured(folder: Path, count: int = 6, seed: int = 0) -> Path:
    """`pictures/` and `labels/` (VOC's values) of 64 x 64 pixels in cells of 8.

    Only the four pixels in the middle of a cell are labelled, where no resampling of a map with a
    place a cell can make another colour win; and a tenth of the cells not at all.
    """
    rng = np.random.default_rng(seed)
    for name in ("pictures", "labels"):
        (folder / name).mkdir(parents=True)
    for i in range(count):
        classes = rng.integers(0, len(COLOURS), (8, 8))
        labels = np.where(rng.random((8, 8)) < 0.1, 255, classes).astype(np.uint8)
        whole = np.ones((CELL, CELL), np.uint8)
        labels = np.kron(labels, whole)
        labels[~np.kron(np.ones((8, 8), bool), _MIDDLE)] = 255
        pixels = np.kron(COLOURS[classes], whole[:, :, None])
        Image.fromarray(pixels).save(folder / "pictures" / f"{i}.png")
        Image.fromarray(labels).save(folder / "labels" / f"{i}.png")
    return folder


class ColourFeatures(nn.Module):
    """The mean colour of each cell, as three channels."""

    origin = "colours"

    def forward(self, pictures_b3hw: Tensor) -> Tensor:
        """(b, 3, h / 8, w / 8)."""
        return nn.functional.avg_pool2d(pictures_b3hw.float() - 100, CELL)


class ColourGroups(nn.Module):
    """Prototypes on the colours, in another order than the classes."""

    origin = "colours"

    def __init__(self, order: list[int]):
        super().__init__()
        self.features = ColourFeatures()
        self.register_buffer("prototypes_kd", torch.tensor(COLOURS[order]).float() - 100)

    def forward(self, pictures_b3hw: Tensor) -> Tensor:
        """Cosine scores (b, k, h, w)."""
        return prototype_scores(unit_directions(self.features(pictures_b3hw)), self.prototypes_kd)
