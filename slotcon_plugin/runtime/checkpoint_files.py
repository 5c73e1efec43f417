"""Checkpoints that are written whole or not at all, and read without running what is in them.

`torch.load` unpickles, and a pickle can run any code. Everything here reads with
`weights_only=True` and a short list of allowed types, and never falls back to full unpickling.
MMEngine's own loader does fall back, which is why `use_safe_loader` puts ours in its place.
"""

import os
import pickle
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from mmengine.fileio import LocalBackend
from mmengine.logging import HistoryBuffer
from mmengine.runner import CheckpointLoader

from ..errors import CheckpointError

TRAINING_KEYS = ("meta", "state_dict", "message_hub", "optimizer")

# Every prefix that MMEngine 0.10 knows a loader for; some of those loaders unpickle in full.
REMOTE_PREFIXES = [
    "http://",
    "https://",
    "modelzoo://",
    "torchvision://",
    "open-mmlab://",
    "openmmlab://",
    "mmcls://",
]
REMOTE_PREFIXES += ["pavi://", r"(\S+\:)?s3://", r"(\S+\:)?petrel://"]


def allowed_types() -> list:
    """What a checkpoint may hold besides tensors and plain values: MMEngine's logged histories.

    They are numpy arrays and the names of four methods. numpy moved its internals from `numpy.core`
    to `numpy._core` in 2.0; files of either are readable under either.
    """
    core = getattr(np, "_core", None) or np.core
    allowed = [HistoryBuffer, np.ndarray, np.dtype, (_history_method, "builtins.getattr")]
    allowed += [type(np.dtype(kind)) for kind in ("float64", "float32", "int64", "int32", "bool")]
    for function in (core.multiarray._reconstruct, core.multiarray.scalar):
        for where in ("numpy._core", "numpy.core"):
            allowed.append((function, f"{where}.multiarray.{function.__name__}"))
    return allowed


def _history_method(owner: type, name: str) -> Callable:
    """All that a file may do with `getattr`, which at large would reach any function."""
    if owner is not HistoryBuffer or name not in ("min", "max", "mean", "current"):
        raise pickle.UnpicklingError("GLOBAL builtins.getattr")
    return getattr(owner, name)


def check_file(path: str | Path) -> Path:
    """The path of a file that is there and not empty.

    Raises:
        CheckpointError: it is missing or empty.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise CheckpointError(
            f"There is no checkpoint {path}. Check the path; --resume alone looks into the work "
            "dir."
        )
    if path.stat().st_size == 0:
        raise CheckpointError(
            f"The checkpoint {path} is empty (0 bytes). Take another one, or copy it again."
        )
    return path


def load_checkpoint_safely(
    path: str | Path, map_location: str | torch.device = "cpu", also: tuple[type, ...] = ()
) -> dict:
    """Read a checkpoint without running anything that is in it.

    Args:
        path: a file that `torch.save` wrote.
        map_location: as in `torch.load`.
        also: types that this one file may hold besides `allowed_types()`.

    Returns:
        The dictionary in the file.

    Raises:
        CheckpointError: the file is missing, empty, cut short, of another kind, or holds a type
            that is not allowed.
    """
    path = check_file(path)
    try:
        with torch.serialization.safe_globals([*allowed_types(), *also]):
            checkpoint = torch.load(path, map_location=map_location, weights_only=True)
    except Exception as error:
        # torch, zipfile and pickle raise a dozen types on a file that is not theirs.
        raise CheckpointError(why_not_loaded(path, error)) from None
    if not isinstance(checkpoint, dict):
        raise CheckpointError(
            f"{path} holds a {type(checkpoint).__name__}, not a checkpoint: a dictionary of "
            "weights was expected."
        )
    return checkpoint


def why_not_loaded(path: Path, error: Exception, kind: str = "a file that torch.save wrote") -> str:
    """What to tell the user when reading a file failed.

    Args:
        path: the file.
        error: what was raised.
        kind: what was expected.
    """
    if isinstance(error, pickle.UnpicklingError):
        found = re.search(r"GLOBAL ([\w.]+)", str(error))
        if found:
            return (
                f"The checkpoint {path} was refused: it asks for `{found[1]}`, and loading such a "
                "thing can run code. Nothing in it was run. Only tensors, plain values and "
                "MMEngine's logged histories are accepted; if you trust the file, convert it to "
                "weights alone with its own software first."
            )
    size = path.stat().st_size
    return (
        f"The checkpoint {path} ({size:,} bytes) cannot be read: it is cut short, damaged, or not "
        f"{kind} ({type(error).__name__}). Nothing in it was run. Copy it "
        "again or take an earlier one."
    )


def load_training_state(path: str | Path) -> dict:
    """Read a checkpoint to resume from, and check that it is a complete and healthy one.

    Raises:
        CheckpointError: as `load_checkpoint_safely`; or parts are missing; or a weight is not
            finite.
    """
    checkpoint = load_checkpoint_safely(path)
    missing = [key for key in TRAINING_KEYS if key not in checkpoint]
    if missing:
        raise CheckpointError(
            f"{path} cannot be resumed from: {', '.join(missing)} missing. It holds weights only; "
            "start a new training from them with --cfg-options load_from=PATH."
        )
    for name, value in checkpoint["state_dict"].items():
        if value.is_floating_point() and not torch.isfinite(value).all():
            raise CheckpointError(
                f"{path} is not worth resuming from: `{name}` is not finite. Take an earlier one."
            )
    return checkpoint


def find_last_good_checkpoint(
    work_dir: str | Path, warn: Callable[[str], None] = print
) -> tuple[Path, dict] | None:
    """The newest checkpoint of a work dir that can be resumed from, with its content.

    MMEngine notes the newest one in `last_checkpoint`, a small file that a crash can leave behind
    empty, wrong or one epoch late, so it is a first guess only; the other numbered files follow,
    the latest written first. One that was passed over is named through `warn`.

    Returns:
        The path and the checkpoint; None if the folder has no checkpoint at all.

    Raises:
        CheckpointError: there are checkpoints, and none of them is good.
    """
    work_dir = Path(work_dir)
    age = {}
    for path in work_dir.glob("*.pth"):
        number = re.fullmatch(r"(?:epoch|iter)_(\d+)\.pth", path.name)
        if number:
            age[path] = (path.stat().st_mtime_ns, int(number[1]))
    candidates = sorted(age, key=age.get, reverse=True)
    note = work_dir / "last_checkpoint"
    if note.is_file():
        # By its name alone, since the folder may have been moved.
        noted = work_dir / Path(note.read_text(errors="replace").strip()).name
        # Killed between the two writes: a file later in time and number is the last one.
        overtaken = noted in age and any(
            all(x > y for x, y in zip(a, age[noted])) for a in age.values()
        )
        if noted.is_file() and noted != work_dir and not overtaken:
            candidates = [noted, *(path for path in candidates if path != noted)]
    broken = []
    for path in candidates:
        try:
            checkpoint = load_training_state(path)
        except CheckpointError as error:
            broken.append(path.name)
            warn(f"Passing over {path.name}: {error}")
            continue
        return path, checkpoint
    if broken:
        raise CheckpointError(
            f"None of the checkpoints in {work_dir} can be resumed from ({', '.join(broken)}). "
            "Start anew in another --work-dir, or move them away."
        )
    return None


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


def use_safe_loader() -> None:
    """Make every checkpoint that MMEngine reads in this process go through
    `load_checkpoint_safely`.

    That covers resume, `load_from` and `init_cfg=dict(type="Pretrained")`. Addresses are refused:
    download first.
    """

    def load_from_safe(filename: str, map_location: str | None = None) -> dict:
        checkpoint = load_checkpoint_safely(filename, map_location)
        meta = checkpoint.get("meta")
        if isinstance(meta, dict):
            meta.pop("config", None)  # a program that Runner.resume would run; MMEngine writes none
        return checkpoint

    def load_from_address(filename: str, map_location: str | None = None) -> dict:
        raise CheckpointError(
            f"{filename} is an address. Download it, look at where it came from, and name the file."
        )

    CheckpointLoader.register_scheme(prefixes="", loader=load_from_safe, force=True)
    CheckpointLoader.register_scheme(prefixes=REMOTE_PREFIXES, loader=load_from_address, force=True)
