"""Files that are written completely or not at all."""

import glob
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
    """Write a file completely or not at all; a missing folder is made.

    The data are written to `.NAME.RANDOM.tmp` in the same folder, flushed to disk, and renamed.
    Several processes may write the same file: readers always see one complete version. Temporary
    files of killed processes are removed by the next write to the same path.
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
    if fcntl is not None:
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)  # the new name is on disk when the folder is
        finally:
            os.close(folder)
        for abandoned in path.parent.glob(f".{glob.escape(path.name)}.*.tmp"):
            with suppress(OSError), open(abandoned, "rb") as file:  # locked, or already gone
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                abandoned.unlink()


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


class AtomicLocalBackend(LocalBackend):
    """MMEngine's local storage with `write_atomically`.

    For `CheckpointHook(backend_args=dict(backend="atomic"))`: a process that is killed while it
    saves a checkpoint does not damage an existing file.
    """

    def put(self, obj: bytes, filepath: str | Path) -> None:
        """Write bytes to `filepath` completely or not at all."""
        write_atomically(obj, filepath)
