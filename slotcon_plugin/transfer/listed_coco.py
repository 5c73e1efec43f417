"""COCO files, whole or only the images that a list names."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from tempfile import TemporaryDirectory

from mmengine.fileio import BaseStorageBackend

from ..datasets.list_files import read_list
from ..errors import DataError
from ..runtime.regular_files import read_text_file
from ..runtime.text_formats import listed

LISTED = "listed_coco"  # the name of `ListedCoco` in configs


def read_coco(path: str, names: str | None = None) -> dict:
    """The content of a COCO file, with at least one image and one category.

    With `names`, a list file, only its images and their objects. Its lines are `file_name`s, with
    or without the suffix; the file must have all of them.
    """
    try:
        content = json.loads(read_text_file(path))
        good = all(isinstance(row["file_name"], str) for row in content["images"])
        good = good and all(isinstance(row["name"], str) for row in content["categories"])
        if good and names:
            _select(content, path, names)
    except (ValueError, RecursionError, KeyError, TypeError, AttributeError) as error:
        what = f"{type(error).__name__}: {error}"
        raise DataError(f"{path} is not a COCO file, with images and categories: {what}") from error
    if not good or not content["images"] or not content["categories"]:
        raise DataError(f"{path} has no images or no categories with names, expected both.")
    return content


def _select(content: dict, path: str, names: str) -> None:
    wanted = set(read_list(names, is_known=lambda line: True))
    found, kept, others = set(), [], set()
    for row in content["images"]:
        file = row["file_name"]
        if same := wanted & {file, os.path.splitext(file)[0]}:
            found |= same
            kept.append(row)
        else:
            others.add(row["id"])
    if absent := sorted(wanted - found):
        raise DataError(
            f"{names}: {len(absent)} of {len(wanted)} names are not those of images in {path}: "
            f"{listed(absent)}. Expected are their file_name, such as "
            f"{content['images'][0]['file_name']}, with or without the suffix."
        )
    content["images"] = kept
    objects = content.get("annotations") or []
    content["annotations"] = [one for one in objects if one.get("image_id") not in others]


class ListedCoco(BaseStorageBackend):
    """A storage backend of MMEngine, for the `backend_args` of mmdet's CocoDataset and CocoMetric:
    both read their `ann_file` as if it had only the images of a list, `names`."""

    def __init__(self, names: str) -> None:
        self.names = names

    def get(self, filepath: str) -> bytes:
        return self.get_text(filepath).encode()

    def get_text(self, filepath: str, encoding: str = "utf-8") -> str:
        return json.dumps(read_coco(filepath, self.names))

    @contextmanager
    def get_local_path(self, filepath: str) -> Iterator[str]:
        with TemporaryDirectory(prefix="slotcon_listed_") as folder:
            path = os.path.join(folder, os.path.basename(filepath))
            with open(path, "w", encoding="utf-8") as file:
                file.write(self.get_text(filepath))
            yield path
