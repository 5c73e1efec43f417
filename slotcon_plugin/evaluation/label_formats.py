"""Formats of pixel labels: each pixel has one class, or 255 if it is not labeled."""

import json
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from ..datasets.list_files import read_list
from ..datasets.sources import walk_files
from ..errors import ConfigError, DataError, UnreadableFileError
from ..runtime.regular_files import read_text_file
from . import coco_stuff
from .index_maps import read_index_map, sample, values_in
from .matching import IGNORED

# fmt: off
VOC_CLASSES = (
    "background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair",
    "cow", "diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa",
    "train", "tvmonitor",
)
# fmt: on
ADE_CLASSES = tuple(f"class {i}" for i in range(1, 151))
MOST, SECONDS, ENOUGH = 64, 10, 8  # maps to look at; how long; how many tell the format
_UNKNOWN = 254  # in place of the class of a value that the format does not have


def _table(classes: dict[int, int]) -> np.ndarray:
    """(256,) uint8: the class of each pixel value."""
    table = np.full(256, _UNKNOWN, np.uint8)
    table[list(classes)] = list(classes.values())
    return table


class LabelFormat(NamedTuple):
    """Names of the classes, and for index maps the class of each pixel value, (256,) uint8."""

    classes: tuple[str, ...]
    table: np.ndarray | None


FORMATS = {
    "coco-stuff": LabelFormat(
        coco_stuff.CLASSES,
        _table({255: IGNORED} | dict(enumerate(coco_stuff.FINE_TO_COARSE))),
    ),
    "panoptic": LabelFormat(coco_stuff.CLASSES, None),
    "voc": LabelFormat(VOC_CLASSES, _table({255: IGNORED} | {i: i for i in range(21)})),
    "ade20k": LabelFormat(ADE_CLASSES, _table({0: IGNORED} | {i: i - 1 for i in range(1, 151)})),
}
INDEX_FORMATS = [name for name, one in FORMATS.items() if one.table is not None]
INDEX = "index:"  # in front of the classes of a dataset of one's own
SELECT = (
    "Select {} by --labels-format (labels_format in Python and in a benchmark, whose number of "
    "classes is SLOTCON_CLASSES in configs/benchmark/small.yaml; kind of UnsupervisedSegHook)."
)


@cache
def label_format(kind: str) -> LabelFormat:
    """A format by its name in FORMATS, or "index:CLASSES" for the maps of any dataset.

    The values of those are the numbers of the classes from 0 on, and 255 where there is no label.
    CLASSES is their number, or a text file with a name on each line.
    """
    if kind in FORMATS:
        return FORMATS[kind]
    text = kind.removeprefix(INDEX)
    if text == kind:
        expected = f"{', '.join(FORMATS)}, {INDEX}N or {INDEX}FILE (names of the classes)"
        raise ConfigError(f"The format of labels is {kind!r}, expected one of {expected}.")
    if text.isdecimal() and text.isascii():
        names = [f"class {i}" for i in range(min(int(text), 1000))]
    else:
        names = read_list(Path(text).expanduser(), is_known=lambda line: False)
    if not 1 <= len(names) <= _UNKNOWN or len(set(names)) != len(names):
        found = f"{kind} stands for {len(names)} classes, {len(set(names))} of them different"
        raise ConfigError(f"{found}; expected 1 to {_UNKNOWN} different ones.")
    return LabelFormat(tuple(names), _table({IGNORED: IGNORED} | {i: i for i in range(len(names))}))


class LabelMap(NamedTuple):
    """The labels of one image, in a file."""

    path: str
    kind: str  # see `label_format`
    segments: dict[int, int] | None = None  # panoptic: number of a segment -> class

    def values(self) -> set[int]:
        """The different pixel values of an index map; of panoptic labels the classes."""
        return values_in(read_index_map(self.path) if self.segments is None else self.read())

    def read(self) -> Image.Image:
        """The classes as an 8-bit image, `IGNORED` where there is none."""
        values = read_index_map(self.path, colors=self.segments is not None)
        if self.segments is not None:
            # The number of a segment is R + 256 G + 65536 B; 0 is no segment.
            values = values.astype(np.int64) @ [1, 256, 65536]
            numbers, index = np.unique(values, return_inverse=True)
            known = self.segments | {0: IGNORED}
            table = [known.get(number, _UNKNOWN) for number in numbers.tolist()]
            classes = np.array(table, np.uint8)[index].reshape(values.shape)
            advice = "which the JSON file does not list. Do the files belong together?"
        else:
            classes = label_format(self.kind).table[np.where(values > 255, _UNKNOWN, values)]
            advice = f"which {self.kind} does not have. "
            advice += _fitting(values_in(values), self.kind)
        if (unknown := classes == _UNKNOWN).any():
            found = np.unique(values[unknown])[:10].tolist()
            message = f"The labels {self.path} contain the values {found}, {advice}"
            raise UnreadableFileError(message)
        return Image.fromarray(classes)


def _known(kind: str) -> set[int]:
    """The pixel values of a format of index maps."""
    return set(np.flatnonzero(label_format(kind).table != _UNKNOWN).tolist())


def _fitting(values: set[int], kind: str) -> str:
    """Advice for values that the chosen format, `kind`, does not have."""
    classes = max(values - {IGNORED}, default=0) + 1
    if kind.startswith(INDEX) and classes <= _UNKNOWN:
        select = SELECT.format(f"{INDEX}{classes}")
        return f"Values up to {classes - 1} are {classes} classes. {select}"
    fitting = [name for name in INDEX_FORMATS if values <= _known(name)]
    if not fitting:
        own = f"{INDEX}N or {INDEX}FILE takes classes of one's own, numbered from 0"
        return f"No format has them (there are {', '.join(FORMATS)}); {own}."
    return f"All values fit {' and '.join(fitting)}. {SELECT.format(fitting[0])}"


def check_format(maps: list[LabelMap]) -> None:
    """Raise DataError if a sample of the label maps shows that they are of another format.

    A value that the format does not have shows it. So does, if ENOUGH maps were looked at, that all
    their values are in a smaller format: VOC's 21 numbers are valid in COCO-Stuff, but hardly any
    map of COCO-Stuff has no other one.
    """
    found = sample(lambda i: maps[i].values(), len(maps), MOST, SECONDS)
    kind, values, problem = maps[0].kind, set.union(*found), None
    if kind == "panoptic":
        return
    fitting = [name for name in INDEX_FORMATS if values <= _known(name) and len(found) >= ENOUGH]
    smaller = [name for name in fitting if len(_known(name)) < len(_known(kind))]
    if unknown := values - _known(kind):
        problem = f"They contain the values {sorted(unknown)[:10]}, which {kind} does not have. "
        problem += _fitting(values, kind)
    elif not {*label_format(kind).table[list(values)].tolist()} - {IGNORED}:
        problem = f"Their only values, {sorted(values)}, stand for pixels without a class in the "
        problem += f"format {kind}."
    elif smaller and kind in FORMATS:
        highest = max(values - {IGNORED}, default=0)
        problem = f"Their values, 0 to {highest}, are all in the format {smaller[0]}, and none is "
        problem += f"among the others of {kind}. {SELECT.format(smaller[0])}"
    if problem:
        looked_at = f"{len(found)} label maps were looked at, such as {maps[0].path}."
        raise DataError(f"{looked_at} {problem}")


def find_labels(source: str | Path, kind: str) -> dict[str, LabelMap]:
    """Find the labels of a dataset: stem of the image's file name -> labels.

    Args:
        source: a folder of index maps, searched to any depth; for "panoptic" COCO's JSON file,
            whose PNG files are in the folder of the same name beside it.
        kind: see `label_format`.
    """
    label_format(kind)
    source = Path(source).expanduser()
    if kind == "panoptic":
        return _find_panoptic(source)
    found: dict[str, LabelMap] = {}
    files = walk_files(source) if source.is_dir() else ()
    for path in sorted(Path(file) for file in files if file.endswith(".png")):
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
        content = json.loads(read_text_file(source))
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
