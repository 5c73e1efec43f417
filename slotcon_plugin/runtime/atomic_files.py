"""Files that are written completely or not at all."""

import os
import secrets
from contextlib import suppress
from io import BufferedWriter
from pathlib import Path

from mmengine.fileio import LocalBackend

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None


def write_atomically(data: bytes, path: str | Path) -> None:
    """Write a file completely or not at all.

    The data are written to a temporary file `.NAME.RANDOM.tmp` in the same folder, flushed to disk,
    and the file is renamed. Several processes may write the same file: readers always see one
    complete version. Temporary files of killed processes are removed by the next write to the
    same path. A missing folder is made.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    file = _open_temporary(path)
    try:
        with file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
            if fcntl is None:
                file.close()  # Windows does not rename an open file
            os.replace(file.name, path)
    except BaseException:
        Path(file.name).unlink(missing_ok=True)
        raise
    if os.name == "posix":  # the new name is on disk when the folder is
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    _remove_abandoned(path)


def _open_temporary(path: Path) -> BufferedWriter:
    """A new temporary file, locked for as long as it is open."""
    while True:
        # Unlike tempfile's, it has the permissions of an ordinary new file.
        file = open(path.with_name(f".{path.name}.{secrets.token_hex(8)}.tmp"), "xb")  # noqa: SIM115
        if fcntl is None:
            return file
        with suppress(OSError):  # a file system without locks
            fcntl.flock(file, fcntl.LOCK_EX)
        if os.fstat(file.fileno()).st_nlink > 0:
            return file
        file.close()  # another process removed it before it was locked


def _remove_abandoned(path: Path) -> None:
    """Remove temporary files of `path` that no process has locked: their writers were killed."""
    if fcntl is None:
        return
    for entry in os.scandir(path.parent):
        if not (entry.name.startswith(f".{path.name}.") and entry.name.endswith(".tmp")):
            continue
        with suppress(OSError), open(entry.path, "rb") as file:  # locked, or already gone
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.unlink(entry.path)


class AtomicLocalBackend(LocalBackend):
    """MMEngine's local storage with `write_atomically`.

    For `CheckpointHook(backend_args=dict(backend="atomic"))`: a process that is killed while it
    saves a checkpoint does not damage an existing file.
    """

    def put(self, obj: bytes, filepath: str | Path) -> None:
        """Write bytes to `filepath` completely or not at all."""
        write_atomically(obj, filepath)
