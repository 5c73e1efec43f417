"""Pictures for `tools/speed.py`, and the two pipelines as pairs of (ours, plain)."""

from collections.abc import Callable
from itertools import count
from pathlib import Path

import numpy as np
import torch
from photographs import photograph_paths
from PIL import Image
from plain_data import as_tensor, colour_view, open_picture, two_views

from slotcon_plugin.data.decode import read_pixels
from slotcon_plugin.data.preprocessor import TwoViewPreprocessor
from slotcon_plugin.data.views import TwoViews

SIZES = ((640, 480), (500, 375))  # COCO's usual size; ImageNet's
Pair = tuple[Callable[[], object], Callable[[], object]]


def write_jpegs(folder: Path, width: int, height: int, copies: int = 1) -> list[str]:
    """The photographs that scikit-image and scikit-learn carry, filled into `width` x `height`."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for number, source in enumerate(photograph_paths()):
        with Image.open(source) as picture:
            picture = picture.convert("RGB")
        scale = max(width / picture.width, height / picture.height)
        size = [max(round(side * scale), most) for side, most in zip(picture.size, (width, height))]
        picture = picture.resize(size, Image.Resampling.BICUBIC).crop((0, 0, width, height))
        for copy in range(copies):
            path = folder / f"{number}_{copy:04}.jpg"
            picture.save(path, quality=90)
            paths.append(str(path))
    return paths


def worker_pair(paths: list[str], draws: TwoViews) -> Pair:
    """What a worker does with each of the files: ours leaves the colours to the device.

    The n-th call of one side draws the views that the n-th call of the other does.
    """
    our_calls, plain_calls = count(), count()

    def seeded(calls):
        call = next(calls)
        return [(path, np.random.default_rng((call, i))) for i, path in enumerate(paths)]

    def ours():
        return [draws(read_pixels(path), rng) for path, rng in seeded(our_calls)]

    def plainly():
        return [two_views(open_picture(path), draws, rng) for path, rng in seeded(plain_calls)]

    return ours, plainly


def device_pair(items: list[dict], device: str) -> Pair:
    """Colours and normalisation of one batch of our workers' items; plainly on the CPU."""
    preprocessor = TwoViewPreprocessor().to(device)
    batch = {name: torch.stack([item[name] for item in items]) for name in items[0]}
    if device == "cuda":  # as the loader hands it over
        batch = {name: tensor.pin_memory() for name, tensor in batch.items()}

    def ours():
        return torch.stack(preprocessor(batch, training=True)["inputs"], dim=1)

    def plainly():
        views = []
        for pixels, rows in zip(batch["views"].flatten(0, 1), batch["photometric"].flatten(0, 1)):
            picture = Image.fromarray(pixels.permute(1, 2, 0).contiguous().numpy())
            views.append(as_tensor(colour_view(picture, rows.numpy())))
        return torch.stack(views).unflatten(0, (len(items), 2))

    return ours, plainly
