"""Finds and checks the checkpoint that a training resumes from."""

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
    """The path and the content of the work dir's furthest checkpoint that can be resumed from.

    None if there is no checkpoint at all. The number in a name counts, not the time of the file or
    MMEngine's note `last_checkpoint`, which an interrupted or another training can have written;
    only a noted name without a number is tried as well. Of checkpoints that are numbered by epochs
    and by iterations, the one of the later iteration is returned. `warn` is called with one line
    for each checkpoint that cannot be used; none of them is a CheckpointError.
    """
    work_dir, good, broken = Path(work_dir), {}, []
    for path in sorted(_candidates(work_dir), key=_number, reverse=True):
        kind = path.name.partition("_")[0] if _number(path) >= 0 else "noted"
        if kind in good:
            continue
        try:
            good[kind] = path, load_training_state(path)
        except CheckpointError as error:
            broken.append(path.name)
            warn(f"{path.name} is skipped: {error}")
    if good:
        return max(good.values(), key=lambda found: found[1]["meta"]["iter"])
    if broken:
        raise CheckpointError(
            f"None of the checkpoints in {work_dir} can be resumed from ({', '.join(broken)}). "
            "Start a new training in another --work-dir, or move them away."
        )
    return None


def _candidates(work_dir: Path) -> set[Path]:
    found = {path for path in work_dir.glob("*.pth") if _number(path) >= 0}
    note = work_dir / "last_checkpoint"
    if os.path.isfile(note):
        # Only the name is used: the folder may have been moved.
        with open(note, errors="replace") as file:
            noted = work_dir / Path(file.read(4096).strip()).name
        if os.path.isfile(noted):
            found.add(noted)
    return found


def _number(path: Path) -> int:
    """The number of epochs or iterations in a checkpoint's name; -1 if it has none."""
    name = re.fullmatch(r"(?:epoch|iter)_(\d+)\.pth", path.name)
    return int(name[1]) if name else -1
