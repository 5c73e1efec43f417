"""Reads and writes files of weights without running code that is in them.

`.pth` is what `torch.save` writes; `.safetensors` contains tensors and text; `.pkl` is detectron2's
pickle of NumPy arrays, read by an unpickler that knows only arrays. Files with any other suffix are
read as `.pth`.
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

METADATA_KEY = "slotcon"  # of our metadata in `.safetensors` and in plain state dicts

# Published checkpoints contain their command line as a Namespace, which has attributes but no code.
PUBLISHED_TYPES = (argparse.Namespace,)

# Everything that a pickle of arrays refers to, in the modules of NumPy 1 (core) and 2 (_core).
_ARRAY_TYPES = {
    "numpy.ndarray": np.ndarray,
    "numpy.dtype": np.dtype,
    "collections.OrderedDict": OrderedDict,
}
for _core in ("numpy.core", "numpy._core"):
    _ARRAY_TYPES |= {
        f"{_core}.multiarray._reconstruct": np.zeros(1).__reduce__()[0],
        f"{_core}.multiarray.scalar": np.float64(0).__reduce__()[0],
        f"{_core}.numeric._frombuffer": np.zeros(1).__reduce_ex__(5)[0],
    }


class _ArraysOnly(pickle.Unpickler):
    """Knows arrays and refuses every other name in a pickle."""

    def find_class(self, module: str, name: str) -> Any:
        try:
            return _ARRAY_TYPES[f"{module}.{name}"]
        except KeyError:
            raise pickle.UnpicklingError(f"GLOBAL {module}.{name}") from None


def read_file(path: str | Path) -> dict:
    """The content of a file of weights, with tensors on the CPU.

    A `.safetensors` gives `state_dict` and `meta`, our metadata if there are any.

    Raises:
        CheckpointError: the file is missing, empty, damaged or of another kind, or it refers to
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
            text = (file.metadata() or {}).get(METADATA_KEY)
        meta = json.loads(text) if text else {}
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
            f"{path} contains a {type(content).__name__}, expected a dictionary of weights."
        )
    return content


def _with_tensors(content: Any) -> Any:
    if isinstance(content, np.ndarray | np.generic):
        return torch.from_numpy(np.array(content))  # a copy: unpickled arrays may be read-only
    if isinstance(content, dict):
        return {key: _with_tensors(value) for key, value in content.items()}
    return content


def _with_arrays(content: Any) -> Any:
    if isinstance(content, Tensor):
        return content.detach().cpu().numpy()
    if isinstance(content, dict):
        return {key: _with_arrays(value) for key, value in content.items()}
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
    """What `torch.save` writes."""
    file = io.BytesIO()
    torch.save(content, file)
    return file.getvalue()


def safetensors_bytes(state: dict[str, Tensor], meta: dict) -> bytes:
    """A `.safetensors` file with our metadata in its header."""
    header = {"format": "pt", METADATA_KEY: json.dumps(meta)}
    return _safetensors().torch.save(state, metadata=header)


def pkl_bytes(content: dict) -> bytes:
    """A pickle with every tensor as a NumPy array."""
    return pickle.dumps(_with_arrays(content), protocol=4)
