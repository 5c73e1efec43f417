"""Reads and writes files of weights without running code that is in them.

`.pth` is what `torch.save` writes; `.safetensors` contains tensors and text; `.pkl` is detectron2's
pickle of NumPy arrays, read by an unpickler that knows only arrays. Files with any other suffix are
read as `.pth`.
"""

import io
import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..errors import CheckpointError
from ..runtime.pickle_limits import check_opcodes, require
from ..runtime.safe_loading import (
    check_content,
    check_file,
    load_checkpoint_safely,
    why_not_loaded,
)
from ..runtime.stand_ins import NAMESPACE, PLAIN_DTYPES, ArrayUnpickler, plain_values

METADATA_KEY = "slotcon"  # of our metadata in `.safetensors` and in plain state dicts

MAX_HEADER = 16 << 20  # bytes of the names and metadata in a `.safetensors`

# Published checkpoints contain their command line as a Namespace, which has attributes but no code.
PUBLISHED_TYPES = (NAMESPACE,)


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
        with open(path, "rb") as file:
            size = int.from_bytes(file.read(8), "little")
        require(size <= MAX_HEADER, f"a header of at most {MAX_HEADER:,} bytes")
        with safetensors.safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            text = (file.metadata() or {}).get(METADATA_KEY)
        meta = json.loads(text) if text else {}
        for name, value in tensors.items():
            require(value.dtype in PLAIN_DTYPES, f"plain numbers in `{name}`")
    except Exception as error:  # the library and JSON raise many types
        raise CheckpointError(why_not_loaded(path, error, "a .safetensors file")) from None
    return check_content({"state_dict": tensors, "meta": meta}, path)


def _read_pickle(path: Path) -> dict:
    try:
        file = io.BytesIO(path.read_bytes())
        check_opcodes(file)
        file.seek(0)
        content = _with_tensors(plain_values(ArrayUnpickler(file, encoding="latin1").load()))
    except Exception as error:  # a damaged pickle can raise anything
        kind = "a pickle of arrays as detectron2 reads it"
        raise CheckpointError(why_not_loaded(path, error, kind)) from None
    return check_content(content, path)


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
