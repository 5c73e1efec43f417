"""Images with pixel labels, cut to one size, for evaluation."""

import os
from collections.abc import Iterable
from pathlib import Path

from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset
from torchvision.transforms.v2 import functional as tv

from ..datasets.decode import UnreadableImage, read_image
from ..datasets.sources import IMAGE_SUFFIXES, Source, list_images
from ..errors import DataError, UnreadableFileError
from .label_formats import FORMATS, LabelMap, find_labels


class LabeledImages(Dataset):
    """Images and labels; the short side is scaled to `size` and the center square is cut (PiCIE).

    Args:
        images: see `sources.list_images`.
        labels, kind: see `label_formats.find_labels`.
        size: side of the square in pixels.
        names: a text file with the names of the images to use, one on a line, with or without
            folder and suffix; by default all images that have labels.

    Attributes:
        selection: a text that says which images they are.
        source: the paths, for a report.

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
        sources = [images] if isinstance(images, str | os.PathLike) else list(images)
        self.items, selection = _pair(
            list_images(sources), find_labels(labels, kind), labels, names
        )
        self.classes = FORMATS[kind][0]
        folders = ", ".join(map(str, sources))
        self.source = dict(folder=folders, labels=str(labels), labels_format=kind)
        if names is not None:
            self.source["list"] = str(names)
        self.selection = f"{selection}, from {folders}; labels: {kind}, from {labels}"

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        path, label_map = self.items[index]
        image, labels = read_required(path), label_map.read()
        if image.size != labels.size:
            raise UnreadableFileError(
                f"The image {path} has {image.size[0]} x {image.size[1]} pixels, its labels "
                f"{label_map.path} {labels.size[0]} x {labels.size[1]}. They must have one size."
            )
        (labels,) = center_square(labels, self.size, tv.InterpolationMode.NEAREST)
        return dict(inputs=center_square(image, self.size), labels=labels)


def printable(text: str) -> str:
    """The text with � for the bytes of file names that are not UTF-8, which print() refuses."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def read_required(path: str) -> Image.Image:
    """Read an image that cannot be left out, unlike in training.

    Raises:
        UnreadableFileError: it cannot be read.
    """
    try:
        return read_image(path)
    except UnreadableImage as error:
        raise UnreadableFileError(
            f"{error}. Scores are of all images: repair or remove it."
        ) from error


def center_square(
    image: Image.Image,
    size: int,
    mode: tv.InterpolationMode = tv.InterpolationMode.BILINEAR,
    short_side: int | None = None,
) -> Tensor:
    """Scale the short side to `short_side` (default: `size`) and cut the square in the center.

    Returns:
        uint8 (channels, size, size).
    """
    scaled = tv.resize(image, [short_side or size], mode)
    return tv.pil_to_tensor(tv.center_crop(scaled, [size, size]))


def _pair(
    images: list[str], labels: dict[str, LabelMap], source: Source, names: Source | None
) -> tuple[list[tuple[str, LabelMap]], str]:
    """The images to use with their labels, and a text that says which they are."""
    by_stem = {_stem(path): path for path in images}
    if len(by_stem) != len(images):
        raise DataError(
            f"{len(images) - len(by_stem)} of the {len(images)} images have the same name as "
            "another one, but labels are found by the name: give the folder of one split."
        )
    if names is None:
        chosen = [stem for stem in by_stem if stem in labels]
        selection = f"the {len(chosen)} of {len(images)} images that have labels"
        if not chosen:
            raise DataError(
                f"None of the {len(images)} images (first: {images[0]}) has labels in {source}: "
                "their file names must have the same stems. First label: "
                f"{next(iter(labels.values())).path}."
            )
    else:
        chosen = _read_names(Path(names).expanduser())
        selection = f"the {len(chosen)} images of {names}"
        for where, found in (("images", by_stem), (f"labels in {source}", labels)):
            if missing := [stem for stem in chosen if stem not in found]:
                shown = printable(", ".join(missing[:5])) + ", …" * (len(missing) > 5)
                raise DataError(
                    f"{len(missing)} of the {len(chosen)} names in {names} are not among the "
                    f"{where}: {shown}"
                )
    return [(by_stem[stem], labels[stem]) for stem in chosen], selection


def _read_names(path: Path) -> list[str]:
    try:
        # Bytes that are not UTF-8 are read as Python reads them in file names.
        text = path.read_text(encoding="utf-8", errors="surrogateescape")
    except OSError as error:
        raise DataError(f"The list {path} cannot be read: {error.strerror}.") from error
    lines = [line.strip() for line in text.splitlines()]
    chosen = [_stem(line) for line in lines if line and not line.startswith("#")]
    if not chosen:
        raise DataError(f"The list {path} is empty. Expected the name of an image on each line.")
    if len(set(chosen)) != len(chosen):
        raise DataError(f"The list {path} names {len(chosen) - len(set(chosen))} images twice.")
    return chosen


def _stem(path: str) -> str:
    name = path.replace("\\", "/").rsplit("/", 1)[-1]
    suffix = Path(name).suffix
    return name.removesuffix(suffix) if suffix.lower() in IMAGE_SUFFIXES else name
