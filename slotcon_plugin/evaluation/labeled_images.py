"""Images with pixel labels, cut to one size, for evaluation."""

from collections.abc import Iterable
from pathlib import Path

from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset
from torchvision.transforms.v2 import functional as tv

from ..datasets.decode import UnreadableImage, image_limits, read_image
from ..datasets.list_files import read_list
from ..datasets.sources import IMAGE_SUFFIXES, Source, list_images
from ..errors import DataError, UnreadableFileError
from ..runtime.regular_files import printable
from ..runtime.text_formats import listed
from .label_formats import LabelMap, check_format, find_labels, label_format


class LabeledImages(Dataset):
    """Images and labels; the short side is scaled to `size` and the center square is cut (PiCIE).

    Args:
        images: see `sources.list_images`.
        labels, kind: see `label_formats.find_labels`.
        size: side of the square in pixels.
        names: a text file with the names of the images to use, one on a line, with or without
            folder and suffix; by default all images that have labels.

    An item is a dict of `inputs`, uint8 (3, size, size) RGB, and `labels`, uint8 (size, size), 255
    where there is none. `selection` is a text that says which images they are, `source` the paths.
    Missing files, and labels of another format, are errors at construction, broken files on
    indexing.
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
        sources = [images] if isinstance(images, Source) else list(images)
        found = list_images(sources), find_labels(labels, kind)
        self.items, selection = _pair(*found, labels, names)
        check_format([label_map for _, label_map in self.items])
        self.classes = label_format(kind).classes
        folders = ", ".join(map(str, sources))
        self.source = dict(folder=folders, labels=str(labels), labels_format=kind)
        if names is not None:
            self.source["list"] = str(names)
        self.selection = f"{selection}, from {folders}; labels: {kind}, from {labels}"

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        path, label_map = self.items[index]
        image, labels = read_required(path, self.size), label_map.read()
        if image.size != labels.size:
            raise UnreadableFileError(
                f"The image {path} has {image.size[0]} x {image.size[1]} pixels, its labels "
                f"{label_map.path} {labels.size[0]} x {labels.size[1]}. They must have one size."
            )
        (labels,) = center_square(labels, self.size, tv.InterpolationMode.NEAREST)
        return dict(inputs=center_square(image, self.size), labels=labels)


def read_required(path: str, short_side: int) -> Image.Image:
    """Read an image that cannot be left out, unlike in training, to scale it to a short side."""
    try:
        image = read_image(path)
        try:
            image_limits().check_pixels(*scaled_size(image.size, short_side))
        except ValueError as error:
            sides = f"{image.width} x {image.height} pixels, scaled to a short side of {short_side}"
            raise UnreadableImage(path, f"of {sides}, {error}") from error
        return image
    except UnreadableImage as error:
        message = f"{error}. Scores are of all images: repair or remove it."
        raise UnreadableFileError(message) from error


def scaled_size(size: tuple[int, int], short_side: float) -> tuple[int, int]:
    """Width and height of an image of another size, scaled to a length of the short side."""
    width, height = (max(round(side * short_side / min(size)), 1) for side in size)
    return width, height


def center_square(
    image: Image.Image, size: int, mode=tv.InterpolationMode.BILINEAR, short_side: int | None = None
) -> Tensor:
    """Scale the short side (to `size` by default) and cut the center: uint8 (c, size, size)."""
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
            label = next(iter(labels.values())).path
            raise DataError(
                f"None of the {len(images)} images has labels in {source}: the stems of their file "
                f"names differ. First image: {images[0]}; first labels: {label}."
            )
    else:
        lines = read_list(Path(names).expanduser(), lambda line: _stem(line) in by_stem)
        chosen = [_stem(line) for line in lines]
        if len(set(chosen)) != len(chosen):
            raise DataError(
                f"The list {names} names {len(chosen) - len(set(chosen))} images twice."
            )
        selection = f"the {len(chosen)} images of {names}"
        for where, found in (("images", by_stem), (f"labels in {source}", labels)):
            if missing := [stem for stem in chosen if stem not in found]:
                raise DataError(
                    f"{len(missing)} of the {len(chosen)} names in {names} are not among the "
                    f"{where}: {printable(listed(missing))}"
                )
    return [(by_stem[stem], labels[stem]) for stem in chosen], selection


def _stem(path: str) -> str:
    name = Path(path.replace("\\", "/"))
    return name.stem if name.suffix.lower() in IMAGE_SUFFIXES else name.name
