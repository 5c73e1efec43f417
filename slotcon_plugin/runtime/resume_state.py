"""Finds and checks the checkpoint that a training resumes from."""

import os
import re
from collections.abc import Callable
from pathlib import Path

import torch

from ..errors import CheckpointError
from .safe_loading import TRAINING_KEYS, load_checkpoint_safely
from .training_state import check_training_state


def load_training_state(path: str | Path) -> dict:
    """Read a checkpoint for resuming.

    Raises:
        CheckpointError: as `load_checkpoint_safely`; or parts are missing or of another type; or a
            weight is not finite.
    """
    checkpoint = load_checkpoint_safely(path)
    missing = [key for key in TRAINING_KEYS if key not in checkpoint]
    if missing:
        raise CheckpointError(
            f"{path} cannot be resumed from: {', '.join(missing)} missing. It contains weights "
            "only; start a new training from them with --cfg-options load_from=PATH."
        )
    check_training_state(checkpoint, path)
    for name, value in checkpoint["state_dict"].items():
        if value.is_floating_point() and not torch.isfinite(value).all():
            raise CheckpointError(
                f"{path} cannot be resumed from: `{name}` is not finite. Use an earlier one."
            )
    return checkpoint


def find_last_good_checkpoint(
    work_dir: str | Path, warn: Callable[[str], None] = print
) -> tuple[Path, dict] | None:
    """The newest checkpoint of a work dir that can be resumed from.

    MMEngine writes the newest one's name into the file `last_checkpoint`. After a crash that file
    can be empty, wrong or one checkpoint too old, so it is only tried first; the other numbered
    checkpoints follow, the latest first.

    Args:
        work_dir: a training's folder.
        warn: called with one line for each checkpoint that cannot be used.

    Returns:
        The path and the checkpoint; None if the folder has no checkpoint at all.

    Raises:
        CheckpointError: there are checkpoints, and none of them can be used.
    """
    work_dir = Path(work_dir)
    age = {}  # path -> (time, number)
    for path in work_dir.glob("*.pth"):
        number = re.fullmatch(r"(?:epoch|iter)_(\d+)\.pth", path.name)
        if number:
            age[path] = (os.lstat(path).st_mtime_ns, int(number[1]))
    candidates = sorted(age, key=age.get, reverse=True)
    note = work_dir / "last_checkpoint"
    if os.path.isfile(note):
        # Only the name is used: the folder may have been moved.
        with open(note, errors="replace") as file:
            noted = work_dir / Path(file.read(4096).strip()).name
        # If the process was killed between the two writes, a checkpoint is newer than the note.
        outdated = noted in age and any(
            all(x > y for x, y in zip(a, age[noted])) for a in age.values()
        )
        if os.path.isfile(noted) and not outdated:
            candidates = [noted, *(path for path in candidates if path != noted)]
    broken = []
    for path in candidates:
        try:
            return path, load_training_state(path)
        except CheckpointError as error:
            broken.append(path.name)
            warn(f"{path.name} is skipped: {error}")
    if broken:
        raise CheckpointError(
            f"None of the checkpoints in {work_dir} can be resumed from ({', '.join(broken)}). "
            "Start a new training in another --work-dir, or move them away."
        )
    return None
