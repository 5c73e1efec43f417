"""Finding images: in a folder, a glob, a list file, an archive, a data set or a storage backend, or
in the usual folders of a known dataset."""

import glob
import itertools
import os
import re
import warnings
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Iterator

from mmengine.logging import print_log

from ..errors import DataError
from ..runtime.regular_files import printable, read_regular_file
from .archives import ARCHIVE_SUFFIXES, SOLID_SUFFIXES, open_archive, split_archive
from .hugging_face import PREFIX, open_rows, split_address
from .list_files import read_list
from .storage import URI, is_elsewhere, list_elsewhere, open_backend

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".jpe", ".png", ".webp", ".bmp", ".tif", ".tiff")
LIST_SUFFIXES = (".txt", ".lst", ".list")
HIDDEN = re.compile(r"(^|/)\.")

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
    backend_args: dict | None = None,
) -> list[str]:
    """List the addresses of the images of a source or of several, sorted, without duplicates.

    An address is the path of a file, or what `storage` says. docs/images.md describes the sources.

    Hidden files and folders are skipped. Files of folders and globs are images if their suffix says
    so, and the others are counted and reported; list files may name any file. No image is opened.

    Args:
        source: a folder (searched to any depth), a glob ("**" matches folders to any depth), a list
            file (.txt, .lst, .list: see `list_files`), an archive (.zip, .tar) or a folder in it,
            a Hugging Face data set (hf:NAME?split=train&column=image), an image, or a sequence of
            these. With `preset`, the dataset's root folder.
        preset: "coco", "coco+" or "imagenet": list the training images of that dataset under
            `source`, and warn if their number is not the dataset's.
        list_root: folder or archive to which relative paths in list files refer; by default the
            list's own folder.
        skipped: counts, by suffix, the files of folders and globs that are not images, instead of
            the report.
        backend_args: of MMEngine's storage backend in which the sources are. Without it, URIs such
            as s3://bucket/folder are read by the backend of their prefix.
    """
    counts = Counter() if skipped is None else skipped
    if preset is not None:
        found = _list_preset(preset, source, counts, backend_args)
    else:
        is_one = isinstance(source, Source) or not isinstance(source, Iterable)
        sources = [source] if is_one else list(source)
        if wrong := [one for one in sources if not isinstance(one, Source)]:
            raise DataError(f"{wrong[0]!r} is given as a source of images, expected a path.")
        if not sources:
            raise DataError("No source of images is given: name a folder, a glob or a list file.")
        listed = (_list_one(one, list_root, counts, backend_args) for one in sources)
        found = sorted(set(itertools.chain.from_iterable(listed)))
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


def _list_one(
    source: Source, list_root: Source | None, skipped: Counter, backend_args: dict | None = None
) -> list[str]:
    source = os.fspath(source)
    if source.startswith(PREFIX):
        return _list_rows(source)
    elsewhere, source = is_elsewhere(source, backend_args), os.path.expanduser(source)
    suffix = os.path.splitext(source)[1].lower()
    has_magic, others = glob.has_magic(source) and not os.path.exists(source), Counter()
    if suffix in LIST_SUFFIXES and (elsewhere or not glob.has_magic(source)):
        return _listed(source, list_root, backend_args)
    if elsewhere and suffix not in (*IMAGE_SUFFIXES, *ARCHIVE_SUFFIXES, *SOLID_SUFFIXES):
        files, kind = list_elsewhere(source, backend_args), "folder"
    elif elsewhere:
        files, kind = [source], "file"
    elif os.path.isdir(source):
        files, kind = walk_files(source), "folder"
    elif found := split_archive(source):
        files, kind = _members(*found, others), "archive"
    elif has_magic and suffix in ARCHIVE_SUFFIXES:
        archives = sorted(glob.glob(source, recursive=True))
        return [path for one in archives for path in _list_one(one, None, skipped)]
    elif has_magic:
        matches = glob.iglob(source, recursive=True)
        files, kind = itertools.filterfalse(os.path.isdir, matches), "glob"
    elif os.path.lexists(source):
        files, kind = [source], "file"
    else:
        raise DataError(
            f"{source} does not exist (seen from {os.getcwd()}). Expected a folder of images, a "
            "glob, a list file, an archive or hf:DATA_SET: check the path, or the data root of the "
            "config."
        )
    found = []
    for file in files:
        suffix = os.path.splitext(file)[1].lower()
        if suffix in IMAGE_SUFFIXES:
            found.append(file)
        else:
            others[suffix or "without suffix"] += 1
    if not found:
        problem = "is not an image" if kind == "file" else "contains no image"
        raise DataError(
            f"The {kind} {printable(source)} {problem} (other files: {suffix_counts(others)}). "
            f"Expected files with the suffix {', '.join(IMAGE_SUFFIXES)}: "
            f"{_advice(source, kind, others)}"
        )
    skipped.update(others)
    return found


def _advice(source: str, kind: str, others: Counter) -> str:
    if solid := [suffix for suffix in SOLID_SUFFIXES if suffix in others]:
        return (
            f"an archive that is compressed as a whole ({solid[0]}) cannot be read in any order. "
            "Decompress it to .tar, or unpack it."
        )
    if kind == "archive":
        return "name the archive, or a folder in it."
    if archives := [suffix for suffix in ARCHIVE_SUFFIXES if suffix in others]:
        if is_elsewhere(source, None) or kind == "file":
            return "an archive is read only from a disk of this machine: copy or unpack it."
        return f"archives in it are read if a glob names them: {source}/*{archives[0]}"
    return "check that the data is unpacked there."


def _members(archive: str, folder: str, skipped: Counter) -> Iterator[str]:
    """Addresses of an archive's members in a folder ("": in all of it), or of one, in order; hidden
    ones are left out."""
    members = open_archive(archive, again=True)
    first = bisect_left(members.names, folder)
    for name in itertools.islice(members.names, first, None):
        if not name.startswith(folder):
            break
        if name == folder:  # only one is named
            yield f"{archive}/{name}"
            return
        if name.startswith(f"{folder}/".lstrip("/")) and not HIDDEN.search(name):
            yield f"{archive}/{name}"
    skipped.update(members.skipped)


def _list_rows(address: str) -> list[str]:
    source, name = split_address(address)
    rows = open_rows(source, again=not name)
    return [f"{rows.source}/{one}" for one in ([name] if name else rows.names)]


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


def _listed(source: str, list_root: Source | None, backend_args: dict | None) -> list[str]:
    root = os.path.dirname(source) if list_root is None else os.fspath(list_root)
    root = root if URI.match(root) else os.path.expanduser(root)
    read, elsewhere = read_regular_file, is_elsewhere(source, backend_args)
    if elsewhere and not os.path.exists(source):  # the list can be here, and the images elsewhere
        read = open_backend(source, backend_args).get

    def address(line: str) -> str:
        return line if URI.match(line) else os.path.join(root, line)

    lines = read_list(source, lambda line: os.path.lexists(address(line)), read)
    found = [address(line) for line in lines]
    first = found[0]
    if not (is_elsewhere(first, backend_args) or os.path.isfile(first) or split_archive(first)):
        # With a wrong root no path exists: report it before training.
        raise DataError(
            f"The first image of the list {source}, {first}, does not exist. Relative paths "
            f"refer to {root or os.getcwd()}: set list_root to the folder to which they belong."
        )
    return found


def _list_preset(
    preset: str,
    source: Source | Iterable[Source],
    skipped: Counter,
    backend_args: dict | None,
) -> list[str]:
    if preset not in PRESETS:
        raise ValueError(f"preset is {preset!r}, expected one of {', '.join(PRESETS)}")
    if not isinstance(source, Source):
        raise ValueError(f"source is {source!r}, expected the root folder of the preset's dataset")
    root, (folders, images) = os.path.expanduser(os.fspath(source)), PRESETS[preset]
    found: list[str] = []
    for names in folders:
        candidates = [os.path.join(root, name) for name in names]
        # Archives as they are downloaded may be there instead of folders.
        packed = [one + suffix for one in candidates for suffix in ARCHIVE_SUFFIXES]
        there = (one for one in candidates + packed if _is_there(one, backend_args))
        folder = next(there, None)
        if folder is None:
            raise DataError(
                f"The preset {preset!r} needs the folder {' or '.join(candidates)}, which does not "
                "exist. Set the data root to the folder that contains it; or give other images, a "
                "folder, glob or list file, by --data (data=), or in a config as `source` with "
                "`preset=None` beside it (train_dataloader.dataset.preset=None)."
            )
        found += _list_one(folder, None, skipped, backend_args)
    if len(found) != images:
        warnings.warn(
            f"{root} contains {len(found)} images of {preset!r}; the whole dataset has {images}. "
            "Is it unpacked completely?",
            stacklevel=3,
        )
    return sorted(found)


def _is_there(path: str, backend_args: dict | None) -> bool:
    if is_elsewhere(path, backend_args):
        return open_backend(path, backend_args).isdir(path)
    return os.path.isdir(path) or (path.endswith(ARCHIVE_SUFFIXES) and os.path.isfile(path))
