"""Reads pickles of tensors, arrays and plain values without calling anything that they name.

The unpickler records the calls and states in a pickle as `_Record` objects. Afterwards `_Builder`
replaces each of them by a tensor, an array or a plain value, whose parts it checks first. Names
that are not in `_RECORDS` are refused, so neither torch's, NumPy's nor MMEngine's own functions for
unpickling run, and the result consists of plain types only.
"""

import argparse
import math
import pickle
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable
from typing import Any, BinaryIO

import numpy as np
import torch
from mmengine.logging import HistoryBuffer
from torch import Tensor

from .pickle_limits import MAX_VALUES, check_opcodes, require

MAX_NESTING = 100  # of containers in the result
PLAIN_DTYPES = {
    "Double": torch.float64,
    "Float": torch.float32,
    "Half": torch.float16,
    "BFloat16": torch.bfloat16,
    "Long": torch.int64,
    "Int": torch.int32,
    "Short": torch.int16,
    "Char": torch.int8,
    "Byte": torch.uint8,
    "Bool": torch.bool,
}
NAMESPACE = "argparse.Namespace"


class _Record:
    """A call in a pickle, and the state that the pickle gives to its result."""

    args: tuple = ()
    state: Any = None

    def __new__(cls, *args: Any) -> "_Record":
        record = object.__new__(cls)
        record.args = args
        return record

    def __setstate__(self, state: Any) -> None:
        # Without this method, a pickle could set attributes of the object and of its class.
        self.state = state


def _is_count(value: Any) -> bool:
    return type(value) is int and value >= 0


def _tensor(args: tuple, state: Any) -> Tensor:
    """torch's `_rebuild_tensor_v2`: a view of a storage that is not larger than the storage."""
    flat, offset, size, stride = args[:4]
    require(isinstance(flat, Tensor) and state is None, "a tensor in a storage")
    require(isinstance(size, tuple) and isinstance(stride, tuple), "a tensor's size and stride")
    require(all(map(_is_count, (offset, *size, *stride))), "sizes and strides as counts")
    require(len(size) == len(stride) <= 64, "as many strides as sizes")
    require(math.prod(size) <= flat.numel(), "a tensor within its storage")
    return flat.as_strided(size, stride, offset)  # raises beyond the end of the storage


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
    require(isinstance(shape, tuple) and all(map(_is_count, shape)), "a shape as counts")
    require(order in ("C", "F") and state is None, "an array in C or Fortran order")
    require(math.prod(shape) * dtype.itemsize == len(raw), f"{len(raw)} bytes as {shape} {dtype}")
    return np.ndarray(shape, dtype, raw, order=order).astype(dtype.newbyteorder("="))


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
    require(_is_count(length) and length > 0, "max_length as a positive number")
    return HistoryBuffer(logged, counts, length)


def _history_method(args: tuple, state: Any) -> None:
    owner, name = args
    if owner is not HistoryBuffer or name not in ("min", "max", "mean", "current"):
        raise pickle.UnpicklingError("GLOBAL builtins.getattr")


def _bytes(args: tuple, state: Any) -> bytes:
    text, encoding = args or ("", "latin1")
    require(encoding == "latin1" and isinstance(text, str), "bytes as text in latin1")
    return text.encode(encoding)


# Name in a pickle -> the function that makes the result of a call from its arguments and a state.
_CALLS: dict[str, Callable[[tuple, Any], Any]] = {
    "collections.Counter": lambda args, state: Counter(*args),
    "builtins.set": lambda args, state: set(*args),
    "builtins.bytes": _bytes,
    "_codecs.encode": _bytes,
    "builtins.getattr": _history_method,
    "mmengine.logging.history_buffer.HistoryBuffer": _history,
    NAMESPACE: lambda args, state: argparse.Namespace(**state),
    "torch.Size": lambda args, state: torch.Size(*args),
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_parameter": lambda args, state: args[0],
    "numpy.dtype": _dtype,
}
for _core in ("numpy.core", "numpy._core"):  # of NumPy 1 and 2
    _CALLS[f"{_core}.multiarray._reconstruct"] = _array_by_state
    _CALLS[f"{_core}.multiarray.scalar"] = lambda args, s: _array((args[1], args[0], (), "C"), s)[
        ()
    ]
    _CALLS[f"{_core}.numeric._frombuffer"] = _array
# Name in a pickle -> its value as an argument.
_VALUES: dict[str, Any] = {
    "numpy.ndarray": np.ndarray,
    "mmengine.logging.history_buffer.HistoryBuffer": HistoryBuffer,
    **{str(dtype): dtype for dtype in PLAIN_DTYPES.values()},
    **{f"torch.{name}Storage": dtype for name, dtype in PLAIN_DTYPES.items()},
}


def _not_called(args: tuple, state: Any) -> None:
    raise pickle.UnpicklingError("a damaged or hostile entry: it calls a type that is not called")


def _record_type(name: str, call: Callable[[tuple, Any], Any] = _not_called) -> type[_Record]:
    members = {"name": name, "call": staticmethod(call), "value": _VALUES.get(name)}
    return type("_Record", (_Record,), members)


# A pickle cannot change OrderedDict itself, which is implemented in C.
_RECORDS: dict[str, type] = {
    **{name: _record_type(name, _CALLS.get(name, _not_called)) for name in {**_VALUES, **_CALLS}},
    "collections.OrderedDict": OrderedDict,
}
_Storage = _record_type("storage", lambda args, state: args[0])


class _Unpickler(pickle.Unpickler):
    """Knows the names in `_RECORDS`."""

    def __init__(self, file: BinaryIO, also: Iterable[str], storage: Callable | None):
        super().__init__(file, encoding="latin1")
        self._also, self._storage = set(also), storage

    def find_class(self, module: str, name: str) -> Any:
        name = f"{'builtins' if module == '__builtin__' else module}.{name}"
        if name not in _RECORDS or (name == NAMESPACE and name not in self._also):
            raise pickle.UnpicklingError(f"GLOBAL {name}")
        return _RECORDS[name]

    def persistent_load(self, pid: Any) -> _Record:
        require(self._storage is not None and isinstance(pid, tuple), "no external data")
        require(len(pid) in (5, 6) and pid[0] == "storage" and pid[5:] in ((), (None,)), "storage")
        _, kind, key, _, numel = pid[:5]
        dtype = getattr(kind, "value", None)
        require(isinstance(dtype, torch.dtype) and isinstance(key, str), "a plain storage")
        require(_is_count(numel), "a storage's size as a count")
        return _Storage(self._storage(key, dtype, numel))


def load_plain(
    file: BinaryIO,
    also: Iterable[str] = (),
    storage: Callable[[str, torch.dtype, int], Tensor] | None = None,
) -> Any:
    """Read one pickle.

    Args:
        file: is read from its current position to the end of the pickle.
        also: names that are allowed in addition; only `NAMESPACE` is known.
        storage: (key, dtype, number of elements) -> the flat tensor with this data.

    Returns:
        The content, with records that `build_plain` replaces.

    Raises:
        pickle.UnpicklingError: it contains something that is not read.
        Exception: the pickle is damaged; the standard library raises many types.
    """
    start = file.tell()
    check_opcodes(file)
    file.seek(start)
    return _Unpickler(file, also, storage).load()


def build_plain(content: Any, device: str | torch.device = "cpu") -> Any:
    """The content from `load_plain` with tensors, arrays and plain values instead of records.

    Raises:
        pickle.UnpicklingError: a part is of a type that is not read, or has a wrong size.
        Exception: a part cannot be built; torch and NumPy raise many types.
    """
    return _Builder(device).build(content)


class _Builder:
    def __init__(self, device: str | torch.device):
        self._device = device
        self._built: dict[int, Any] = {}  # each record once, also if there are many references
        self._count = 0

    def build(self, value: Any, depth: int = 0) -> Any:
        self._count += 1
        require(self._count < MAX_VALUES, f"at most {MAX_VALUES:,} values")
        require(depth < MAX_NESTING, f"at most {MAX_NESTING} nested values")
        kind = type(value)
        if value is None or kind in (bool, int, float, complex, str, bytes) or kind is Tensor:
            return value
        if kind in (tuple, list, set, frozenset):
            return kind(self.build(item, depth + 1) for item in value)
        if kind is bytearray:
            return bytes(value)
        if kind in (dict, OrderedDict):
            items = ((self.build(k, depth + 1), self.build(v, depth + 1)) for k, v in value.items())
            found = kind(items)
            if attributes := getattr(value, "__dict__", None):
                found._metadata = self._metadata(attributes, depth)
            return found
        if isinstance(value, type) and issubclass(value, _Record):
            if value.value is None:
                raise pickle.UnpicklingError(f"GLOBAL {value.name}")
            return value.value
        require(isinstance(value, _Record), "plain values")
        if id(value) not in self._built:
            self._built[id(value)] = self._call(value, depth)
        return self._built[id(value)]

    def _metadata(self, attributes: dict, depth: int) -> dict:
        """The versions of a state dict's modules, its only attribute."""
        require(attributes.keys() == {"_metadata"}, "a state dict without other attributes")
        found = self.build(attributes["_metadata"], depth + 1)
        require(isinstance(found, dict), "`_metadata` as a dictionary")
        for part in found.values():
            require(isinstance(part, dict), "`_metadata` of dictionaries")
            require(type(part.get("version", 1)) in (int, type(None)), "a version as a number")
        return found

    def _call(self, record: _Record, depth: int) -> Any:
        args, state = (self.build(part, depth + 1) for part in (record.args, record.state))
        found = record.call(args, state)
        is_tensor = isinstance(found, Tensor) and type(record) is not _Storage
        return found.to(self._device) if is_tensor else found
