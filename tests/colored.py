"""Labeled images with one color per class, and a network whose features are colors."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from slotcon_plugin.functional.grouping import prototype_scores, unit_directions

# The color of each class; their directions from gray differ clearly.
COLORS = np.array(
    [(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0), (0, 255, 255), (255, 0, 255)], np.uint8
)
CELL = 8
_MIDDLE = np.zeros((CELL, CELL), bool)
_MIDDLE[3:5, 3:5] = True


def write_colored(folder: Path, count: int = 6, seed: int = 0) -> Path:
    """`images/` and `labels/` (VOC's values) of 64 x 64 pixels in cells of 8.

    Only the four pixels in the middle of a cell are labeled, where upsampling a map of 8 x 8 cells
    cannot change the best color. A tenth of the cells has no labels.
    """
    rng = np.random.default_rng(seed)
    for name in ("images", "labels"):
        (folder / name).mkdir(parents=True)
    for i in range(count):
        classes = rng.integers(0, len(COLORS), (8, 8))
        labels = np.where(rng.random((8, 8)) < 0.1, 255, classes).astype(np.uint8)
        whole = np.ones((CELL, CELL), np.uint8)
        labels = np.kron(labels, whole)
        labels[~np.kron(np.ones((8, 8), bool), _MIDDLE)] = 255
        pixels = np.kron(COLORS[classes], whole[:, :, None])
        Image.fromarray(pixels).save(folder / "images" / f"{i}.png")
        Image.fromarray(labels).save(folder / "labels" / f"{i}.png")
    return folder


class ColorFeatures(nn.Module):
    """The mean color of each cell, as three channels."""

    origin = "colors"

    def forward(self, images_b3hw: Tensor) -> Tensor:
        """(b, 3, h / 8, w / 8)."""
        return nn.functional.avg_pool2d(images_b3hw.float() - 100, CELL)


class ColorGroups(nn.Module):
    """Prototypes are the colors, in another order than the classes."""

    origin = "colors"

    def __init__(self, order: list[int]):
        super().__init__()
        self.features = ColorFeatures()
        self.register_buffer("prototypes_kd", torch.tensor(COLORS[order]).float() - 100)

    def forward(self, images_b3hw: Tensor) -> Tensor:
        """Cosine scores (b, k, h, w)."""
        return prototype_scores(unit_directions(self.features(images_b3hw)), self.prototypes_kd)
