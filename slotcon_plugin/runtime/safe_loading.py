"""Reads checkpoints without running code that is in them.

`torch.load` unpickles, and a pickle can run any code. Everything here reads with
`weights_only=True` and a short list of allowed types, and never falls back to full unpickling.
MMEngine's own loader does fall back; `use_safe_loader` replaces it.
"""

import pickle
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from mmengine.logging import HistoryBuffer
from mmengine.runner import CheckpointLoader

from ..errors import CheckpointError

# The prefixes for which MMEngine 0.10 has a loader; some of those loaders unpickle fully.
REMOTE_PREFIXES = [
    *("http://", "https://", "modelzoo://", "torchvision://", "open-mmlab://", "openmmlab://"),
    *("mmcls://", "pavi://", r"(\S+\:)?s3://", r"(\S+\:)?petrel://"),
]


def allowed_types() -> list:
    """What a checkpoint may contain besides tensors and plain values: MMEngine's logged histories.

    They are numpy arrays and the names of four methods. numpy moved its internals from `numpy.core`
    to `numpy._core` in 2.0; files with either name are readable with either version.
    """
    core = getattr(np, "_core", None) or np.core
    allowed = [HistoryBuffer, np.ndarray, np.dtype, (_history_method, "builtins.getattr")]
    allowed += [type(np.dtype(kind)) for kind in ("float64", "float32", "int64", "int32", "bool")]
    for function in (core.multiarray._reconstruct, core.multiarray.scalar):
        for where in ("numpy._core", "numpy.core"):
            allowed.append((function, f"{where}.multiarray.{function.__name__}"))
    return allowed


def _history_method(owner: type, name: str) -> Callable:
    """Replaces `getattr`, with which a file could otherwise reach any function."""
    if owner is not HistoryBuffer or name not in ("min", "max", "mean", "current"):
        raise pickle.UnpicklingError("GLOBAL builtins.getattr")
    return getattr(owner, name)


def check_file(path: str | Path) -> Path:
    """The expanded path of a file that exists and is not empty.

    Raises:
        CheckpointError: it does not exist or is empty.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise CheckpointError(
            f"There is no checkpoint {path}. Check the path; --resume alone searches the work dir."
        )
    if path.stat().st_size == 0:
        raise CheckpointError(
            f"The checkpoint {path} is empty (0 bytes). Use another one, or copy it again."
        )
    return path


def load_checkpoint_safely(
    path: str | Path, map_location: str | torch.device = "cpu", also: tuple[type, ...] = ()
) -> dict:
    """Read a checkpoint without running anything that is in it.

    Args:
        path: a file that `torch.save` wrote.
        map_location: as in `torch.load`.
        also: types that are allowed besides `allowed_types()`.

    Returns:
        The dictionary in the file.

    Raises:
        CheckpointError: the file is missing, empty, truncated, of another kind, or contains a type
            that is not allowed.
    """
    path = check_file(path)
    try:
        with torch.serialization.safe_globals([*allowed_types(), *also]):
            checkpoint = torch.load(path, map_location=map_location, weights_only=True)
    except Exception as error:
        # torch, zipfile and pickle raise many types of errors for files of other kinds.
        raise CheckpointError(why_not_loaded(path, error)) from None
    if not isinstance(checkpoint, dict):
        raise CheckpointError(
            f"{path} contains a {type(checkpoint).__name__}, not a checkpoint: a dictionary of "
            "weights was expected."
        )
    return checkpoint


def why_not_loaded(path: Path, error: Exception, kind: str = "a file that torch.save wrote") -> str:
    """The message for a file that could not be read.

    Args:
        path: the file.
        error: what was raised.
        kind: what was expected.
    """
    refused = re.search(r"GLOBAL ([\w.]+)", str(error))
    if isinstance(error, pickle.UnpicklingError) and refused:
        return (
            f"The checkpoint {path} was refused: it asks for `{refused[1]}`, and loading that can "
            "run code. Nothing in it was run. Only tensors, plain values and MMEngine's logged "
            "histories are accepted; if you trust the file, convert it to weights alone with its "
            "own software first."
        )
    return (
        f"The checkpoint {path} ({path.stat().st_size:,} bytes) cannot be read: it is truncated, "
        f"damaged, or not {kind} ({type(error).__name__}). Nothing in it was run. Copy it again or "
        "use an earlier one."
    )


def use_safe_loader() -> None:
    """Let MMEngine read every checkpoint of this process with `load_checkpoint_safely`.

    This includes resuming, `load_from` and `init_cfg=dict(type="Pretrained")`. URLs are refused.
    """

    def load_file(filename: str, map_location: str | None = None) -> dict:
        checkpoint = load_checkpoint_safely(filename, map_location)
        meta = checkpoint.get("meta")
        if isinstance(meta, dict):
            meta.pop("config", None)  # Runner.resume would run it; MMEngine itself writes none
        return checkpoint

    def refuse_url(filename: str, map_location: str | None = None) -> dict:
        raise CheckpointError(
            f"{filename} is a URL. Download the file, check its origin, and give its path."
        )

    CheckpointLoader.register_scheme(prefixes="", loader=load_file, force=True)
    CheckpointLoader.register_scheme(prefixes=REMOTE_PREFIXES, loader=refuse_url, force=True)
