"""Labels of pixels in the formats they come in: one class a pixel, 255 where there is none."""

import json
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from ..errors import DataError
from . import coco_stuff
from .matching import IGNORED

# fmt: off
VOC_CLASSES = (
    "background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair",
    "cow", "diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa",
    "train", "tvmonitor",
)
# fmt: on
_UNKNOWN = 254  # in a table below: a value that a format does not have


def _table(classes: dict[int, int]) -> np.ndarray:
    """From a pixel's value, 0-255, to its class."""
    table = np.full(256, _UNKNOWN, np.uint8)
    table[list(classes)] = list(classes.values())
    return table


class LabelFormat(NamedTuple):
    """What the values of index maps mean."""

    classes: tuple[str, ...]
    table: np.ndarray | None  # (256,) value to class, IGNORED or _UNKNOWN; None: not an index map


FORMATS = {
    "coco-stuff": LabelFormat(
        coco_stuff.CLASSES, _table({**dict(enumerate(coco_stuff.FINE_TO_COARSE)), 255: IGNORED})
    ),
    "panoptic": LabelFormat(coco_stuff.CLASSES, None),
    "voc": LabelFormat(VOC_CLASSES, _table({**{i: i for i in range(21)}, 255: IGNORED})),
    "ade20k": LabelFormat(
        tuple(f"class {i}" for i in range(1, 151)),
        _table({0: IGNORED, 255: IGNORED, **{i: i - 1 for i in range(1, 151)}}),
    ),
}


class LabelMap(NamedTuple):
    """One image's labels, not read yet."""

    path: str
    kind: str  # a name of FORMATS
    segments: dict[int, int] | None = None  # panoptic: a segment's number to its class

    def read(self) -> Image.Image:
        """The classes as an 8-bit image, `IGNORED` where there is none.

        Raises:
            DataError: the file cannot be read, or is not of its format.
        """
        try:
            with Image.open(self.path) as image:
                image.load()
        except Exception as error:  # decoders raise almost anything on a broken file
            raise DataError(f"The labels {self.path} cannot be read: {error}") from error
        if self.segments is None:
            return Image.fromarray(self._read_index_map(image))
        return Image.fromarray(self._read_segments(image))

    def _read_index_map(self, image: Image.Image) -> np.ndarray:
        if image.mode not in ("L", "P"):
            raise DataError(
                f"The labels {self.path} have the mode {image.mode}, expected an 8-bit index map "
                "(L or P) with one class a pixel. A colored map has to be converted first."
            )
        values = np.asarray(image)
        classes = FORMATS[self.kind].table[values]
        if (classes == _UNKNOWN).any():
            found = np.unique(values[classes == _UNKNOWN])[:10].tolist()
            raise DataError(
                f"The labels {self.path} have the values {found}, which {self.kind} does not. Is "
                "it another format? --labels-format names it."
            )
        return classes

    def _read_segments(self, image: Image.Image) -> np.ndarray:
        # COCO's panoptic format: a segment's number is R + 256 G + 65536 B; 0 is no segment.
        rgb = np.asarray(image.convert("RGB")).astype(np.int64)
        numbers, where = np.unique(rgb @ [1, 256, 65536], return_inverse=True)
        classes = np.array([self.segments.get(n, _UNKNOWN) for n in numbers.tolist()], np.uint8)
        classes[numbers == 0] = IGNORED
        if (classes == _UNKNOWN).any():
            found = numbers[classes == _UNKNOWN][:10].tolist()
            raise DataError(
                f"The labels {self.path} hold the segments {found}, which the JSON file does not "
                "list. Do the PNG files and the JSON file belong together?"
            )
        return classes[where].reshape(rgb.shape[:2])


def find_labels(source: str | Path, kind: str) -> dict[str, LabelMap]:
    """The labels of a data set, by the stem of the image's file name.

    Args:
        source: a folder of index maps, searched to any depth; for "panoptic" COCO's JSON file,
            whose PNG files lie in the folder beside it that has its name.
        kind: a name of `FORMATS`.

    Raises:
        DataError: nothing there, two maps of one stem, or a JSON file of another kind.
        ValueError: an unknown format.
    """
    if kind not in FORMATS:
        raise ValueError(f"the format of labels is {kind!r}, expected one of {', '.join(FORMATS)}")
    source = Path(source).expanduser()
    if kind == "panoptic":
        return _find_panoptic(source)
    if not source.is_dir():
        raise DataError(f"There is no folder of labels {source}. Expected index maps as PNG files.")
    found: dict[str, LabelMap] = {}
    for path in sorted(source.rglob("*.png")):
        if path.stem in found:
            raise DataError(
                f"Two label maps have the same name: {found[path.stem].path} and {path}. Name the "
                "folder of one split."
            )
        found[path.stem] = LabelMap(str(path), kind)
    if not found:
        raise DataError(f"The folder of labels {source} holds no PNG file.")
    return found


def _find_panoptic(source: Path) -> dict[str, LabelMap]:
    try:
        content = json.loads(source.read_text(encoding="utf-8"))
        classes = {
            category["id"]: _coarse_class(category, source) for category in content["categories"]
        }
        folder = source.with_suffix("")
        found = {}
        for annotation in content["annotations"]:
            segments = {
                segment["id"]: classes[segment["category_id"]]
                for segment in annotation["segments_info"]
            }
            name = annotation["file_name"]
            found[Path(name).stem] = LabelMap(str(folder / name), "panoptic", segments)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{source} is not a JSON file of COCO's panoptic format, with categories and "
            f"annotations: {type(error).__name__}: {error}"
        ) from error
    if not folder.is_dir():
        raise DataError(
            f"The panoptic PNG files of {source} are missing: expected them in {folder}."
        )
    return found


def _coarse_class(category: dict, source: Path) -> int:
    name = category["supercategory"]
    if name not in coco_stuff.SUPERCATEGORIES:
        raise DataError(
            f"{source}: the category {category.get('name')!r} has the super-category {name!r}, "
            "which is none of COCO's 27."
        )
    return coco_stuff.SUPERCATEGORIES[name]
