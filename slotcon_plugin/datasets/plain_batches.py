"""A model's inputs as plain values, which a file may contain, and back."""

from typing import Any

import numpy as np
from torch import Tensor

from ..functional.alignment import ViewGeometry

KIND = "__kind__"
PLAIN = str | bytes | bool | int | float | np.ndarray | np.generic | None


def to_plain(value: Any) -> Any:
    """Tensors on the CPU in dictionaries, lists and tuples, with the kinds of other containers.

    Raises a TypeError for a type that `from_plain` cannot build.
    """
    if isinstance(value, Tensor):
        return value.detach().cpu()
    if isinstance(value, ViewGeometry):
        return {KIND: "ViewGeometry", "parts": [to_plain(part) for part in value]}
    if isinstance(value, dict):
        return {to_plain(key): to_plain(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(map(to_plain, value))
    if isinstance(value, PLAIN):
        return value
    raise TypeError(f"its inputs contain a {type(value).__name__}")


def from_plain(value: Any, device: str) -> Any:
    """What `to_plain` was given, with the tensors on a device."""
    if isinstance(value, Tensor):
        return value.to(device)
    if isinstance(value, dict):
        if value.get(KIND) == "ViewGeometry":
            return ViewGeometry(*from_plain(value["parts"], device))
        return {key: from_plain(part, device) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(from_plain(part, device) for part in value)
    return value
