"""Finds and checks the checkpoint that a training resumes from."""

import math
import os
import re
from collections.abc import Callable
from pathlib import Path

from ..errors import CheckpointError
from .safe_loading import check_finite, load_checkpoint_safely
from .training_state import TRAINING_KEYS, check_training_state


def load_training_state(path: str | Path) -> dict:
    """Read a checkpoint for resuming.

    Raises a CheckpointError as `load_checkpoint_safely` does; and if parts are missing or of
    another type, or a weight is not finite.
    """
    checkpoint = load_checkpoint_safely(path)
    if missing := [key for key in TRAINING_KEYS if key not in checkpoint]:
        raise CheckpointError(
            f"{path} cannot be resumed from: {', '.join(missing)} missing. It contains weights "
            "only; start a new training from them with --cfg-options load_from=PATH."
        )
    check_training_state(checkpoint, path)
    check_finite(checkpoint["state_dict"], f"{path} cannot be resumed from")
    return checkpoint


def find_last_good_checkpoint(
    work_dir: str | Path, warn: Callable[[str], None] = print
) -> tuple[Path, dict] | None:
    """The path and the content of a work dir's newest checkpoint that can be resumed from.

    None if there is no checkpoint at all. MMEngine writes the newest one's name into the file
    `last_checkpoint`. After a crash that file can be empty, wrong or one checkpoint too old, so it
    is only tried first; the other numbered checkpoints follow, the latest first. `warn` is called
    with one line for each checkpoint that cannot be used; none of them is a CheckpointError.
    """
    work_dir = Path(work_dir)
    age = {}  # path -> (time, number)
    for path in work_dir.glob("*.pth"):
        if number := re.fullmatch(r"(?:epoch|iter)_(\d+)\.pth", path.name):
            age[path] = (os.lstat(path).st_mtime_ns, int(number[1]))
    candidates = sorted(age, key=age.get, reverse=True)
    note = work_dir / "last_checkpoint"
    if os.path.isfile(note):
        # Only the name is used: the folder may have been moved.
        with open(note, errors="replace") as file:
            noted = work_dir / Path(file.read(4096).strip()).name
        # If the process was killed between the two writes, a checkpoint is newer than the note.
        time, number = age.get(noted, (math.inf, math.inf))
        newer = any(other[0] > time and other[1] > number for other in age.values())
        if os.path.isfile(noted) and not newer:
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
