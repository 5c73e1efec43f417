"""Finds and checks the checkpoint that a training resumes from."""

import re
from collections.abc import Callable
from pathlib import Path

import torch

from ..errors import CheckpointError
from .safe_loading import load_checkpoint_safely

TRAINING_KEYS = ("meta", "state_dict", "message_hub", "optimizer")


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
