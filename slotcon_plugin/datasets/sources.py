"""Finding the images: a folder, a glob, a list file, or the usual layout of a known data set.

Paths are listed once, in the main process, before training.
"""

import glob
import os
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from ..errors import DataError

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".jpe", ".png", ".webp", ".bmp", ".tif", ".tiff")
LIST_SUFFIXES = (".txt", ".lst", ".list")

Source = str | os.PathLike


class PresetLayout(NamedTuple):
    """Where a known data set keeps its training images under its root, and how many they are."""

    # Each entry: one folder that is needed, by its usual names.
    folders: tuple[tuple[str, ...], ...]
    images: int


PRESETS = {
    "coco": PresetLayout((("train2017", "images/train2017"),), 118_287),
    "coco+": PresetLayout(
        (("train2017", "images/train2017"), ("unlabeled2017", "images/unlabeled2017")), 241_690
    ),
    "imagenet": PresetLayout((("train", "ILSVRC/Data/CLS-LOC/train"),), 1_281_167),
}


def list_images(
    source: Source | Iterable[Source], preset: str | None = None, list_root: Source | None = None
) -> list[str]:
    """List the images of one or several sources, joined.

    Args:
        source: a folder (searched to any depth; hidden files and folders are left out), a glob
            ("**" crosses folders), or a list file (.txt, .lst, .list: one path a line, blank lines
            and lines that start with "#" left out), an image, or a sequence of these. With
            `preset`, the data set's root folder.
        preset: "coco", "coco+" or "imagenet": take the training images of that data set's usual
            layout under `source`, and warn if there are not as many as it has.
        list_root: what relative paths in list files start from; by default the list's own folder.

    Returns:
        Paths, sorted and each once. Files of a folder or a glob count as images by their suffix;
        entries of a list file are taken as they are. No file is opened.

    Raises:
        DataError: a source that does not exist, or that holds no image.
        ValueError: an unknown preset.
    """
    if preset is not None:
        if preset not in PRESETS:
            raise ValueError(f"preset is one of {', '.join(PRESETS)}, not {preset!r}")
        return _list_preset(preset, source)
    sources = [source] if isinstance(source, str | os.PathLike) else list(source)
    if not sources:
        raise DataError("No source of images is given: name a folder, a glob or a list file.")
    return sorted({path for one in sources for path in _list_one(os.fspath(one), list_root)})


def _list_one(source: str, list_root: Source | None) -> list[str]:
    source = os.path.expanduser(source)
    if os.path.isdir(source):
        found, kind = list(_walk(source)), "folder"
    elif source.lower().endswith(LIST_SUFFIXES) and not glob.has_magic(source):
        return _read_list(source, list_root)
    elif glob.has_magic(source) and not os.path.exists(source):
        matches = glob.iglob(source, recursive=True)
        found, kind = [p for p in matches if _is_image(p) and os.path.isfile(p)], "glob"
    elif os.path.isfile(source):
        found, kind = [source] if _is_image(source) else [], "file"
    else:
        raise DataError(
            f"{source} does not exist (seen from {os.getcwd()}). Expected a folder of images, a "
            "glob or a list file: check the path, or the data root of the config."
        )
    if not found:
        holds = "is" if kind == "file" else "holds"
        raise DataError(
            f"The {kind} {source} {holds} no image. Expected files ending in "
            f"{', '.join(IMAGE_SUFFIXES)} (in any case): check that the data is unpacked there."
        )
    return found


def _walk(top: str) -> Iterator[str]:
    """Every image below a folder. Symbolic links are followed, each folder is visited once."""
    pending, visited = [top], set()
    while pending:
        folder = pending.pop()
        stat = os.stat(folder)
        if (stat.st_dev, stat.st_ino) in visited:  # a link back up would never end
            continue
        visited.add((stat.st_dev, stat.st_ino))
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.name.startswith("."):
                    continue
                if entry.is_dir():
                    pending.append(entry.path)
                elif _is_image(entry.name):
                    yield entry.path


def _is_image(path: str) -> bool:
    return path.lower().endswith(IMAGE_SUFFIXES)


def _read_list(source: str, list_root: Source | None) -> list[str]:
    try:
        text = Path(source).read_text(encoding="utf-8", errors="surrogateescape")
    except OSError as error:
        raise DataError(
            f"The list of images {source} cannot be read ({error.strerror}). Expected a text "
            "file with one path a line."
        ) from error
    root = os.path.expanduser(os.fspath(list_root or os.path.dirname(source)))
    lines = (line.strip() for line in text.splitlines())
    found = [os.path.join(root, line) for line in lines if line and not line.startswith("#")]
    if not found:
        raise DataError(f"The list {source} is empty. Expected one path of an image a line.")
    if not os.path.isfile(found[0]):  # a wrong root spoils every line: say so before training
        raise DataError(
            f"The first image of the list {source}, {found[0]}, does not exist. Relative paths "
            f"start from {root or os.getcwd()}: set list_root if that is not where they lie."
        )
    return found


def _list_preset(preset: str, source: Source | Iterable[Source]) -> list[str]:
    if not isinstance(source, str | os.PathLike):
        raise ValueError(f"with a preset, source is the data set's one root folder, not {source!r}")
    root, layout = os.path.expanduser(os.fspath(source)), PRESETS[preset]
    found: list[str] = []
    for names in layout.folders:
        folders = [os.path.join(root, name) for name in names]
        folder = next((folder for folder in folders if os.path.isdir(folder)), None)
        if folder is None:
            raise DataError(
                f"The preset {preset!r} needs the folder {' or '.join(folders)}, which does not "
                "exist. Set the data root to the folder that holds it, or give the images as a "
                "folder, glob or list file without a preset."
            )
        found += _list_one(folder, None)
    if len(found) != layout.images:
        warnings.warn(
            f"{root} holds {len(found)} images of {preset!r}; the whole data set has "
            f"{layout.images}. Is it unpacked completely?",
            stacklevel=3,
        )
    return sorted(found)
