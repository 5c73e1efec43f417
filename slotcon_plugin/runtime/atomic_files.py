"""Files that are written completely or not at all."""

import glob
import os
import secrets
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from io import BufferedWriter
from pathlib import Path
from typing import ClassVar

from mmengine.fileio import LocalBackend

from ..errors import TrainingStopped

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None


def write_atomically(data: bytes, path: str | Path) -> None:
    """Write a file completely or not at all, see `open_atomically`."""
    with open_atomically(path) as file:
        file.write(data)


def write_folder(files: Mapping[str, bytes], folder: str | Path) -> None:
    """Write a new folder of files completely or not at all; an existing one must be empty."""
    folder = Path(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.") as name:
        whole = Path(name, folder.name)
        whole.mkdir()
        for file, data in files.items():
            write_atomically(data, whole / file)
        os.replace(whole, folder)


@contextmanager
def open_atomically(path: str | Path) -> Iterator[BufferedWriter]:
    """Open a file for writing, which is there completely afterwards, or not after an error.

    A missing folder is made. The data are written to `.NAME.RANDOM.tmp` in the same folder, flushed
    to disk, and renamed. Several processes may write the same file: readers always see one complete
    version. Temporary files of killed processes are removed by the next write to the same path.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    file = _open_temporary(path)
    try:
        with file:
            yield file
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
            with suppress(OSError), open(abandoned, "r+b") as file:  # locked, or already gone
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
    saves a checkpoint, or a full disk, does not damage an existing file. The hook removes the
    oldest checkpoint before it saves a new one; here it is removed afterwards, so that there is
    always one.
    """

    outdated: ClassVar[list[str | Path]] = []  # the hook and `save_checkpoint` have two backends

    def put(self, obj: bytes, filepath: str | Path) -> None:
        """Write bytes completely or not at all, then remove the files of the `remove`s before."""
        # An interrupted training, which wrote nothing, may have wanted to remove one elsewhere.
        folder = Path(filepath).resolve().parent
        outdated = [p for p in map(Path, self.outdated) if p.resolve().parent == folder]
        self.outdated.clear()
        try:
            write_atomically(obj, filepath)
        except OSError as error:
            raise TrainingStopped(
                f"{filepath} ({len(obj) / 2**20:.1f} MiB) cannot be written: {error.strerror}. "
                "Earlier checkpoints are intact. Make space or repair the folder; --resume then "
                "continues from the last one."
            ) from error
        for path in outdated:
            if path != Path(filepath):
                path.unlink(missing_ok=True)

    def remove(self, filepath: str | Path) -> None:
        """Remove a file after the next `put`."""
        self.outdated.append(filepath)
