"""Photographs for tests, of scikit-image and scikit-learn."""

from pathlib import Path

import numpy as np
from PIL import Image

from slotcon_plugin.datasets.sample_images import sample_photographs


def photograph_paths() -> list[str]:
    """Six color photographs."""
    return [path for path in sample_photographs() if "motorcycle" not in path]


def photographs(size: int = 160) -> list[Image.Image]:
    """Their central squares, RGB, `size` x `size` pixels."""
    images = []
    for path in photograph_paths():
        with Image.open(path) as image:
            side = min(image.size)
            left, top = (image.width - side) // 2, (image.height - side) // 2
            square = image.convert("RGB").crop((left, top, left + side, top + side))
            images.append(square.resize((size, size), Image.Resampling.BICUBIC))
    return images


def write_slow_jpeg(path: Path) -> None:
    """A small file that is decoded for some seconds: its last scan is repeated."""
    Image.new("L", (4000, 4000)).save(path, progressive=True, quality=1)
    data = path.read_bytes()
    last = data.rindex(b"\xff\xda")
    path.write_bytes(data[:last] + data[last:-2] * 120 + data[-2:])


def as_batch(images: list[Image.Image]) -> np.ndarray:
    """uint8 (b, 3, h, w), contiguous as the batches of a DataLoader."""
    return np.ascontiguousarray(np.stack([np.asarray(p) for p in images]).transpose(0, 3, 1, 2))
