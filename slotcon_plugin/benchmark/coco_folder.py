"""Makes a small folder for the mini configs from any folder in COCO's format.

Class names that the configs do not know are replaced: it only shows that everything runs.
"""

import hashlib
import json
import os
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image
from pycocotools.coco import COCO

from ..datasets.decode import UnreadableImage, read_image
from ..datasets.sources import walk_files
from ..errors import DataError
from ..runtime.launch import announce
from ..runtime.regular_files import printable, read_text_file

READY = ("images", "instances.json", "voc21", "train2017.txt")
LABEL_MAPS = ("images", "labels", "train.txt", "test.txt")  # of configs/benchmark/small.yaml
LISTS = (*LABEL_MAPS[2:], "train20_0.txt", "train20_1.txt", "train20_2.txt")
COUNT = 40  # images that are taken
FEWEST = 24  # the mini configs choose among the first 21
# VOC's classes by COCO's names, in VOC's order from 1.
VOC = (
    *("airplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow"),
    *("dining table", "dog", "horse", "motorcycle", "person", "potted plant", "sheep", "couch"),
    *("train", "tv"),
)


def as_mini(source: Path, out: Path) -> Path:
    """The folder itself if it is laid out as coco_mini or for small.yaml, with label maps; else a
    small copy of it, laid out as coco_mini, in `out`.

    A `source` has an annotation file `instances*.json`, or any other .json in COCO's format, in
    itself or in annotations/, and the images of that file at any depth. Each is copied once.
    Images that cannot be read, and objects without an outline, are left out.
    """
    if any(all((source / name).exists() for name in names) for names in (READY, LABEL_MAPS)):
        return source
    file, content = _read_annotations(source)
    sign = f"{file.absolute()} {file.stat().st_size} {file.stat().st_mtime_ns}"
    made = out / hashlib.sha256(os.fsencode(sign)).hexdigest()[:12]
    if made.is_dir():
        return made
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out) as unfinished:
        try:
            taken = _copy(content, source, Path(unfinished) / made.name)
        except (LookupError, TypeError, ValueError, AttributeError) as error:
            what = f"{type(error).__name__}: {error}"
            raise DataError(f"{file} is not in COCO's format for objects: {what}") from error
        if taken < FEWEST:
            raise DataError(
                f"{file} lists {len(content['images'])} images, and {taken} of them have objects "
                f"with outlines and can be read in {source}; expected at least {FEWEST}. Name the "
                "folder with both."
            )
        (Path(unfinished) / made.name).rename(made)
    return made


def _read_annotations(source: Path) -> tuple[Path, dict]:
    """The smallest annotation file, which is read fastest."""
    if not source.is_dir():
        raise DataError(f"There is no folder {source}; DATA, or --data, names one with images.")
    found = [*source.glob("[!.]*.json"), *source.glob("annotations/[!.]*.json")]
    found = [file for file in found if file.is_file()]
    found = [file for file in found if file.name.startswith("instances")] or found
    for file in sorted(found, key=lambda file: file.stat().st_size):
        try:
            content = json.loads(read_text_file(file))
            keys = content.keys() | content["annotations"][0].keys()
            if {"bbox", "segmentation", "images", "categories"} <= keys:
                return file, content
        except (DataError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
            # another kind of JSON
            continue
    if all((source / name).is_dir() for name in LABEL_MAPS[:2]):
        missing = [name for name in LISTS if not (source / name).is_file()]
        raise DataError(
            f"{source} has images/ and labels/, as for configs/benchmark/small.yaml, but without "
            f"{', '.join(missing)}: lists of images, a name without folder and suffix a line. "
            "train.txt and test.txt divide the images; train20_N.txt are 20 of train.txt, whose "
            "labels FCN learns from with seed N."
        )
    raise DataError(
        f"{source} is neither laid out as coco_mini ({', '.join(READY)}) nor in COCO's format: it "
        "and annotations/ have no JSON file with images, annotations (with bbox and segmentation) "
        "and categories."
    )


def _copy(content: dict, source: Path, out: Path) -> int:
    """Copy the first `COUNT` images that can be used, with their objects; returns their number."""
    index = COCO()
    index.dataset = content
    index.createIndex()
    categories = _rename(content["categories"])
    numbers = {one["id"]: i % len(VOC) + 1 for i, one in enumerate(categories)}
    numbers |= {one["id"]: VOC.index(one["name"]) + 1 for one in categories if one["name"] in VOC}
    (out / "images").mkdir(parents=True)
    (out / "voc21").mkdir()
    files = {Path(file).name: Path(file) for file in sorted(walk_files(source), reverse=True)}
    images, objects, stems = [], [], []
    for image in content["images"]:
        path = source / image["file_name"]
        path = path if path.is_file() else files.get(path.name)
        outlined = [one for one in index.imgToAnns[image["id"]] if one.get("segmentation")]
        if (
            path is None
            or path.stem in stems
            or all(one.get("iscrowd") for one in outlined)
            or (pixels := _read(path, image)) is None
        ):
            continue
        image = image | dict(width=pixels.width, height=pixels.height)
        index.imgs[image["id"]] = image
        labels = np.zeros((pixels.height, pixels.width), np.uint8)
        for one in outlined:
            try:
                labels[index.annToMask(one) > 0] = numbers[one["category_id"]]
            except Exception as error:  # pycocotools raises plain exceptions
                announce(f"the outline of the object {one['id']} is left out: {error}")
            else:
                objects.append(one)
        pixels.save(out / "images" / f"{path.stem}.jpg", quality=95)
        Image.fromarray(labels).save(out / "voc21" / f"{path.stem}.png")
        split = "val2017" if len(images) % 4 == 3 else "train2017"
        images.append(image | dict(file_name=f"{path.stem}.jpg", coco_split=split))
        stems.append(path.stem)
        if len(images) == COUNT:
            break
    small = dict(images=images, annotations=objects, categories=categories)
    (out / "instances.json").write_text(json.dumps(small), encoding="utf-8")
    (out / "train2017.txt").write_bytes(os.fsencode("".join(f"{stem}\n" for stem in stems)))
    return len(images)


def _read(path: Path, listed: dict) -> Image.Image | None:
    """An image in RGB, or None with a line that says why it is left out."""
    try:
        image = read_image(path)
    except UnreadableImage as error:
        announce(f"{error}; it is left out")
        return None
    sides = tuple(listed.get(name, side) for name, side in zip(("width", "height"), image.size))
    if sides != image.size:
        announce(
            f"{printable(str(path))} has {image.width} x {image.height} pixels, the annotations "
            f"say {sides[0]} x {sides[1]}; it is left out"
        )
        return None
    return image


def _rename(categories: list[dict]) -> list[dict]:
    """The categories, with names that mmdet's COCO dataset knows."""
    from mmdet.datasets import CocoDataset

    known, names = CocoDataset.METAINFO["classes"], [one["name"] for one in categories]
    free = iter([name for name in known if name not in names])
    names = [name if name in known else next(free, name) for name in names]
    return [dict(one, name=name) for one, name in zip(categories, names, strict=True)]
