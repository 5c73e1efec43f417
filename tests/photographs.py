"""The real photographs that tests use: those that scikit-image and scikit-learn carry."""

import numpy as np
from PIL import Image

from slotcon_plugin.data.samples import sample_photographs


def photograph_paths() -> list[str]:
    """Six colour photographs."""
    return [path for path in sample_photographs() if "motorcycle" not in path]


def photographs(size: int = 160) -> list[Image.Image]:
    """Their central squares, as RGB of `size` x `size` pixels."""
    pictures = []
    for path in photograph_paths():
        with Image.open(path) as picture:
            side = min(picture.size)
            left, top = (picture.width - side) // 2, (picture.height - side) // 2
            square = picture.convert("RGB").crop((left, top, left + side, top + side))
            pictures.append(square.resize((size, size), Image.Resampling.BICUBIC))
    return pictures


def as_batch(pictures: list[Image.Image]) -> np.ndarray:
    """uint8 (b, 3, h, w)."""
    return np.stack([np.asarray(p).transpose(2, 0, 1) for p in pictures])
