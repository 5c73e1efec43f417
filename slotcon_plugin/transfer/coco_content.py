"""Checks the content of a COCO annotation file against what a detector needs of it."""

import gc
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from operator import itemgetter
from typing import NamedTuple

import numpy as np

from ..errors import DataError

MAX_FAULTY = 0.01  # share of objects that may be faulty
BOX = "(bbox is x, y, width, height in pixels)"
MISSING = object()
SLACK = 2  # pixels that a box may reach beyond its image: coordinates are rounded


class Kind(NamedTuple):
    """The types of a value, and their name in messages."""

    words: str
    types: tuple[type, ...]


ID = Kind("a whole number or a text", (int, str))
NUMBER = Kind("a number", (int, float))
TEXT = Kind("a text", (str,))
KEYS = dict(
    images=dict(id=ID, file_name=TEXT, width=NUMBER, height=NUMBER),
    annotations=dict(id=ID, image_id=ID, category_id=ID, area=NUMBER, bbox=Kind("a list", (list,))),
    categories=dict(id=ID, name=TEXT),
)


class Needs(NamedTuple):
    """What a dataset wants of its file.

    Args:
        classes: names of the classes, in the order of the model's outputs; None: the file's.
        own_classes: the user chose them, so that objects of others are left out on purpose.
        num_classes: key and value of the smallest number of classes in the model.
        crowd_flag: `iscrowd` is needed, as COCO's evaluation does.
        objects: the file needs annotations.
    """

    classes: Sequence[str] | None
    own_classes: bool = False
    num_classes: tuple[str, int] | None = None
    crowd_flag: bool = False
    objects: bool = True


@contextmanager
def without_gc() -> Iterator[None]:
    """Switch Python's garbage collection off.

    It looks at all the millions of objects of a large file again and again, which takes longer than
    these checks.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def check_coco(content: dict, path: str, needs: Needs) -> str:
    """Raise DataError for what would stop a training, or make it silently wrong; returns a summary.

    Single faulty objects are tolerated up to `MAX_FAULTY`, because COCO itself has some.

    Args:
        content: the file's JSON.
        path: its name, for messages.
    """
    if not isinstance(content, dict):
        raise DataError(f"{path} is a JSON {type(content).__name__}, not a dictionary as COCO's.")
    has_objects = needs.objects or bool(content.get("annotations"))
    sections = [section for section in KEYS if has_objects or section != "annotations"]
    found = {section: _columns(content, section, path) for section in sections}
    categories = found["annotations"]["category_id"] if has_objects else []
    names = _check_classes(found["categories"], categories, path, needs)
    if not has_objects:
        return f"{path}: {len(content['images']):,} images"
    faults = _faulty_boxes(found, path)
    good = ~np.any(list(faults.values()), axis=0)
    crowd = _crowd(content["annotations"], path, needs)
    faulty, total, ids = int((~good).sum()), len(good), found["annotations"]["id"]
    parts = [
        f"{int(which.sum()):,} {words} (first: object {ids[which.argmax()]})"
        for words, which in faults.items()
        if which.any()
    ]
    if faulty > MAX_FAULTY * total:
        raise DataError(
            f"{path}: {faulty:,} of {total:,} objects are faulty, more than {MAX_FAULTY:.0%}: "
            f"{'; '.join(parts)}. Correct the file, or remove these objects from it."
        )
    chosen = np.array([number in names for number in categories], bool)
    used = int((good & ~crowd & chosen).sum())
    if used == 0:
        raise DataError(
            f"{path} has no object to learn from: {total:,} annotations, of which {faulty:,} are "
            f"faulty and {int(crowd.sum()):,} are crowds. Is it the right file?"
        )
    end = f"; {faulty:,} faulty: {'; '.join(parts)}" if faulty else ""
    images = len(content["images"])
    return f"{path}: {used:,} objects of {len(names)} classes, {images:,} images{end}"


def _columns(content: dict, section: str, path: str) -> dict[str, list]:
    """The values of each key of `KEYS`, with a check of their types; ids are unique."""
    rows = content.get(section)
    if not isinstance(rows, list) or not rows:
        what = "missing" if section not in content else f"{rows!r:.40}"
        raise DataError(
            f"{path}: `{section}` is {what}. Expected is a COCO file: lists of images, annotations "
            "(objects with boxes) and categories."
        )
    _require_types(rows, Kind("a dictionary", (dict,)), f"{path}: {section}[{{}}]")
    try:  # all keys of a row at once: a dictionary is slow to reach in memory
        values = zip(*map(itemgetter(*KEYS[section]), rows), strict=True)
    except KeyError:
        values = ([row.get(key, MISSING) for row in rows] for key in KEYS[section])
    columns = dict(zip(KEYS[section], values, strict=True))
    for key, kind in KEYS[section].items():
        _require_types(columns[key], kind, f"{path}: {section}[{{}}].{key}")
    if len(set(columns["id"])) < len(rows):
        twice = [name for name, count in Counter(columns["id"]).items() if count > 1]
        raise DataError(
            f"{path}: {len(twice)} ids of {section} occur more than once (first: {twice[0]!r}), so "
            "that all but the last would be lost. Give each its own id."
        )
    return columns


def _require_types(values: list, kind: Kind, where: str) -> None:
    """Raise DataError for the first value of another type, or not finite."""
    found = set(map(type, values))
    if found <= set(kind.types) and (float not in found or np.isfinite(values).all()):
        return
    for i, value in enumerate(values):
        if type(value) not in kind.types or (type(value) is float and not math.isfinite(value)):
            what = "missing" if value is MISSING else f"{value!r:.60}"
            raise DataError(f"{where.format(i)} is {what}, expected {kind.words}.")


def _check_classes(categories: dict, used: list, path: str, needs: Needs) -> dict:
    """Compare the file's categories with the config's classes; id -> name of those in both."""
    names = dict(zip(categories["id"], categories["name"], strict=True))
    if twice := [name for name, count in Counter(names.values()).items() if count > 1]:
        raise DataError(f"{path}: more than one category has the name {twice[0]!r}.")
    needs = needs._replace(classes=needs.classes or [*names.values()])
    known = {number: name for number, name in names.items() if name in needs.classes}
    counts = Counter(used)
    unknown = {name: counts[i] for i, name in names.items() if i not in known and counts[i]}
    change = (
        f"Set the dataset's metainfo=dict(classes={_listed(names.values())}) in each dataloader, "
        f"and num_classes={len(names)} in the model's heads."
    )
    if not known or (unknown and not needs.own_classes):
        raise DataError(
            f"{path}: objects of {_listed(unknown or names.values())} would be left out, because "
            f"the config's {len(needs.classes)} classes, {_listed(needs.classes)}, do not have "
            f"{'these names' if known else 'any of the names of the file'}. {change}"
        )
    if needs.num_classes and len(known) > needs.num_classes[1]:
        key, most = needs.num_classes
        raise DataError(f"{path} has {len(known)} of the config's classes, but {key} is {most}.")
    order = [name for name in names.values() if name in needs.classes]
    for number, (name, expected) in enumerate(zip(order, needs.classes, strict=False)):
        if name != expected:
            raise DataError(
                f"{path}: class {number} would be called {expected!r}, but is the file's {name!r}: "
                "mmdet numbers classes by their order in the file. Set the dataset's "
                f"metainfo=dict(classes={_listed(order)}) in each dataloader."
            )
    return known


def _faulty_boxes(found: dict, path: str) -> dict[str, np.ndarray]:
    """Fault in words -> bool (objects,): which of them have it."""
    images, objects = found["images"], found["annotations"]
    if set(map(len, objects["bbox"])) != {4}:
        i, box = next((i, box) for i, box in enumerate(objects["bbox"]) if len(box) != 4)
        raise DataError(f"{path}: annotations[{i}].bbox is {box!r:.60}, expected 4 numbers.")
    coordinates = list(chain.from_iterable(objects["bbox"]))
    _require_types(coordinates, NUMBER, f"{path}: of the boxes' coordinates, number {{}}")
    x, y, w, h = np.array(coordinates, float).reshape(-1, 4).T
    row = {number: i for i, number in enumerate(images["id"])}
    rows = np.array([row.get(number, -1) for number in objects["image_id"]], int)
    width, height = (np.array(images[key], float)[rows] for key in ("width", "height"))
    beyond = (x < -SLACK) | (y < -SLACK) | (x + w > width + SLACK) | (y + h > height + SLACK)
    categories = set(found["categories"]["id"])
    lost = np.array([number not in categories for number in objects["category_id"]], bool)
    small, absent = (w < 1) | (h < 1), rows < 0
    return {
        "name an image_id that is not among the images": absent,
        "name a category_id that is not among the categories": lost,
        f"have a side below 1 pixel, or negative {BOX}": small,
        f"leave their image {BOX}": beyond & ~absent,
        "have an area of 0 or less": np.array(objects["area"], float) <= 0,
    }


def _crowd(rows: list[dict], path: str, needs: Needs) -> np.ndarray:
    """bool (objects,): which objects are crowds, that no detector learns."""
    values = [row.get("iscrowd", MISSING if needs.crowd_flag else 0) for row in rows]
    _require_types(values, Kind("0 or 1", (int, bool)), f"{path}: annotations[{{}}].iscrowd")
    return np.array(values, bool)


def _listed(names: object) -> str:
    """A tuple in Python's notation; of many names the first ones."""
    names = list(names)
    shown = ", ".join(map(repr, names[:8]))
    return f"({shown}{', …' if len(names) > 8 else ',' * (len(names) == 1)})"
