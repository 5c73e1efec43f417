"""Images for `benchmarks/speed.py`, and the two data pipelines as pairs of (ours, plain)."""

from itertools import count
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from benchmarks.measuring import Pair
from benchmarks.plain_data import as_tensor, color_view, open_image, two_views
from slotcon_plugin.datasets.data_preprocessor import TwoViewPreprocessor
from slotcon_plugin.datasets.decode import read_pixels
from slotcon_plugin.datasets.sample_images import sample_photographs
from slotcon_plugin.datasets.transforms import TwoViews

SIZES = ((640, 480), (500, 375))  # the usual sizes of COCO and ImageNet


def write_jpegs(folder: Path, width: int, height: int, copies: int = 1) -> list[str]:
    """Photographs of scikit-image and scikit-learn, scaled and cropped to `width` x `height`."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for number, source in enumerate(sample_photographs()):
        with Image.open(source) as image:
            image = image.convert("RGB")
        scale = max(width / image.width, height / image.height)
        size = [max(round(side * scale), most) for side, most in zip(image.size, (width, height))]
        image = image.resize(size, Image.Resampling.BICUBIC).crop((0, 0, width, height))
        for copy in range(copies):
            path = folder / f"{number}_{copy:04}.jpg"
            image.save(path, quality=90)
            paths.append(str(path))
    return paths


def worker_pair(paths: list[str], draws: TwoViews) -> Pair:
    """The work of a loader's worker on each of the files; our worker does not change colors.

    The n-th call of either side draws the same views.
    """
    our_calls, plain_calls = count(), count()

    def seeded(calls):
        call = next(calls)
        return [(path, np.random.default_rng((call, i))) for i, path in enumerate(paths)]

    def ours():
        return [draws(read_pixels(path), rng) for path, rng in seeded(our_calls)]

    def plainly():
        return [two_views(open_image(path), draws, rng) for path, rng in seeded(plain_calls)]

    return ours, plainly


def device_pair(items: list[dict], device: str) -> Pair:
    """Colors and normalization of one batch of our workers' items; the plain side on the CPU."""
    preprocessor = TwoViewPreprocessor().to(device)
    batch = {name: torch.stack([item[name] for item in items]) for name in items[0]}
    if device == "cuda":  # as the loader does
        batch = {name: tensor.pin_memory() for name, tensor in batch.items()}

    def ours():
        return torch.stack(preprocessor(batch, training=True)["inputs"], dim=1)

    def plainly():
        views = []
        for pixels, rows in zip(batch["views"].flatten(0, 1), batch["photometric"].flatten(0, 1)):
            image = Image.fromarray(pixels.permute(1, 2, 0).contiguous().numpy())
            views.append(as_tensor(color_view(image, rows.numpy())))
        return torch.stack(views).unflatten(0, (len(items), 2))

    return ours, plainly
