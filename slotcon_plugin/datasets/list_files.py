"""Text files that name images, labels or classes, one on each line."""

import os
import re
from collections.abc import Callable

from ..errors import DataError
from ..runtime.regular_files import NOT_UTF8, printable, read_regular_file

LONGEST_LINE = 4096  # bytes: no path of Linux is longer
NOT_DECODED = re.compile("[\udc80-\udcff]")  # bytes of a file name that are not UTF-8


def read_list(
    source: str | os.PathLike,
    is_known: Callable[[str], bool],
    read: Callable[[str | os.PathLike], bytes] = read_regular_file,
) -> list[str]:
    """The lines of a list file, without blank lines and lines that start with "#".

    The file is text in UTF-8. A line that is not UTF-8 is accepted if `is_known` of it: names of
    files may have any bytes, which Python reads as surrogates.
    """
    name, lines = printable(str(source)), []
    try:
        content = bytes(read(source)).removeprefix(b"\xef\xbb\xbf")  # Windows's mark of UTF-8
    except Exception as error:  # also of a storage backend
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
