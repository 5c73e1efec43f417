"""Checks that the images and labels of a detection or segmentation config are there."""

import os
from collections.abc import Iterator
from functools import cache

from mmengine.config import Config

from ..errors import DataError
from ..runtime.config_rules import LOADERS
from ..runtime.text_formats import listed

# Values of a config's `data_layout`: the folders of each dataset and where to download it.
LAYOUTS = {
    "coco": """COCO 2017, from https://cocodataset.org/#download (train, val, annotations):
  coco/                                    COCO_ROOT
    train2017/                             118,287 images
    val2017/                               5,000 images
    annotations/instances_train2017.json
    annotations/instances_val2017.json""",
    "voc12aug": """VOC 2012 with the additional labels of SBD: VOCtrainval from
http://host.robots.ox.ac.uk/pascal/VOC/voc2012/, SBD from
http://home.bharathh.info/pubs/codes/SBD/download.html, merged by mmseg's
tools/dataset_converters/voc_aug.py, which writes SegmentationClassAug and aug.txt:
  VOCdevkit/VOC2012/                       VOC_ROOT
    JPEGImages/                            *.jpg
    SegmentationClass/                     *.png, class indices, 255 ignored
    SegmentationClassAug/                  *.png
    ImageSets/Segmentation/train.txt       1,464 names
    ImageSets/Segmentation/aug.txt         9,118 names
    ImageSets/Segmentation/val.txt         1,449 names""",
    "cityscapes": """Cityscapes, from https://www.cityscapes-dataset.com (leftImg8bit, gtFine; needs
an account). cityscapesScripts' csCreateTrainIdLabelImgs writes *_labelTrainIds.png:
  cityscapes/                              CITYSCAPES_ROOT
    leftImg8bit/{train,val}/CITY/          2,975 and 500 *_leftImg8bit.png
    gtFine/{train,val}/CITY/               *_gtFine_labelTrainIds.png""",
    "ade20k": """ADE20K's scene parsing benchmark, from
http://data.csail.mit.edu/places/ADEchallenge/ADEChallengeData2016.zip:
  ADEChallengeData2016/                    ADE_ROOT
    images/{training,validation}/          20,210 and 2,000 *.jpg
    annotations/{training,validation}/     *.png, 0 for pixels of no class""",
    "coco_mini": """a folder of small COCO images, the path of which is in SLOTCON_DATA:
  coco_mini/
    images/                                *.jpg
    instances.json                         COCO instances of all of them
    voc21/                                 *.png, VOC's 21 classes, 255 ignored
    train2017.txt                          names of images, without suffix""",
    "own_seg": """a folder with images and label maps, which --data or DATA_ROOT names:
  DIR/
    images/train/, images/val/             images, all with one suffix
    labels/train/, labels/val/             *.png of the same names: class indices, 255 ignored
    classes.txt                            names of the classes 0, 1, ..., a line each (optional)
Or images/ and labels/ without folders in them, and the lists train.txt and val.txt of names without
suffix. Other names: --cfg-options own_data.labels=masks own_data.val=test""",
    "own_det": """a folder with images and COCO files, which --data or DATA_ROOT names:
  DIR/
    images/train/, images/val/             images; or all in images/
    labels/train.json, labels/val.json     COCO instances (also in annotations/)
Or one COCO file of all images and the lists train.txt and val.txt of their names: --cfg-options
own_data.labels=instances.json. Other names: own_data.train=train2017 own_data.val=val2017""",
}


def check_layout(cfg: Config) -> None:
    """Raise DataError if annotation files or image folders of a config's datasets are missing."""
    paths = []
    for loader in LOADERS:
        if cfg.get(loader):
            paths += _dataset_paths(cfg[loader].dataset)
    for phase in ("val", "test"):
        paths += filter(None, [one.get("ann_file") for one in evaluators(cfg, phase)])
    require_paths(list(dict.fromkeys(paths)), cfg.get("data_layout"))


def evaluators(cfg: Config, phase: str) -> list[dict]:
    """The evaluators of "val" or "test"; of "train" none."""
    found = cfg.get(f"{phase}_evaluator") or []
    return [found] if isinstance(found, dict) else found


def require_paths(paths: list[str], layout: str | None) -> None:
    """Raise DataError, with the expected layout of LAYOUTS, for absent files and empty folders."""

    def present(path: str) -> bool:
        return os.path.isfile(path) or (os.path.isdir(path) and any(os.scandir(path)))

    if missing := [path for path in paths if not present(path)]:
        raise DataError(
            f"The data of this config are incomplete. Missing or empty are {len(missing)} of "
            f"{len(paths)}:\n  " + "\n  ".join(missing) + _advice(layout)
        )


def require_files(paths: list[str], layout: str | None) -> None:
    """Raise DataError if images or label maps of a built dataset are missing.

    Each folder is read once.
    """

    @cache
    def files(folder: str) -> set[str]:
        return set(os.listdir(folder)) if os.path.isdir(folder) else set()

    missing = [path for path in paths if os.path.basename(path) not in files(os.path.dirname(path))]
    if not missing:
        return
    folder, name = os.path.split(missing[0])
    stem, similar = name.partition(".")[0], ""
    if other := next((other for other in files(folder) if other.partition(".")[0] == stem), ""):
        similar = f"\nThere is {other}: set img_suffix or seg_map_suffix of the dataset."
    names = listed(missing, separator="\n  ") + similar + _advice(layout)
    raise DataError(f"{len(missing)} of {len(paths)} files of the dataset are missing:\n  {names}")


def _dataset_paths(dataset: dict) -> Iterator[str]:
    """The files and folders in a dataset's config; wrappers have `dataset` or `datasets`."""
    for part in [*dataset.get("datasets", []), *filter(None, [dataset.get("dataset")])]:
        yield from _dataset_paths(part)
    root = dataset.get("data_root") or ""
    for name in (dataset.get("ann_file"), *(dataset.get("data_prefix") or {}).values()):
        if name:
            yield os.path.normpath(os.path.join(root, name))


def _advice(layout: str | None) -> str:
    if layout not in LAYOUTS:
        return "\nCheck data_root, ann_file and data_prefix of the config's datasets."
    return f"\nExpected: {LAYOUTS[layout]}"
