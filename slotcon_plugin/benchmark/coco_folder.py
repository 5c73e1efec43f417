"""Makes a small folder for the mini configs from any folder in COCO's format.

Class names that the configs do not know are replaced: it only shows that everything runs.
"""

import hashlib
import json
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image
from pycocotools.coco import COCO

from ..errors import DataError

READY = ("images", "instances.json", "voc21", "train2017.txt")
COUNT = 40  # images that are taken
FEWEST = 24  # the mini configs choose among the first 21
# VOC's classes by COCO's names, in VOC's order from 1.
VOC = (
    *("airplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow"),
    *("dining table", "dog", "horse", "motorcycle", "person", "potted plant", "sheep", "couch"),
    *("train", "tv"),
)


def as_mini(source: Path, out: Path) -> Path:
    """The folder itself if it is laid out as coco_mini, else a small copy of it that is, in `out`.

    A `source` has an annotation file `instances*.json`, or any other .json in COCO's format, in
    itself or in annotations/, and the images of that file at any depth. Each is copied once.
    """
    if all((source / name).exists() for name in READY):
        return source
    file, content = _read_annotations(source)
    sign = f"{file.absolute()} {file.stat().st_size} {file.stat().st_mtime_ns}"
    made = out / hashlib.sha256(sign.encode()).hexdigest()[:12]
    if made.is_dir():
        return made
    labeled = {a["image_id"] for a in content["annotations"] if not a.get("iscrowd")}
    paths = _find([image for image in content["images"] if image["id"] in labeled], source)
    if len(paths) < FEWEST:
        raise DataError(
            f"{file} lists {len(content['images'])} images, and {len(paths)} of them have objects "
            f"and are in {source}; expected at least {FEWEST}. Name the folder with both."
        )
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out) as unfinished:
        _write(content, paths, Path(unfinished) / made.name)
        (Path(unfinished) / made.name).rename(made)
    return made


def _read_annotations(source: Path) -> tuple[Path, dict]:
    """The smallest annotation file, which is read fastest."""
    if not source.is_dir():
        raise DataError(f"There is no folder {source}; DATA, or --data, names one with images.")
    found = [*source.glob("*.json"), *source.glob("annotations/*.json")]
    found = [file for file in found if file.name.startswith("instances")] or found
    for file in sorted(found, key=lambda file: file.stat().st_size):
        try:
            content = json.loads(file.read_text(encoding="utf-8"))
            keys = content.keys() | content["annotations"][0].keys()
            if {"bbox", "segmentation", "images", "categories"} <= keys:
                return file, content
        except (ValueError, LookupError, TypeError, AttributeError):  # another kind of JSON
            continue
    raise DataError(
        f"{source} is neither laid out as coco_mini ({', '.join(READY)}) nor in COCO's format: it "
        "and annotations/ have no JSON file with images, annotations (with bbox and segmentation) "
        "and categories."
    )


def _find(images: list[dict], source: Path) -> dict[int, Path]:
    """The paths of images by id: as the annotations say, or the first file of that name."""
    files = {path.name: path for path in sorted(source.rglob("*"), reverse=True) if path.is_file()}
    paths, stems = {}, set()
    for image in images:
        path = source / image["file_name"]
        path = path if path.is_file() else files.get(path.name)
        if path and path.stem not in stems:
            stems.add(path.stem)
            paths[image["id"]] = path
    return paths


def _write(content: dict, paths: dict[int, Path], out: Path) -> None:
    (out / "images").mkdir(parents=True)
    (out / "voc21").mkdir()
    images = [dict(image) for image in content["images"] if image["id"] in paths][:COUNT]
    stems = [paths[image["id"]].stem for image in images]
    for number, (image, stem) in enumerate(zip(images, stems, strict=True)):
        with Image.open(paths[image["id"]]) as opened:
            opened.convert("RGB").save(out / "images" / f"{stem}.jpg", quality=95)
        split = "val2017" if number % 4 == 3 else "train2017"
        image |= dict(file_name=f"{stem}.jpg", coco_split=split)
    kept = {image["id"] for image in images}
    annotations = [a for a in content["annotations"] if a["image_id"] in kept]
    categories = _rename(content["categories"])
    small = dict(images=images, annotations=annotations, categories=categories)
    (out / "instances.json").write_text(json.dumps(small), encoding="utf-8")
    (out / "train2017.txt").write_text("".join(f"{stem}\n" for stem in stems))
    index = COCO(str(out / "instances.json"))
    numbers = {one["id"]: i % len(VOC) + 1 for i, one in enumerate(categories)}
    numbers |= {one["id"]: VOC.index(one["name"]) + 1 for one in categories if one["name"] in VOC}
    for image, stem in zip(images, stems, strict=True):
        labels = np.zeros((image["height"], image["width"]), np.uint8)
        for annotation in index.loadAnns(index.getAnnIds(image["id"])):
            labels[index.annToMask(annotation) > 0] = numbers[annotation["category_id"]]
        Image.fromarray(labels).save(out / "voc21" / f"{stem}.png")


def _rename(categories: list[dict]) -> list[dict]:
    """The categories, with names that mmdet's COCO dataset knows."""
    from mmdet.datasets import CocoDataset

    known, names = CocoDataset.METAINFO["classes"], [one["name"] for one in categories]
    free = iter([name for name in known if name not in names])
    names = [name if name in known else next(free, name) for name in names]
    return [dict(one, name=name) for one, name in zip(categories, names, strict=True)]
