"""Images in zip and tar archives: indexed once, then read from any place without unpacking."""

import os
import re
import stat
import tarfile
import zipfile
import zlib
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator

import numpy as np

from ..errors import DataError
from ..runtime.regular_files import open_regular, printable
from .path_table import PathTable

ARCHIVE_SUFFIXES = (".zip", ".tar")
# Compressed as a whole: to read one member, everything before it must be decompressed.
SOLID_SUFFIXES = (".tgz", ".tbz", ".tbz2", ".txz", ".gz", ".bz2", ".xz", ".zst", ".7z", ".rar")
_END = re.compile(r"(?<=\.(zip|tar))(?=/|$)", re.IGNORECASE)

Place = tuple[int, ...]


class Members:
    """Sorted names of images that are no files of their own, and numbers that say where each is.

    Both are arrays without Python objects, which worker processes share after a fork.
    """

    def __init__(self, places: dict[str, Place]):
        names = sorted(places)
        self.names = PathTable(names)
        self._places = np.array([places[name] for name in names], np.int64)

    @property
    def nbytes(self) -> int:
        """Bytes of memory."""
        return self._places.nbytes + sum(len(part) for part in self.names.digest_parts())

    def place(self, name: str) -> Place:
        """The numbers of a member; a ValueError if there is none of this name."""
        index = bisect_left(self.names, name)
        if index == len(self.names) or self.names[index] != name:
            raise ValueError("there is no such member")
        return tuple(self._places[index].tolist())


class Archive(Members):
    """The members of an archive that are ordinary files; `skipped` counts the others by kind.

    A member is read by a file handle of its own, so by any number of processes and threads. An
    archive that was changed after it was indexed is not read.
    """

    def __init__(self, path: str):
        self.path, self.skipped = path, Counter()
        try:
            with open_regular(path) as (file, status):
                self._sign = _sign(status)
                found = _zip_members if path.lower().endswith(".zip") else _tar_members
                super().__init__(dict(self._accepted(found(file))))
        except Exception as error:  # almost any, from damaged archives
            problem = getattr(error, "strerror", None) or error
            raise DataError(
                f"The archive {printable(path)} cannot be read: {problem}. Expected a whole .zip, "
                "or a whole .tar that is not compressed."
            ) from error

    def is_current(self) -> bool:
        """Whether the file is the one that was indexed."""
        return self._sign == _sign(os.stat(self.path))

    def read(self, name: str, most: int) -> bytes:
        """The bytes of a member, at most `most`; a ValueError says why it cannot be read."""
        offset, size, *compressed = self.place(name)
        if size == 0:
            raise ValueError("the file is empty")
        if max(size, *compressed[:1], 0) > most:
            raise ValueError(f"the file has {size:,} bytes, expected at most {most:,}")
        with open_regular(self.path) as (file, status):
            if _sign(status) != self._sign:
                raise ValueError("the archive was changed after its members were listed")
            file.seek(offset)
            if compressed:
                return _read_zipped(file, size, *compressed)
            data = file.read(size)
        if len(data) != size:
            raise ValueError("the archive ends within it")
        return data

    def _accepted(self, members: Iterator[tuple[str, str, Place]]) -> Iterator[tuple[str, Place]]:
        """Names, without "./", and places; the other members are counted."""
        for name, problem, place in members:
            parts = [part for part in name.split("/") if part not in ("", ".")]
            if problem or name.startswith("/") or ".." in parts or not parts:
                self.skipped[problem or "with an absolute path or '..'"] += 1
            else:
                yield "/".join(parts), place


def _sign(status: os.stat_result) -> tuple:
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def _zip_members(file) -> Iterator[tuple[str, str, Place]]:
    """Name, reason not to read it, and (offset, size, compressed size, method, CRC), of each."""
    with zipfile.ZipFile(file) as archive:
        for info in archive.infolist():
            kind = stat.S_IFMT(info.external_attr >> 16)
            if info.is_dir() or kind == stat.S_IFDIR:
                continue
            problem = ""
            if info.flag_bits & 1:
                problem = "encrypted"
            elif kind not in (0, stat.S_IFREG):
                problem = "links or devices"
            elif info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                problem = f"compressed by {zipfile.compressor_names.get(info.compress_type, '?')}"
            sizes = info.file_size, info.compress_size
            yield info.filename, problem, (info.header_offset, *sizes, info.compress_type, info.CRC)


def _read_zipped(file, size: int, compressed: int, method: int, crc: int) -> bytes:
    header = file.read(zipfile.sizeFileHeader)
    if len(header) < zipfile.sizeFileHeader or header[:4] != zipfile.stringFileHeader:
        raise ValueError("the archive is damaged: the member does not begin where it should")
    file.seek(sum(int.from_bytes(header[at : at + 2], "little") for at in (26, 28)), os.SEEK_CUR)
    data = file.read(compressed)
    if method == zipfile.ZIP_DEFLATED:
        data = zlib.decompressobj(-zlib.MAX_WBITS).decompress(data, size)
    if len(data) != size or zlib.crc32(data) != crc:
        raise ValueError("the archive is damaged: the member's size or checksum is another")
    return data


def _tar_members(file) -> Iterator[tuple[str, str, Place]]:
    """Name, reason not to read it, and (offset, size), of each."""
    with tarfile.open(fileobj=file, mode="r:") as archive:
        before = -1
        for info in archive:
            archive.members.clear()  # it would keep all
            if info.offset <= before or info.size < 0:
                raise ValueError(f"the member at byte {info.offset:,} has a wrong size")
            before = info.offset
            if info.isdir():
                continue
            problem = "" if info.isreg() and not info.issparse() else "links or devices"
            yield info.name, problem, (info.offset_data, info.size)
        file.seek(archive.offset)
        if (rest := file.read(tarfile.BLOCKSIZE)).strip(b"\0") or len(rest) < tarfile.BLOCKSIZE:
            raise ValueError(f"it is damaged or not complete after byte {archive.offset:,}")


_opened: dict[str, Archive] = {}


def open_archive(path: str, again: bool = False) -> Archive:
    """An archive's members; with `again`, indexed again if the file was changed."""
    if path not in _opened or (again and not _opened[path].is_current()):
        _opened[path] = Archive(path)
    return _opened[path]


def split_archive(path: str) -> tuple[str, str] | None:
    """The archive and the name in it ("" for all) that a path such as "a.zip/b/c.jpg" means."""
    for end in (match.start() for match in _END.finditer(path)):
        if path[:end] in _opened or os.path.isfile(path[:end]):
            return path[:end], path[end:].strip("/")
    return None
