"""Finding images: a folder, a glob, a list file, or the usual folders of a known dataset."""

import glob
import itertools
import os
import re
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator

from mmengine.logging import print_log

from ..errors import DataError
from ..runtime.regular_files import NOT_UTF8, printable, read_regular_file

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".jpe", ".png", ".webp", ".bmp", ".tif", ".tiff")
LIST_SUFFIXES = (".txt", ".lst", ".list")

LONGEST_LINE = 4096  # bytes: no path of Linux is longer
NOT_DECODED = re.compile("[\udc80-\udcff]")  # bytes of a file name that are not UTF-8

Source = str | os.PathLike

# Preset -> usual names of each folder of training images under the root, number of images.
COCO_TRAIN = ("train2017", "images/train2017")
COCO_UNLABELED = ("unlabeled2017", "images/unlabeled2017")
PRESETS = {
    "coco": ([COCO_TRAIN], 118_287),
    "coco+": ([COCO_TRAIN, COCO_UNLABELED], 241_690),
    "imagenet": ([("train", "ILSVRC/Data/CLS-LOC/train")], 1_281_167),
}


def list_images(
    source: Source | Iterable[Source],
    preset: str | None = None,
    list_root: Source | None = None,
    skipped: Counter | None = None,
) -> list[str]:
    """List the paths of the images of one source or of several, sorted and without duplicates.

    Hidden files and folders are skipped. Files of folders and globs are images if their suffix says
    so, and the others are counted and reported; list files may name any file. No image is opened.

    Args:
        source: a folder (searched to any depth), a glob ("**" matches folders to any depth), a list
            file (.txt, .lst, .list: see `read_list`), an image, or a sequence of these. With
            `preset`, the dataset's root folder.
        preset: "coco", "coco+" or "imagenet": list the training images of that dataset under
            `source`, and warn if their number is not the dataset's.
        list_root: folder to which relative paths in list files refer; by default the list's own.
        skipped: counts, by suffix, the files of folders and globs that are not images, instead of
            the report.
    """
    counts = Counter() if skipped is None else skipped
    if preset is not None:
        found = _list_preset(preset, source, counts)
    else:
        is_one = isinstance(source, Source) or not isinstance(source, Iterable)
        sources = [source] if is_one else list(source)
        if wrong := [one for one in sources if not isinstance(one, Source)]:
            raise DataError(f"{wrong[0]!r} is given as a source of images, expected a path.")
        if not sources:
            raise DataError("No source of images is given: name a folder, a glob or a list file.")
        found = sorted({path for one in sources for path in _list_one(one, list_root, counts)})
    if skipped is None:
        report_skipped(len(found), counts)
    return found


def report_skipped(images: int, skipped: Counter) -> None:
    """Log how many files were skipped because of their suffix, if any."""
    if skipped:
        others = suffix_counts(skipped)
        print_log(f"{images} images; other files, not used: {others}", "current")


def suffix_counts(skipped: Counter) -> str:
    """The most frequent suffixes as text."""
    listed = [f"{count} {suffix}" for suffix, count in skipped.most_common(5)]
    if rest := skipped.total() - sum(count for _, count in skipped.most_common(5)):
        listed.append(f"{rest} others")
    return printable(", ".join(listed)) or "none"


def read_list(source: Source, is_known: Callable[[str], bool]) -> list[str]:
    """The lines of a list file, without blank lines and lines that start with "#".

    The file is text in UTF-8. A line that is not UTF-8 is accepted if `is_known` of it: names of
    files may have any bytes, which Python reads as surrogates.
    """
    name, lines = printable(str(source)), []
    try:
        content = read_regular_file(source).removeprefix(b"\xef\xbb\xbf")  # Windows's mark of UTF-8
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise DataError(f"The list {name} cannot be read: {reason}.") from error
    # Of bytes, because str.splitlines() also splits at characters that a name may contain.
    for number, raw in enumerate(content.splitlines(), 1):
        line, problem = os.fsdecode(raw.strip()), None
        if not line or line.startswith("#"):
            continue
        if len(raw) > LONGEST_LINE:
            problem = f"{len(raw):,} bytes, more than a path can have. Is it a text file?"
        elif b"\0" in raw:
            problem = "a zero byte. Save the list as UTF-8 text, not as UTF-16 or in binary."
        elif NOT_DECODED.search(line) and not is_known(line):
            problem = f"{printable(line)}, which names no file, and {NOT_UTF8}"
        if problem:
            raise DataError(f"The list {name}, line {number}, has {problem}")
        lines.append(line)
    if not lines:
        raise DataError(f"The list {name} is empty. Expected one image on each line.")
    return lines


def _list_one(source: Source, list_root: Source | None, skipped: Counter) -> list[str]:
    source = os.path.expanduser(os.fspath(source))
    if os.path.isdir(source):
        files, kind = walk_files(source), "folder"
    elif source.lower().endswith(LIST_SUFFIXES) and not glob.has_magic(source):
        return _listed(source, list_root)
    elif glob.has_magic(source) and not os.path.exists(source):
        matches = glob.iglob(source, recursive=True)
        files, kind = itertools.filterfalse(os.path.isdir, matches), "glob"
    elif os.path.lexists(source):
        files, kind = [source], "file"
    else:
        raise DataError(
            f"{source} does not exist (seen from {os.getcwd()}). Expected a folder of images, a "
            "glob or a list file: check the path, or the data root of the config."
        )
    found, others = [], Counter()
    for file in files:
        suffix = os.path.splitext(file)[1].lower()
        if suffix in IMAGE_SUFFIXES:
            found.append(file)
        else:
            others[suffix or "without suffix"] += 1
    if not found:
        problem = "is not an image" if kind == "file" else "contains no image"
        raise DataError(
            f"The {kind} {source} {problem} (other files: {suffix_counts(others)}). Expected files "
            f"with the suffix {', '.join(IMAGE_SUFFIXES)}: check that the data is unpacked there."
        )
    skipped.update(others)
    return found


def walk_files(top: Source) -> Iterator[str]:
    """Every file below a folder that is not hidden. Links are followed, no folder twice."""
    visited = set()
    for folder, subfolders, files in os.walk(top, onerror=_refuse, followlinks=True):
        try:
            stat = os.stat(folder)
        except OSError as error:  # removed meanwhile
            _refuse(error)
        if (stat.st_dev, stat.st_ino) in visited:  # a link to a parent would never end
            subfolders.clear()
            continue
        visited.add((stat.st_dev, stat.st_ino))
        subfolders[:] = [name for name in subfolders if not name.startswith(".")]
        yield from (os.path.join(folder, name) for name in files if not name.startswith("."))


def _refuse(error: OSError) -> None:
    folder = printable(str(error.filename))
    raise DataError(f"The folder {folder} cannot be listed: {error.strerror}.") from error


def _listed(source: str, list_root: Source | None) -> list[str]:
    root = os.path.expanduser(os.fspath(list_root or os.path.dirname(source)))
    lines = read_list(source, lambda line: os.path.lexists(os.path.join(root, line)))
    found = [os.path.join(root, line) for line in lines]
    if not os.path.isfile(found[0]):  # with a wrong root no path exists: report it before training
        raise DataError(
            f"The first image of the list {source}, {found[0]}, does not exist. Relative paths "
            f"refer to {root or os.getcwd()}: set list_root to the folder to which they belong."
        )
    return found


def _list_preset(preset: str, source: Source | Iterable[Source], skipped: Counter) -> list[str]:
    if preset not in PRESETS:
        raise ValueError(f"preset is {preset!r}, expected one of {', '.join(PRESETS)}")
    if not isinstance(source, Source):
        raise ValueError(f"source is {source!r}, expected the root folder of the preset's dataset")
    root, (folders, images) = os.path.expanduser(os.fspath(source)), PRESETS[preset]
    found: list[str] = []
    for names in folders:
        candidates = [os.path.join(root, name) for name in names]
        folder = next(filter(os.path.isdir, candidates), None)
        if folder is None:
            raise DataError(
                f"The preset {preset!r} needs the folder {' or '.join(candidates)}, which does not "
                "exist. Set the data root to the folder that contains it, or give the images as a "
                "folder, glob or list file without a preset."
            )
        found += _list_one(folder, None, skipped)
    if len(found) != images:
        warnings.warn(
            f"{root} contains {len(found)} images of {preset!r}; the whole dataset has {images}. "
            "Is it unpacked completely?",
            stacklevel=3,
        )
    return sorted(found)
