"""Are the images and labels of a detection or segmentation config where it expects them?"""

import os
from collections.abc import Iterator
from pathlib import Path

from mmengine.config import Config

from ..errors import DataError

NAMED = 8  # files that a message names

# What a config's `data_layout` may name: how the data set lies, and where it is to be had.
LAYOUTS = {
    "coco": """COCO 2017, from https://cocodataset.org/#download (train, val, annotations):
  coco/                                    COCO_ROOT
    train2017/                             118,287 images
    val2017/                               5,000 images
    annotations/instances_train2017.json
    annotations/instances_val2017.json""",
    "voc12aug": """VOC 2012 with the additional labels of SBD: VOCtrainval from
http://host.robots.ox.ac.uk/pascal/VOC/voc2012/, SBD from
http://home.bharathh.info/pubs/codes/SBD/download.html, brought together by mmseg's
tools/dataset_converters/voc_aug.py, which writes SegmentationClassAug and aug.txt:
  VOCdevkit/VOC2012/                       VOC_ROOT
    JPEGImages/                            *.jpg
    SegmentationClass/                     *.png, class indices, 255 ignored
    SegmentationClassAug/                  *.png
    ImageSets/Segmentation/train.txt       1,464 names
    ImageSets/Segmentation/aug.txt         9,118 names
    ImageSets/Segmentation/val.txt         1,449 names""",
    "cityscapes": """Cityscapes, from https://www.cityscapes-dataset.com (leftImg8bit, gtFine; with
an account). *_labelTrainIds.png are written by cityscapesScripts' csCreateTrainIdLabelImgs:
  cityscapes/                              CITYSCAPES_ROOT
    leftImg8bit/{train,val}/CITY/          2,975 and 500 *_leftImg8bit.png
    gtFine/{train,val}/CITY/               *_gtFine_labelTrainIds.png""",
    "ade20k": """ADE20K's scene parsing benchmark, from
http://data.csail.mit.edu/places/ADEchallenge/ADEChallengeData2016.zip:
  ADEChallengeData2016/                    ADE_ROOT
    images/{training,validation}/          20,210 and 2,000 *.jpg
    annotations/{training,validation}/     *.png, 0 for what is no class""",
    "coco_mini": """a folder of small COCO images (SLOTCON_DATA names it):
  coco_mini/
    images/                                *.jpg
    instances.json                         COCO instances of all of them
    voc21/                                 *.png, VOC's 21 classes, 255 ignored
    train2017.txt                          names of images, without suffix""",
}


def check_layout(cfg: Config) -> None:
    """Name everything that is missing before anything is built.

    Looks for the annotation files and image folders of the training, validation and test sets.

    Raises:
        DataError: something is missing; the message names it all, and where the data are to be had.
    """
    wanted = list(dict.fromkeys(_wanted(cfg)))
    missing = [path for path in wanted if not _is_there(path)]
    if missing:
        raise DataError(
            f"The data of this config are not complete. Missing, or empty, {len(missing)} of "
            f"{len(wanted)}:\n  " + "\n  ".join(missing) + _advice(cfg)
        )


def check_listed_files(dataset, cfg: Config) -> None:
    """Look for every image and label map that a built data set lists. Folders are read once.

    Raises:
        DataError: some are missing; the message has their number and names the first.
    """
    folders: dict[str, set[str]] = {}

    def exists(path: str) -> bool:
        folder, name = os.path.split(path)
        if folder not in folders:
            folders[folder] = set(os.listdir(folder)) if os.path.isdir(folder) else set()
        return name in folders[folder]

    listed = 0
    missing = []
    for index in range(len(dataset)):
        sample = dataset.get_data_info(index)
        paths = [sample[key] for key in ("img_path", "seg_map_path") if sample.get(key)]
        listed += len(paths)
        missing += [path for path in paths if not exists(path)]
    if missing:
        more = f"\n  and {len(missing) - NAMED} more" if len(missing) > NAMED else ""
        raise DataError(
            f"{len(missing)} of {listed} files that the data set lists are missing:\n  "
            + "\n  ".join(missing[:NAMED])
            + more
            + _advice(cfg)
        )


def _wanted(cfg: Config) -> Iterator[str]:
    for loader in ("train_dataloader", "val_dataloader", "test_dataloader"):
        if cfg.get(loader):
            yield from _paths_of(cfg[loader].dataset)
    for name in ("val_evaluator", "test_evaluator"):
        evaluators = cfg.get(name) or []
        for evaluator in [evaluators] if isinstance(evaluators, dict) else evaluators:
            if evaluator.get("ann_file"):
                yield evaluator["ann_file"]


def _paths_of(dataset: dict) -> Iterator[str]:
    """The files and folders of a data set's config; wrappers hold it in `dataset` or `datasets`."""
    for part in [*dataset.get("datasets", []), *filter(None, [dataset.get("dataset")])]:
        yield from _paths_of(part)
    root = dataset.get("data_root") or ""
    for name in (dataset.get("ann_file"), *(dataset.get("data_prefix") or {}).values()):
        if name:
            yield os.path.normpath(os.path.join(root, name))


def _is_there(path: str) -> bool:
    return Path(path).is_file() or (Path(path).is_dir() and any(os.scandir(path)))


def _advice(cfg: Config) -> str:
    layout = cfg.get("data_layout")
    if layout not in LAYOUTS:
        return "\nThe paths are those of the config's dataset entries, under their data_root."
    return f"\nExpected: {LAYOUTS[layout]}"
