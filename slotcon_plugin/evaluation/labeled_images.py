"""Images with labels of their pixels, cut to one size, for evaluation."""

import os
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from ..datasets.decode import UnreadableImage, read_image
from ..datasets.sources import IMAGE_SUFFIXES, Source, list_images
from ..errors import DataError
from .label_formats import FORMATS, LabelMap, find_labels


class LabeledImages(Dataset):
    """Images and index maps: short side to `size`, center square (as PiCIE cuts them).

    Args:
        images: where they lie, see `sources.list_images`.
        labels: a folder, or the JSON file of COCO's panoptic format; see `labels.find_labels`.
        kind: a name of `labels.FORMATS`.
        size: pixels of the square's side.
        names: a text file that chooses the images, one name a line, with or without folder and
            suffix; without it every image that has labels is taken.

    `selection` says in words which images they are, `source` has the paths for a report.

    An item is a dict of `inputs`, uint8 (3, size, size) RGB, and `labels`, uint8 (size, size), 255
    where there is none.

    Raises:
        DataError: at construction, if nothing is found or a listed image or its labels are
            missing; on indexing, if a file is broken or the two differ in size.
    """

    def __init__(
        self,
        images: Source | Iterable[Source],
        labels: Source,
        kind: str,
        size: int = 320,
        names: Source | None = None,
    ):
        self.size = size
        self.classes = FORMATS[kind].classes if kind in FORMATS else ()
        where = [images] if isinstance(images, str | os.PathLike) else list(images)
        self.items, selection = _pair(list_images(where), find_labels(labels, kind), labels, names)
        places = ", ".join(map(str, where))
        self.source = dict(folder=places, labels=str(labels), labels_format=kind)
        if names is not None:
            self.source["list"] = str(names)
        self.selection = f"{selection}, from {places}; labels: {kind}, from {labels}"

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        path, label_map = self.items[index]
        try:
            image = read_image(path)
        except UnreadableImage as error:
            # Another image must not take its place here, as it does in training.
            raise DataError(f"{error}. A score without it would be another score.") from error
        labels = label_map.read()
        if image.size != labels.size:
            raise DataError(
                f"The image {path} has {image.size[0]} x {image.size[1]} pixels, its labels "
                f"{label_map.path} {labels.size[0]} x {labels.size[1]}. Labels must be of the "
                "image's size."
            )
        return dict(
            inputs=to_tensor(center_square(image, self.size, Image.Resampling.BILINEAR)),
            labels=torch.from_numpy(
                np.array(center_square(labels, self.size, Image.Resampling.NEAREST))
            ),
        )


def center_square(image: Image.Image, size: int, resample: int, short: int | None = None):
    """Scale the short side to `short` (default: `size`) and cut the square of `size` in the middle.

    Sides and margins are rounded as torchvision's Resize and CenterCrop round them.
    """
    short = short or size
    width, height = image.size
    scaled = (
        (short, int(short * height / width))
        if width <= height
        else (int(short * width / height), short)
    )
    if image.size != scaled:
        image = image.resize(scaled, resample)
    left, top = (round((side - size) / 2) for side in scaled)
    return image.crop((left, top, left + size, top + size))


def to_tensor(image: Image.Image) -> Tensor:
    """An RGB image as uint8 (3, h, w)."""
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous()


def _pair(
    images: list[str], labels: dict[str, LabelMap], source: Source, names: Source | None
) -> tuple[list[tuple[str, LabelMap]], str]:
    """The images to use with their labels, and in words which they are."""
    by_stem = {_stem(path): path for path in images}
    if len(by_stem) != len(images):
        raise DataError(
            f"{len(images) - len(by_stem)} of the {len(images)} images have the name of "
            "another one, and labels are found by the name: name the folder of one split."
        )
    if names is None:
        chosen = [stem for stem in by_stem if stem in labels]
        if not chosen:
            raise DataError(
                f"None of the {len(images)} images (first: {images[0]}) has labels in "
                f"{source}: their file names must have the same stems. First label: "
                f"{next(iter(labels.values())).path}."
            )
        selection = f"the {len(chosen)} of {len(images)} images that have labels"
    else:
        chosen = _read_names(Path(names).expanduser())
        for where, found in (("images", by_stem), (f"labels in {source}", labels)):
            missing = [stem for stem in chosen if stem not in found]
            if missing:
                raise DataError(
                    f"{len(missing)} of the {len(chosen)} names in {names} are not among the "
                    f"{where}: {', '.join(missing[:5])}{', …' * (len(missing) > 5)}"
                )
        selection = f"the {len(chosen)} images of {names}"
    return [(by_stem[stem], labels[stem]) for stem in chosen], selection


def _read_names(path: Path) -> list[str]:
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    except OSError as error:
        raise DataError(f"The list {path} cannot be read: {error.strerror}.") from error
    chosen = [_stem(line) for line in lines if line and not line.startswith("#")]
    if not chosen:
        raise DataError(f"The list {path} is empty. Expected one name of an image a line.")
    if len(set(chosen)) != len(chosen):
        raise DataError(f"The list {path} names {len(chosen) - len(set(chosen))} images twice.")
    return chosen


def _stem(path: str) -> str:
    name = path.replace("\\", "/").rsplit("/", 1)[-1]
    suffix = Path(name).suffix
    return name.removesuffix(suffix) if suffix.lower() in IMAGE_SUFFIXES else name
