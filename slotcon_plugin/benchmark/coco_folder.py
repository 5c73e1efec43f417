"""Any folder in COCO's format, made into the small one that the mini configs expect.

Names of classes are lost where the configs know none for them: what comes out checks that the chain
runs, and is no data set.
"""

import hashlib
import json
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image
from pycocotools.coco import COCO

from ..errors import DataError
from ..runtime.atomic_files import write_atomically

READY = ("images", "instances.json", "voc21", "train2017.txt")
FIELDS = {"images", "annotations", "categories"}
MARKED = {"bbox", "segmentation"}  # an annotation's
COUNT = 40  # images that are taken
FEWEST = 24  # the mini configs choose among the first 21
# VOC's classes by COCO's names, in VOC's order from 1.
VOC = (
    *("airplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow"),
    *("dining table", "dog", "horse", "motorcycle", "person", "potted plant", "sheep", "couch"),
    *("train", "tv"),
)


def as_mini(source: Path, out: Path) -> Path:
    """The folder itself if it is laid out as coco_mini, else a small copy of it that is.

    Args:
        source: holds an annotation file `instances*.json`, or any other .json in COCO's format, in
            itself or in annotations/, and the images that it lists, to any depth.
        out: the copy goes into a folder in it, one for each annotation file; made once.

    Raises:
        DataError: there is no such file, or none of its images.
    """
    if all((source / name).exists() for name in READY):
        return source
    file, content = _annotations(source)
    sign = f"{file.absolute()} {file.stat().st_size} {file.stat().st_mtime_ns}"
    made = out / hashlib.sha256(sign.encode()).hexdigest()[:12]
    if made.is_dir():
        return made
    labeled = {a["image_id"] for a in content["annotations"] if not a.get("iscrowd")}
    places = _places([image for image in content["images"] if image["id"] in labeled], source)
    images = [image for image in content["images"] if image["id"] in places][:COUNT]
    if len(images) < FEWEST:
        raise DataError(
            f"{file} lists {len(content['images'])} images, and {len(images)} of them have "
            f"objects and lie under {source}; expected {FEWEST} at least. Name the "
            "folder that holds both images and annotations."
        )
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out) as unfinished:
        _write(content, images, places, Path(unfinished) / made.name)
        (Path(unfinished) / made.name).rename(made)
    return made


def _places(images: list[dict], source: Path) -> dict[int, Path]:
    """Where the images lie, by their id: at their path, or wherever their name is found. Of
    images of one name the first."""
    found = {path.name: path for path in sorted(source.rglob("*"), reverse=True) if path.is_file()}
    places, stems = {}, set()
    for image in images:
        named = source / image["file_name"]
        place = named if named.is_file() else found.get(named.name)
        if place and place.stem not in stems:
            stems.add(place.stem)
            places[image["id"]] = place
    return places


def _annotations(source: Path) -> tuple[Path, dict]:
    """The smallest annotation file: enough for a check, and quick to read."""
    if not source.is_dir():
        raise DataError(f"There is no folder {source}. DATA, or --data, names one with images.")
    found = [*source.glob("*.json"), *source.glob("annotations/*.json")]
    named = [file for file in found if file.name.startswith("instances")]
    for file in sorted(named or found, key=lambda file: file.stat().st_size):
        try:
            content = json.loads(file.read_text(encoding="utf-8"))
        except ValueError:
            continue
        complete = isinstance(content, dict) and content.keys() >= FIELDS
        if complete and content["annotations"] and content["annotations"][0].keys() >= MARKED:
            return file, content
    raise DataError(
        f"{source} is neither laid out as coco_mini ({', '.join(READY)}) nor in COCO's format: no "
        "JSON file with images, annotations (with bbox and segmentation) and categories in it or "
        "in annotations/."
    )


def _write(content: dict, images: list[dict], places: dict[int, Path], out: Path) -> None:
    (out / "images").mkdir(parents=True)
    (out / "voc21").mkdir()
    kept = {image["id"] for image in images}
    names = _class_names([category["name"] for category in content["categories"]])
    small = dict(
        images=[],
        annotations=[a for a in content["annotations"] if a["image_id"] in kept],
        categories=[
            dict(category, name=name)
            for category, name in zip(content["categories"], names, strict=True)
        ],
    )
    for number, image in enumerate(images):
        source = places[image["id"]]
        name = f"{source.stem}.jpg"
        with Image.open(source) as opened:
            opened.convert("RGB").save(out / "images" / name, quality=95)
        split = "val2017" if number % 4 == 3 else "train2017"
        small["images"].append(dict(image, file_name=name, coco_split=split))
    write_atomically(json.dumps(small).encode(), out / "instances.json")
    stems = [Path(image["file_name"]).stem for image in small["images"]]
    (out / "train2017.txt").write_text("".join(f"{stem}\n" for stem in stems))
    index = COCO(str(out / "instances.json"))
    numbers = {
        category["id"]: VOC.index(category["name"]) + 1 if category["name"] in VOC else i % 20 + 1
        for i, category in enumerate(small["categories"])
    }
    for image in small["images"]:
        labels = np.zeros((image["height"], image["width"]), np.uint8)
        for annotation in index.loadAnns(index.getAnnIds(image["id"])):
            labels[index.annToMask(annotation) > 0] = numbers[annotation["category_id"]]
        Image.fromarray(labels).save(out / "voc21" / f"{Path(image['file_name']).stem}.png")


def _class_names(names: list[str]) -> list[str]:
    """The names, those that mmdet's COCO data set does not know replaced by ones that it does."""
    from mmdet.datasets import CocoDataset

    known = CocoDataset.METAINFO["classes"]
    free = iter([name for name in known if name not in names])
    return [name if name in known else next(free, name) for name in names]
