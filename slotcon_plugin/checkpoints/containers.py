"""The three kinds of file that weights travel in, read without running what is in them.

`.pth` is what `torch.save` writes, read with `weights_only=True`; `.safetensors` holds tensors and
text; `.pkl` is detectron2's, a pickle of NumPy arrays, read by an unpickler that knows nothing but
arrays. Any other suffix is taken for a `.pth`.
"""

import argparse
import io
import json
import pickle
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..errors import CheckpointError
from ..runtime.safe_loading import check_file, load_checkpoint_safely, why_not_loaded

META = "slotcon"  # the key under which a container without a place of its own keeps our notes

# The published checkpoints keep their command line as an argparse.Namespace: attributes, no code.
PUBLISHED_TYPES = (argparse.Namespace,)

# All that a pickle of arrays asks for. NumPy 2 moved these from numpy.core to numpy._core; NumPy
# itself says which functions it would have called.
_RECONSTRUCT = np.zeros(1).__reduce__()[0]
_FROM_BUFFER = np.zeros(1).__reduce_ex__(5)[0]
_SCALAR = np.float64(0).__reduce__()[0]
_ARRAY_PARTS = {
    "numpy.ndarray": np.ndarray,
    "numpy.dtype": np.dtype,
    "collections.OrderedDict": OrderedDict,
    "numpy.core.multiarray._reconstruct": _RECONSTRUCT,
    "numpy._core.multiarray._reconstruct": _RECONSTRUCT,
    "numpy.core.multiarray.scalar": _SCALAR,
    "numpy._core.multiarray.scalar": _SCALAR,
    "numpy.core.numeric._frombuffer": _FROM_BUFFER,
    "numpy._core.numeric._frombuffer": _FROM_BUFFER,
}


class _ArraysOnly(pickle.Unpickler):
    """Knows arrays, and refuses every other name that a pickle asks for."""

    def find_class(self, module: str, name: str) -> Any:
        try:
            return _ARRAY_PARTS[f"{module}.{name}"]
        except KeyError:
            raise pickle.UnpicklingError(f"GLOBAL {module}.{name}") from None


def read_file(path: str | Path) -> dict:
    """The content of a file of weights, by its suffix; arrays come as tensors, on the CPU.

    Of a `.safetensors`: `state_dict`, and `meta` with our notes if it has any.

    Raises:
        CheckpointError: the file is missing, empty, cut short, of another kind, or asks for
            something that could run code.
    """
    path = check_file(path)
    if path.suffix == ".safetensors":
        return _read_safetensors(path)
    if path.suffix == ".pkl":
        return _read_pickle(path)
    return load_checkpoint_safely(path, also=PUBLISHED_TYPES)


def _read_safetensors(path: Path) -> dict:
    safetensors = _safetensors()
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            notes = (file.metadata() or {}).get(META)
        meta = json.loads(notes) if notes else {}
    except (safetensors.SafetensorError, OSError, ValueError, KeyError) as error:
        raise CheckpointError(why_not_loaded(path, error, "a .safetensors file")) from None
    return {"state_dict": tensors, "meta": meta}


def _read_pickle(path: Path) -> dict:
    try:
        with open(path, "rb") as file:
            content = _with_tensors(_ArraysOnly(file, encoding="latin1").load())
    except Exception as error:  # a damaged pickle can raise anything
        kind = "a pickle of arrays as detectron2 reads it"
        raise CheckpointError(why_not_loaded(path, error, kind)) from None
    if not isinstance(content, dict):
        raise CheckpointError(
            f"{path} holds a {type(content).__name__}, not weights: a dictionary was expected."
        )
    return content


def _with_tensors(content: Any) -> Any:
    if isinstance(content, np.ndarray | np.generic):
        return torch.from_numpy(np.array(content))  # a copy: what was unpickled may be read-only
    if isinstance(content, dict):
        return {key: _with_tensors(value) for key, value in content.items()}
    return content


def _safetensors():
    try:
        import safetensors
        import safetensors.torch
    except ImportError:
        raise CheckpointError(
            "A .safetensors file needs the package safetensors: pip install safetensors, or use "
            "the suffix .pth."
        ) from None
    return safetensors


def pth_bytes(content: dict) -> bytes:
    """What `torch.save` would write."""
    file = io.BytesIO()
    torch.save(content, file)
    return file.getvalue()


def safetensors_bytes(state: dict[str, Tensor], meta: dict) -> bytes:
    """A `.safetensors` file with our notes in its header."""
    notes = {"format": "pt", META: json.dumps(meta)}
    return _safetensors().torch.save(state, metadata=notes)


def pkl_bytes(content: dict) -> bytes:
    """A pickle with every tensor as a NumPy array."""
    return pickle.dumps(_with_arrays(content), protocol=4)


def _with_arrays(content: Any) -> Any:
    if isinstance(content, Tensor):
        return content.detach().cpu().numpy()
    if isinstance(content, dict):
        return {key: _with_arrays(value) for key, value in content.items()}
    return content
