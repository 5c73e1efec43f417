"""Reading the files that users name: regular ones, of limited size, under any name."""

import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from ..errors import DataError

MOST_BYTES = 4 * 2**30  # of a list or an annotation file
HEAD = 32  # bytes by which a kind of file is recognized


def read_regular_file(
    path: str | Path, most: int = MOST_BYTES, check: Callable[[bytes], object] | None = None
) -> bytes:
    """Read a regular file of at most `most` bytes; anything else raises ValueError or OSError.

    A pipe, a device or a socket is not opened: that could wait for ever or act on the device. Of a
    file that grows, no more is read than it had when it was opened, so nothing is read of files
    without a size, as in /proc. `check` gets the first `HEAD` bytes before the others are read.
    """
    with open_regular(path) as (file, status):
        if status.st_size == 0:
            raise ValueError("the file is empty")
        if status.st_size > most:
            raise ValueError(f"the file has {status.st_size:,} bytes, expected at most {most:,}")
        if check is not None:
            check(file.read(HEAD))
            file.seek(0)
        return file.read(status.st_size)


@contextmanager
def open_regular(path: str | Path) -> Iterator[tuple[BinaryIO, os.stat_result]]:
    """A regular file, opened for reading, and its status; anything else is a ValueError."""
    _check_regular(os.stat(path))
    # Without waiting, as another file may have taken its place meanwhile.
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    with open(os.open(path, flags), "rb") as file:
        status = os.fstat(file.fileno())
        _check_regular(status)
        yield file, status


def read_text_file(path: str | Path) -> str:
    """Read a regular text file in UTF-8, with or without a byte order mark, or a DataError."""
    try:
        return read_regular_file(path).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise DataError(f"{printable(str(path))}, line {line}: {NOT_UTF8}") from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise DataError(f"{printable(str(path))} cannot be read: {reason}.") from error


NOT_UTF8 = "the text is not UTF-8. Convert the file, such as with iconv -f latin1 -t utf-8."


def printable(text: str) -> str:
    """The text with � for the bytes of file names that are not UTF-8, which print() refuses."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def _check_regular(status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        kinds = {
            stat.S_IFDIR: "a folder",
            stat.S_IFIFO: "a pipe (FIFO)",
            stat.S_IFSOCK: "a socket",
            stat.S_IFCHR: "a device",
            stat.S_IFBLK: "a device",
        }
        found = kinds.get(stat.S_IFMT(status.st_mode), "a special file")
        raise ValueError(f"it is {found}, expected a regular file")
