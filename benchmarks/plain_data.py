"""The data pipeline in plain PIL: one image at a time, everything in the loader's worker.

The baseline of `benchmarks/speed.py` for data; tests compare the package's batches with it. Random
numbers come from the package, so that both make the same views.
"""

import numpy as np
import torch
from PIL import Image, ImageEnhance, ImageFilter, ImageOps
from torch import Tensor
from torch.utils.data import Dataset
from torchvision.transforms.functional import adjust_hue

from slotcon_plugin.datasets.photometric import Column
from slotcon_plugin.datasets.transforms import TwoViews
from slotcon_plugin.functional.crops import common_region

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def open_image(path: str) -> Image.Image:
    """Read a file as an RGB image."""
    with Image.open(path) as image:
        return image.convert("RGB")


def geometric_view(image: Image.Image, crop, size: int, flip: bool) -> Image.Image:
    """Crop, resize, flip."""
    view = image.crop(crop.ltrb).resize((size, size), Image.Resampling.BICUBIC)
    return ImageOps.mirror(view) if flip else view


def color_view(view: Image.Image, row: np.ndarray) -> Image.Image:
    """Jitter in the drawn order, gray, blur, solarize; `row` has one view's `Column`s."""
    jitter = {
        Column.BRIGHTNESS: lambda v, f: ImageEnhance.Brightness(v).enhance(f),
        Column.CONTRAST: lambda v, f: ImageEnhance.Contrast(v).enhance(f),
        Column.SATURATION: lambda v, f: ImageEnhance.Color(v).enhance(f),
        Column.HUE: adjust_hue,
    }
    jittered = any(row[c] != 1 for c in list(jitter)[:3]) or row[Column.HUE] != 0
    for column in row[Column.FIRST : Column.FOURTH + 1].astype(int) if jittered else ():
        view = jitter[column](view, float(row[column]))
    if row[Column.GRAY]:
        view = ImageOps.grayscale(view).convert("RGB")
    if row[Column.BLUR_SIGMA]:
        view = view.filter(ImageFilter.GaussianBlur(float(row[Column.BLUR_SIGMA])))
    if row[Column.SOLARIZE] < 256:
        view = ImageOps.solarize(view, int(row[Column.SOLARIZE]))
    return view


def as_tensor(view: Image.Image) -> Tensor:
    """Normalized float32 (3, h, w)."""
    pixels = torch.from_numpy(np.array(view)).permute(2, 0, 1).contiguous().float() / 255
    return (pixels - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[:, None, None]


def two_views(image: Image.Image, draws: TwoViews, rng: np.random.Generator) -> dict[str, Tensor]:
    """The two normalized views (2, 3, s, s) of an image, with their boxes and flips."""
    crops, flips = draws.draw_geometry(rng, *image.size)
    rows = [draws.draw_photometric(rng, view) for view in range(2)]
    views = [
        as_tensor(color_view(geometric_view(image, crop, draws.size, flip), row))
        for crop, flip, row in zip(crops, flips, rows, strict=True)
    ]
    boxes = torch.from_numpy(common_region(crops, flips))
    return {"views": torch.stack(views), "boxes": boxes, "flips": torch.tensor(flips)}


class PlainImages(Dataset):
    """`two_views` of the images of a list of files, repeated to `length`."""

    def __init__(self, paths: list[str], length: int, draws: TwoViews) -> None:
        self.paths, self.length, self.draws = paths, length, draws

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        image = open_image(self.paths[index % len(self.paths)])
        return two_views(image, self.draws, np.random.default_rng(index))
