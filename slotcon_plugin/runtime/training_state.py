"""Checks what a resumed training takes from a checkpoint.

MMEngine applies it without a check: schedulers copy every entry into their attributes, methods
included, and `CheckpointHook` deletes the files that the checkpoint calls its predecessors.
"""

import re
from collections.abc import Iterator
from numbers import Real
from pathlib import Path
from typing import Any

from mmengine.logging import HistoryBuffer
from mmengine.optim import _ParamScheduler
from torch import Tensor

from ..errors import CheckpointError
from .stand_ins import is_count

TRAINING_KEYS = ("meta", "state_dict", "message_hub", "optimizer")
CHECKPOINT_NAME = re.compile(r"(best_[^/\\]+|(epoch|iter)_\d+)(\.pth)?")
Checks = Iterator[tuple[bool, str, str]]  # whether fulfilled, the entry, what it is expected to be


def check_training_state(
    checkpoint: dict, path: str | Path, work_dir: str | Path | None = None
) -> None:
    """Raise a CheckpointError for an entry that is not of the type that a training writes.

    Paths of earlier checkpoints in it are replaced by the paths of files with the same names in the
    work dir. They are removed if they are not names of checkpoints, or without a work dir.

    Args:
        checkpoint: with all of TRAINING_KEYS.
        path: of the checkpoint, for the message.
        work_dir: of the training.
    """
    for fulfilled, name, expected in _checks(checkpoint):
        if not fulfilled:
            raise CheckpointError(
                f"{path} cannot be resumed from: `{name}` is not {expected}. Use an earlier "
                f"checkpoint, or only its weights: --cfg-options load_from={path}."
            )
    info = checkpoint["message_hub"]["runtime_info"]
    for key in [key for key in info if _is_path(key)]:
        name = Path(info.pop(key) or "").name
        if work_dir is not None and CHECKPOINT_NAME.fullmatch(name):
            info[key] = str(Path(work_dir) / name)


def _checks(checkpoint: dict) -> Checks:
    """The checks of a training state; a later one may rely on the earlier ones."""
    for part in TRAINING_KEYS:
        yield isinstance(checkpoint[part], dict), part, "a dictionary"
    meta, optimizer = checkpoint["meta"], checkpoint["optimizer"]
    for key in ("epoch", "iter"):
        yield is_count(meta.get(key)), f"meta.{key}", "a number of steps"
    seed = meta.get("seed")
    yield seed is None or (is_count(seed) and seed < 2**32), "meta.seed", "a seed"
    yield _all_of(str, Tensor, checkpoint["state_dict"]), "state_dict", "a dictionary of tensors"
    yield from _log_checks(checkpoint["message_hub"])
    # OptimWrapperDict saves one dictionary for each of its optimizers.
    for part in [optimizer] if "param_groups" in optimizer else optimizer.values():
        yield isinstance(part, dict), "optimizer", "a dictionary"
        groups = part.get("param_groups")
        yield _list_of(dict, groups), "optimizer.param_groups", "a list of dictionaries"
        for group in groups:
            plain = _all_of(str, object, group) and _is_plain(group)
            yield plain, "optimizer.param_groups", "a list of plain options"
            yield _list_of(int, group.get("params")), "optimizer.param_groups.params", "numbers"
        state = part.get("state")
        yield _all_of(int, dict, state), "optimizer.state", "a dictionary for each parameter"
        scale = part.get("loss_scaler", {})
        yield _all_of(str, Real, scale), "optimizer.loss_scaler", "a dictionary of numbers"
    schedulers = checkpoint.get("param_schedulers", [])
    for states in schedulers.values() if isinstance(schedulers, dict) else [schedulers]:
        yield _list_of(dict, states), "param_schedulers", "a list of dictionaries"
        for state in states:
            yield from _scheduler_checks(state)


def _log_checks(hub: dict) -> Checks:
    """The checks of MMEngine's `MessageHub`."""
    logs, keys, info = (hub.get(key) for key in ("log_scalars", "resumed_keys", "runtime_info"))
    yield _all_of(str, HistoryBuffer, logs), "message_hub.log_scalars", "a dictionary of logs"
    yield _all_of(str, bool, keys), "message_hub.resumed_keys", "a dictionary of flags"
    yield _all_of(str, object, info), "message_hub.runtime_info", "a dictionary"
    for key, value in info.items():
        name = f"message_hub.runtime_info.{key}"
        if key == "keep_ckpt_ids":
            yield _list_of(int, value), name, "a list of numbers of epochs or iterations"
        elif key.startswith("best_score"):
            yield isinstance(value, Real), name, "a number"
        elif _is_path(key):
            yield isinstance(value, str | None), name, "the path of a checkpoint"


def _is_path(key: str) -> bool:
    return key == "last_ckpt" or key.startswith("best_ckpt")


def _scheduler_checks(state: dict) -> Checks:
    """The checks of the attributes that MMEngine sets on a scheduler."""
    kinds: list[type] = [_ParamScheduler]
    for kind in kinds:  # grows while it is read
        kinds += kind.__subclasses__()
    methods = {name for kind in kinds for name in dir(kind)}
    for key, value in state.items():
        name = f"param_schedulers.{key}"
        known = isinstance(key, str) and key != "optimizer" and key not in methods
        yield known, name, "an attribute of a scheduler"
        yield _is_plain(value), name, "a plain value"
        if key in ("last_step", "_global_step"):
            yield type(value) is int and value >= -1, name, "a number of steps"
        elif key in ("base_values", "_last_value"):
            yield _list_of(Real, value), name, "a list of numbers"


def _is_plain(value: Any) -> bool:
    """Whether it is a number, a text, None, or a collection of them."""
    if isinstance(value, dict):
        return all(map(_is_plain, [*value, *value.values()]))
    if isinstance(value, list | tuple | set):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, Real | str)


def _list_of(kind: type, values: Any) -> bool:
    return isinstance(values, list) and all(isinstance(value, kind) for value in values)


def _all_of(key_kind: type, kind: type, values: Any) -> bool:
    """Whether it is a dictionary with keys and values of these types."""
    return isinstance(values, dict) and all(
        isinstance(key, key_kind) and isinstance(value, kind) for key, value in values.items()
    )
