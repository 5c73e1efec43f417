"""What a pickle of weights may name besides tensors, and stand-ins that are read in its place.

Unpickling calls what a file names. Instead of NumPy's or MMEngine's own code, it gets a stand-in
that only keeps the arguments; `plain_values` checks them and builds the value.
"""

import argparse
import math
import pickle
from collections import Counter, OrderedDict
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from mmengine.logging import HistoryBuffer
from torch import Tensor

from .pickle_limits import MAX_VALUES, require

MAX_NESTING = 100  # of containers in the result
HISTORY = "mmengine.logging.history_buffer.HistoryBuffer"
NAMESPACE = "argparse.Namespace"  # a published checkpoint's command line; only if it is asked for
PLAIN_DTYPES = {
    *(torch.float64, torch.float32, torch.float16, torch.bfloat16),
    *(torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool),
}
STORAGES = ("Double", "Float", "Half", "BFloat16", "Long", "Int", "Short", "Char", "Byte", "Bool")
# Names that torch.load may resolve by itself.
TORCH_NAMES = {
    *("_codecs.encode", "builtins.set", "collections.Counter", "collections.OrderedDict"),
    *("torch.Size", "torch._utils._rebuild_tensor", "torch._utils._rebuild_tensor_v2"),
    "torch._utils._rebuild_parameter",
    *(f"torch.{name}Storage" for name in STORAGES),
    *map(str, PLAIN_DTYPES),
}


class StandIn:
    """The arguments and the state that a pickle gives to an object."""

    args: tuple = ()
    state: Any = None

    def __new__(cls, *args: Any) -> "StandIn":
        stand_in = object.__new__(cls)
        stand_in.args = args
        return stand_in

    def __setstate__(self, state: Any) -> None:
        # Without this method, a pickle could set attributes of the object and of its class.
        self.state = state


def is_count(value: Any) -> bool:
    """Whether it is an integer from 0; not True or False."""
    return type(value) is int and value >= 0


def _dtype(args: tuple, state: Any) -> np.dtype:
    """`numpy.dtype`, only of numbers; the state may only give the order of bytes."""
    code, order = args[0], "="
    known = isinstance(code, str) and code[:1] in "biuf" and code[1:] in ("1", "2", "4", "8")
    require(known, "an array of plain numbers")
    if state is not None:
        order, *fields = state[1:5]
        require(order in ("<", ">", "|", "=") and fields == [None] * 3, "a dtype without fields")
    return np.dtype(code).newbyteorder(order)


def _array(args: tuple, state: Any) -> np.ndarray:
    """An array from (data, dtype, shape, order), which must account for every byte of the data."""
    raw, dtype, shape, order = args
    raw = raw.encode("latin1") if isinstance(raw, str) else raw  # Python 2's
    require(isinstance(raw, bytes) and isinstance(dtype, np.dtype), "numeric data")
    require(isinstance(shape, tuple) and all(map(is_count, shape)), "a shape as counts")
    require(order in ("C", "F") and state is None, "an array in C or Fortran order")
    require(math.prod(shape) * dtype.itemsize == len(raw), f"{len(raw)} bytes as {shape} {dtype}")
    return np.ndarray(shape, dtype, raw, order=order).astype(dtype.newbyteorder("="))


def _scalar(args: tuple, state: Any) -> np.generic:
    dtype, raw = args
    return _array((raw, dtype, (), "C"), state)[()]


def _array_by_state(args: tuple, state: Any) -> np.ndarray:
    """NumPy's `_reconstruct`: an empty array, then version, shape, dtype, order and data."""
    _, shape, dtype, is_fortran, raw = state
    return _array((raw, dtype, shape, "F" if is_fortran else "C"), None)


def _history(args: tuple, state: Any) -> HistoryBuffer:
    """MMEngine's log of one quantity.

    The methods for statistics in the file are ignored: they would become those of the process.
    """
    names = {"_log_history", "_count_history", "max_length"}
    known = isinstance(state, dict) and names <= state.keys() <= {*names, "statistics_methods"}
    require(known, f"a log with {sorted(names)}")
    logged, counts, length = state["_log_history"], state["_count_history"], state["max_length"]
    for values in (logged, counts):
        require(isinstance(values, np.ndarray) and values.ndim == 1, "logged numbers")
    require(len(logged) == len(counts), "as many counts as logged numbers")
    require(is_count(length) and length > 0, "max_length as a positive number")
    return HistoryBuffer(logged, counts, length)


def _history_method(args: tuple, state: Any) -> None:
    owner, name = args
    if owner is not HistoryBuffer or name not in ("min", "max", "mean", "current"):
        raise pickle.UnpicklingError("GLOBAL builtins.getattr")


def _bytes(args: tuple, state: Any) -> bytes:
    text, encoding = args or ("", "latin1")
    require(str(encoding) == "latin1" and isinstance(text, str), "bytes as text in latin1")
    return text.encode(encoding)


# Name in a pickle -> the function of a call's arguments and state that builds the value.
_BUILDERS: dict[str, Callable[[tuple, Any], Any]] = {
    "builtins.bytes": _bytes,
    "builtins.getattr": _history_method,
    "numpy.ndarray": lambda args, state: require(False, "a type that is not called"),
    "numpy.dtype": _dtype,
    HISTORY: _history,
    NAMESPACE: lambda args, state: argparse.Namespace(**state),
}
for _core in ("numpy.core", "numpy._core"):  # of NumPy 1 and 2
    _BUILDERS[f"{_core}.multiarray._reconstruct"] = _array_by_state
    _BUILDERS[f"{_core}.multiarray.scalar"] = _scalar
    _BUILDERS[f"{_core}.numeric._frombuffer"] = _array
STAND_INS = {
    name: type("_StandIn", (StandIn,), {"name": name, "build": staticmethod(build)})
    for name, build in _BUILDERS.items()
}


class ArrayUnpickler(pickle.Unpickler):
    """Reads a pickle without tensors, such as detectron2's files of NumPy arrays."""

    def find_class(self, module: str, name: str) -> Any:
        path = f"{'builtins' if module == '__builtin__' else module}.{name}"
        if path == "collections.OrderedDict":
            return OrderedDict
        path = "builtins.bytes" if path == "_codecs.encode" else path
        if path == NAMESPACE or path not in STAND_INS:
            raise pickle.UnpicklingError(f"GLOBAL {path}")
        return STAND_INS[path]


def plain_values(content: Any) -> Any:
    """The content of a pickle with arrays, logs and plain values in place of stand-ins.

    Raises pickle.UnpicklingError for a value of a type that is not read or of a wrong size, and
    what NumPy raises for a value that cannot be built.
    """
    built: dict[int, Any] = {}  # each stand-in once, also if there are many references
    count = 0

    def plain(value: Any, depth: int = 0) -> Any:
        nonlocal count
        count += 1
        require(count < MAX_VALUES, f"at most {MAX_VALUES:,} values")
        require(depth < MAX_NESTING, f"at most {MAX_NESTING} nested values")
        kind = type(value)
        if value is None or kind in (bool, int, float, complex, str, bytes, torch.Size):
            return value
        if kind is bytearray:
            return bytes(value)
        if isinstance(value, Tensor):
            return _check_tensor(value)
        if kind in (tuple, list, set, frozenset):
            return kind(plain(item, depth + 1) for item in value)
        if kind in (dict, OrderedDict, Counter):
            # Not value.items: a pickle could have replaced it.
            found = kind({plain(k, depth + 1): plain(v, depth + 1) for k, v in dict.items(value)})
            if attributes := getattr(value, "__dict__", None):
                found._metadata = _check_metadata(plain(attributes, depth + 1))
            return found
        if isinstance(value, type) and issubclass(value, StandIn):
            types = {"numpy.ndarray": np.ndarray, HISTORY: HistoryBuffer}
            if value.name not in types:
                raise pickle.UnpicklingError(f"GLOBAL {value.name}")
            return types[value.name]
        require(isinstance(value, StandIn), "plain values")
        if id(value) not in built:
            args, state = plain(value.args, depth + 1), plain(value.state, depth + 1)
            built[id(value)] = value.build(args, state)
        return built[id(value)]

    return plain(content)


def _check_tensor(value: Tensor) -> Tensor:
    dense = value.layout == torch.strided and value.device.type != "meta" and not value.is_nested
    require(dense and value.dtype in PLAIN_DTYPES, "a dense tensor of plain numbers")
    own = value.numel() * value.itemsize <= value.untyped_storage().nbytes()
    require(own, "a tensor within its storage")
    return value.detach()


def _check_metadata(attributes: dict) -> dict:
    """The versions of a state dict's modules, its only attribute."""
    require(attributes.keys() == {"_metadata"}, "a state dict without other attributes")
    found = attributes["_metadata"]
    is_table = isinstance(found, dict) and all(isinstance(part, dict) for part in found.values())
    require(is_table, "`_metadata` as a dictionary of dictionaries")
    for part in found.values():
        require(type(part.get("version", 1)) in (int, type(None)), "a version as a number")
    return found
