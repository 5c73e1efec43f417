"""What is checked before a program writes: the place, its space, and that no work is replaced."""

import errno
import os
import re
import secrets
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path

from ..errors import ConfigError
from .file_locks import hold

LOCK = "training.lock"
GROUPS = "groups"  # where `GroupImagesHook` draws
NOTE = "last_checkpoint"  # where MMEngine and detectron2 write the newest checkpoint's name
CHECKPOINT = re.compile(r"(?:(epoch|iter)_(\d+)|best_.+|model_(?:\d+|final))\.pth")
# MMEngine's folder of a run's log, and detectron2's files.
LOGS = re.compile(r"\d{8}_\d{6}|metrics\.json|log\.txt|events\.out\.tfevents\..+")


def check_writable(
    path: str | Path,
    option: str,
    folder: bool = False,
    inputs: Iterable[object] = (),
    overwrite: bool = True,
) -> None:
    """Raise a ConfigError if a file, or files in a folder, cannot be written; leaves nothing.

    Args:
        path: of a file that will be written or replaced, or of a folder.
        option: its name for the message, such as "--out".
        folder: whether `path` is one.
        inputs: paths of files that are read and must not be replaced; others count as none.
        overwrite: False: a file that is there, or a folder that is not empty, is an error, too.
    """
    path = Path(path)
    place = path if folder else path.parent
    existing = next(one for one in (place, *place.parents, Path()) if os.path.lexists(one))
    try:
        if not existing.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, f"{existing} is there, and no folder")
        for name in path.parts:  # one of them can be too long
            with suppress(FileNotFoundError):
                os.lstat(existing / name)
        if not folder and path.exists():
            _check_existing(path, option, inputs)
        # As long a name as `open_atomically` uses.
        probe = existing / f".{'' if folder else path.name}.{secrets.token_hex(8)}.tmp"
        try:
            probe.write_bytes(bytes(4096))
        finally:
            probe.unlink(missing_ok=True)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        raise ConfigError(
            f"{option} {path} cannot be written: {getattr(error, 'strerror', error)}. Name another "
            "place, or repair this one."
        ) from error
    if not overwrite and (path.exists() and any(path.iterdir()) if folder else path.exists()):
        found = "is a folder that is not empty" if folder else "is there already"
        raise ConfigError(f"{option} {path} {found}. Name another one, or give --overwrite.")


def _check_existing(path: Path, option: str, inputs: Iterable[object]) -> None:
    if not path.is_file():
        kind = "a folder" if path.is_dir() else "no ordinary file"
        raise ConfigError(f"{option} {path} is {kind}, expected the name of a file.")
    same = [one for one in inputs if isinstance(one, str | Path) and os.path.isfile(one)]
    if any(path.samefile(one) for one in same):
        raise ConfigError(f"{option} {path} is a file that is read. Name another one.")


@contextmanager
def claim(work_dir: str | Path, dry_run: bool = False) -> Iterator[None]:
    """Use a work dir for one training; a ConfigError if it cannot be written or another one runs.

    With `dry_run` nothing is left in it.
    """
    check_writable(work_dir, "--work-dir", folder=True)
    work_dir = Path(work_dir)
    made = [folder for folder in (work_dir, *work_dir.parents) if not folder.exists()]
    lock = work_dir / LOCK
    refusal = (
        f"Another training runs in {work_dir}; wait for its end, stop it, or choose another "
        "--work-dir. It is"
    )
    try:
        with nullcontext() if dry_run and not lock.exists() else hold(lock, refusal):
            yield
    finally:
        with suppress(OSError):  # one is not empty, or was not made
            for folder in made:
                folder.rmdir()


def find_replaced(
    work_dir: str | Path,
    start: str | Path | None = None,
    meta: dict | None = None,
    overwrite: bool = True,
    sources: Iterable[str | Path | None] = (),
) -> list[Path]:
    """The checkpoints of a work dir that a training would replace or mix with its own; if all of
    them are of an earlier training, its logs and folder of drawn groups, too.

    Args:
        start: the checkpoint that is resumed from; None: the training begins at step 0.
        meta: that of `start`: the checkpoints of its work dir up to its epoch or iteration stay.
        overwrite: False: a ConfigError if there are such checkpoints.
        sources: files that the training reads; a ConfigError if one of them is such a checkpoint.
    """
    work_dir, found = Path(work_dir), []
    here = start is not None and Path(start).resolve().parent == work_dir.resolve()
    for path in sorted(work_dir.glob("*.pth")):
        name = CHECKPOINT.fullmatch(path.name)
        if name and not (here and (name[1] is None or int(name[2]) <= meta[name[1]])):
            found.append(path)
    if found and not overwrite:
        what = "the checkpoints of an earlier training" if start is None else "checkpoints"
        other = "a new one" if start is None else f"resuming from {start}"
        option = "--resume" if start is None else "--resume without a path"
        raise ConfigError(
            f"{work_dir} has {what} ({_listed(found)}) that {other} would replace. {option} "
            "continues from the last; another --work-dir keeps both; --overwrite moves them into a "
            "folder in it."
        )
    for source in filter(None, sources):
        if Path(str(source)).resolve() in [path.resolve() for path in found]:
            raise ConfigError(
                f"The training would start from {source}, which --overwrite moves away. Choose "
                "another --work-dir."
            )
    if found and not here:
        paths = sorted(work_dir.iterdir())
        found += [one for one in paths if one.name == GROUPS or LOGS.fullmatch(one.name)]
    return found


def _listed(paths: list[Path]) -> str:
    return ", ".join(path.name for path in paths[:3]) + ", …" * (len(paths) > 3)


def move_aside(paths: list[Path], work_dir: str | Path, say: Callable[[str], None]) -> None:
    """Move what `find_replaced` found, and the note of the last checkpoint, into a new folder in
    the work dir.

    `say` is called with a line about it.
    """
    if not paths:
        return
    work_dir, number = Path(work_dir), 1
    while (folder := work_dir / f"replaced_{number}").exists():
        number += 1
    folder.mkdir()
    size = sum(path.stat().st_size for path in paths) / 2**30
    for path in [*paths, work_dir / NOTE]:
        if path.exists():
            path.rename(folder / path.name)
    say(f"moved into {folder}, which you may delete: {_listed(paths)} ({size:.2f} GiB)")
