"""Checks a COCO annotation file for a library that reads it by itself, such as detectron2."""

import json

from ..errors import DataError
from ..runtime.regular_files import read_text_file
from .coco_content import Needs, check_coco, without_gc
from .object_masks import MaskFaults


def check_coco_file(
    path: str, needs: Needs, split: str | None, without_masks: str, rle: str
) -> str:
    """Read a file and check it as `check_coco` and `MaskFaults` do; returns a line about it.

    Args:
        path: the JSON file.
        needs: see `check_coco`.
        split: only images whose `coco_split` is this one are used; None: all.
        without_masks, rle: see `MaskFaults.check`; without the first, masks are not wanted.
    """
    with without_gc():
        try:
            content = json.loads(read_text_file(path))
        except (ValueError, RecursionError) as error:
            raise DataError(f"{path} is not a JSON file: {error}") from error
        line = check_coco(content, path, needs)
        wanted = {
            row["id"]: (row["file_name"], [row["height"], row["width"]])
            for row in content["images"]
            if split in (None, row.get("coco_split"))
        }
        masks = MaskFaults()
        for row in content["annotations"] if without_masks else ():
            if row["image_id"] in wanted:
                (image, size), crowd = wanted[row["image_id"]], bool(row.get("iscrowd"))
                masks.add(image, row.get("segmentation"), crowd, size)
        masks.check(path, without_masks, rle)
    return line
