"""Formats of pixel labels: each pixel has one class, or 255 if it is not labeled."""

import json
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from ..errors import DataError, UnreadableFileError
from . import coco_stuff
from .matching import IGNORED

# fmt: off
VOC_CLASSES = (
    "background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair",
    "cow", "diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa",
    "train", "tvmonitor",
)
# fmt: on
ADE_CLASSES = tuple(f"class {i}" for i in range(1, 151))
_UNKNOWN = 254  # in place of the class of a value that the format does not have


def _table(classes: dict[int, int]) -> np.ndarray:
    """(256,) uint8: the class of each pixel value."""
    table = np.full(256, _UNKNOWN, np.uint8)
    table[[*classes, 255]] = [*classes.values(), IGNORED]
    return table


# Name of a format -> its classes, and for index maps the class of each pixel value.
FORMATS = {
    "coco-stuff": (coco_stuff.CLASSES, _table(dict(enumerate(coco_stuff.FINE_TO_COARSE)))),
    "panoptic": (coco_stuff.CLASSES, None),
    "voc": (VOC_CLASSES, _table({i: i for i in range(21)})),
    "ade20k": (ADE_CLASSES, _table({0: IGNORED} | {i: i - 1 for i in range(1, 151)})),
}


class LabelMap(NamedTuple):
    """The labels of one image, in a file."""

    path: str
    kind: str  # a name of FORMATS
    segments: dict[int, int] | None = None  # panoptic: number of a segment -> class

    def read(self) -> Image.Image:
        """The classes as an 8-bit image, `IGNORED` where there is none."""
        try:
            with Image.open(self.path) as image:
                image.load()
        except Exception as error:  # decoders raise errors of many types on a broken file
            raise UnreadableFileError(f"The labels {self.path} cannot be read: {error}") from error
        if self.segments is not None:
            # The number of a segment is R + 256 G + 65536 B; 0 is no segment.
            values = np.asarray(image.convert("RGB")).astype(np.int64) @ [1, 256, 65536]
            numbers, index = np.unique(values, return_inverse=True)
            known = self.segments | {0: IGNORED}
            table = [known.get(number, _UNKNOWN) for number in numbers.tolist()]
            classes = np.array(table, np.uint8)[index].reshape(values.shape)
            advice = "which the JSON file does not list. Do the files belong together?"
        elif image.mode in ("L", "P"):
            values = np.asarray(image)
            classes = FORMATS[self.kind][1][values]
            advice = f"which {self.kind} does not have. Select another format by --labels-format."
        else:
            raise UnreadableFileError(
                f"The labels {self.path} have the mode {image.mode}, expected an 8-bit index map "
                "(L or P). Convert color-coded maps to the numbers of the classes first."
            )
        if (unknown := classes == _UNKNOWN).any():
            found = np.unique(values[unknown])[:10].tolist()
            message = f"The labels {self.path} contain the values {found}, {advice}"
            raise UnreadableFileError(message)
        return Image.fromarray(classes)


def find_labels(source: str | Path, kind: str) -> dict[str, LabelMap]:
    """Find the labels of a dataset: stem of the image's file name -> labels.

    Args:
        source: a folder of index maps, searched to any depth; for "panoptic" COCO's JSON file,
            whose PNG files are in the folder of the same name beside it.
        kind: a name of `FORMATS`.
    """
    if kind not in FORMATS:
        raise ValueError(f"the format of labels is {kind!r}, expected one of {', '.join(FORMATS)}")
    source = Path(source).expanduser()
    if kind == "panoptic":
        return _find_panoptic(source)
    found: dict[str, LabelMap] = {}
    for path in sorted(source.rglob("*.png")):
        other = found.setdefault(path.stem, LabelMap(str(path), kind))
        if other.path != str(path):
            raise DataError(
                f"Two label maps have the same name: {other.path}, {path}. Give one split's folder."
            )
    if not found:
        raise DataError(f"There is no folder of labels {source} with index maps as PNG files.")
    return found


def _find_panoptic(source: Path) -> dict[str, LabelMap]:
    folder, classes, found = source.with_suffix(""), {}, {}
    try:
        content = json.loads(source.read_text(encoding="utf-8"))
        for category in content["categories"]:
            name = category["supercategory"]
            if name not in coco_stuff.SUPERCATEGORIES:
                raise DataError(
                    f"{source}: the category {category.get('name')!r} has the super-category "
                    f"{name!r}, which is none of COCO's 27."
                )
            classes[category["id"]] = coco_stuff.SUPERCATEGORIES[name]
        for annotation in content["annotations"]:
            segments = {s["id"]: classes[s["category_id"]] for s in annotation["segments_info"]}
            name = annotation["file_name"]
            found[Path(name).stem] = LabelMap(str(folder / name), "panoptic", segments)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(
            f"{source} is not a JSON file of COCO's panoptic format, with categories and "
            f"annotations: {type(error).__name__}: {error}"
        ) from error
    if not folder.is_dir():
        raise DataError(f"The PNG files of {source} are missing: expected the folder {folder}.")
    return found
