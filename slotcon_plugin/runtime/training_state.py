"""Checks what a resumed training takes from a checkpoint.

MMEngine applies it unseen: schedulers copy every entry into their attributes, methods included, and
`CheckpointHook` deletes the files that the checkpoint calls its predecessors.
"""

import re
from collections.abc import Callable, Iterable
from numbers import Real
from pathlib import Path
from typing import Any

from mmengine.logging import HistoryBuffer
from mmengine.optim import _ParamScheduler
from torch import Tensor

from ..errors import CheckpointError

CHECKPOINT_NAME = re.compile(r"(best_[^/\\]+|(epoch|iter)_\d+)(\.pth)?")


def check_training_state(
    checkpoint: dict, path: str | Path, work_dir: str | Path | None = None
) -> None:
    """Check the training state in a checkpoint before it is applied.

    Args:
        checkpoint: with `meta`, `state_dict`, `message_hub` and `optimizer`. Paths of earlier
            checkpoints are replaced by the paths of files with the same names in the work dir, or
            removed if they are not names of checkpoints.
        path: of the checkpoint, for the message.
        work_dir: of the training; None: all these paths are removed.

    Raises:
        CheckpointError: an entry is missing or not of the type that a training writes.
    """

    def require(condition: bool, name: str, expected: str) -> None:
        if not condition:
            raise CheckpointError(
                f"{path} cannot be resumed from: `{name}` is not {expected}. Use an earlier "
                f"checkpoint, or only its weights: --cfg-options load_from={path}."
            )

    for part in ("meta", "state_dict", "message_hub", "optimizer"):
        require(isinstance(checkpoint[part], dict), part, "a dictionary")
    meta = checkpoint["meta"]
    for key in ("epoch", "iter"):
        require(_is_count(meta.get(key)), f"meta.{key}", "a number of steps")
    seed = meta.get("seed")
    require(seed is None or (_is_count(seed) and seed < 2**32), "meta.seed", "a seed")
    tensors = _all_of(str, Tensor, checkpoint["state_dict"])
    require(tensors, "state_dict", "a dictionary of tensors")
    _check_log(checkpoint["message_hub"], require, work_dir)
    optimizer = checkpoint["optimizer"]
    # OptimWrapperDict saves one dictionary for each of its optimizers.
    parts = [optimizer] if "param_groups" in optimizer else optimizer.values()
    for part in parts:
        require(isinstance(part, dict), "optimizer", "a dictionary")
        groups, state = part.get("param_groups"), part.get("state")
        require(_list_of(dict, groups), "optimizer.param_groups", "a list of dictionaries")
        for group in groups:
            options = all(isinstance(key, str) and _is_option(v) for key, v in group.items())
            require(options, "optimizer.param_groups", "a list of plain options")
            require(_list_of(int, group.get("params")), "optimizer.param_groups.params", "numbers")
        require(_all_of(int, dict, state), "optimizer.state", "a dictionary for each parameter")
        scale = part.get("loss_scaler", {})
        require(_all_of(str, Real, scale), "optimizer.loss_scaler", "a dictionary of numbers")
    schedulers = checkpoint.get("param_schedulers", [])
    lists = schedulers.values() if isinstance(schedulers, dict) else [schedulers]
    for states in lists:
        require(_list_of(dict, states), "param_schedulers", "a list of dictionaries")
        for state in states:
            _check_scheduler(state, require)


def _check_log(
    hub: dict, require: Callable[[bool, str, str], None], work_dir: str | Path | None
) -> None:
    """Check MMEngine's `MessageHub`; the paths in it are changed in place."""
    logs, keys, info = (hub.get(key) for key in ("log_scalars", "resumed_keys", "runtime_info"))
    require(_all_of(str, HistoryBuffer, logs), "message_hub.log_scalars", "a dictionary of logs")
    require(_all_of(str, bool, keys), "message_hub.resumed_keys", "a dictionary of flags")
    require(_all_of(str, object, info), "message_hub.runtime_info", "a dictionary")
    for key, value in list(info.items()):
        name = f"message_hub.runtime_info.{key}"
        if key == "keep_ckpt_ids":
            require(_list_of(int, value), name, "a list of numbers of epochs or iterations")
        elif key.startswith("best_score"):
            require(isinstance(value, Real), name, "a number")
        elif key == "last_ckpt" or key.startswith("best_ckpt"):
            require(value is None or isinstance(value, str), name, "the path of a checkpoint")
            file = Path(value or "").name
            if work_dir is None or not CHECKPOINT_NAME.fullmatch(file):
                del info[key]
            else:
                info[key] = str(Path(work_dir) / file)


def _check_scheduler(state: dict, require: Callable[[bool, str, str], None]) -> None:
    """Check the attributes that MMEngine sets on a scheduler."""
    for key, value in state.items():
        name = f"param_schedulers.{key}"
        known = isinstance(key, str) and key != "optimizer" and key not in _methods()
        require(known, name, "an attribute of a scheduler")
        require(_is_option(value), name, "a plain value")
        if key in ("last_step", "_global_step"):
            require(type(value) is int and value >= -1, name, "a number of steps")
        elif key in ("base_values", "_last_value"):
            require(_list_of(Real, value), name, "a list of numbers")


def _methods() -> set[str]:
    """The names of all methods of all kinds of schedulers."""
    kinds: list[type] = [_ParamScheduler]
    for kind in kinds:  # grows while it is read
        kinds += kind.__subclasses__()
    return {name for kind in kinds for name in dir(kind)}


def _is_count(value: Any) -> bool:
    return type(value) is int and value >= 0


def _is_option(value: Any) -> bool:
    """Whether it is a number, a text, None, or a collection of them."""
    if isinstance(value, dict):
        return all(map(_is_option, [*value, *value.values()]))
    if isinstance(value, list | tuple | set):
        return all(map(_is_option, value))
    return value is None or isinstance(value, Real | str)


def _list_of(kind: type, values: Iterable | None) -> bool:
    return isinstance(values, list) and all(isinstance(value, kind) for value in values)


def _all_of(key_kind: type, kind: type, values: dict | None) -> bool:
    return isinstance(values, dict) and all(
        isinstance(key, key_kind) and isinstance(value, kind) for key, value in values.items()
    )
