"""Files that are written completely or not at all."""

import os
from pathlib import Path

from mmengine.fileio import LocalBackend


def write_atomically(data: bytes, path: str | Path) -> None:
    """Write a file whole or not at all: a temporary file in the same folder, flushed to disk, then
    renamed. The folder is made if it is missing."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        with open(temporary, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    if os.name == "posix":  # the rename itself reaches the disk with the folder
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


class AtomicLocalBackend(LocalBackend):
    """MMEngine's local storage, except that a file appears under its name only when it is complete
    and on disk.

    For `CheckpointHook(backend_args=dict(backend="atomic"))`. A process that is killed while it
    writes leaves the old file as it was and a `.NAME.tmp`, which the next write to that name
    replaces.
    """

    def put(self, obj: bytes, filepath: str | Path) -> None:
        """Write bytes to `filepath`, whole or not at all."""
        write_atomically(obj, filepath)
