"""Reads and writes files of weights without running code that is in them.

`.pth` is what `torch.save` writes; `.safetensors` contains tensors and text; `.pkl` is detectron2's
pickle of NumPy arrays, read by an unpickler that knows only arrays. Files with any other suffix are
read as `.pth`.
"""

import hashlib
import io
import json
import os
import pickle
from collections.abc import Callable, Mapping
from pathlib import Path
from types import UnionType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..errors import CheckpointError
from ..runtime.pickle_limits import check_opcodes, require
from ..runtime.safe_loading import check_content, check_file, load_checkpoint_safely, why_not_loaded
from ..runtime.stand_ins import NAMESPACE, PLAIN_DTYPES, ArrayUnpickler, plain_values
from .named_networks import FOLDER_WEIGHTS, in_zoo, zoo_folder

METADATA_KEY = "slotcon"  # of our metadata in `.safetensors` and in plain state dicts
STORED = "stored"  # in these metadata: the digest of the tensors as they are in the file
CHANGED = (
    "The weights in {} are not those that were exported: their digest is {}, the metadata say {}. "
    "The file is damaged or was changed; export it again."
)

MAX_HEADER = 16 << 20  # bytes of the names and metadata in a `.safetensors`


def read_file(path: str | Path) -> dict:
    """The content of a file of weights, with tensors on the CPU; or of a network `zoo:NAME`.

    A `.safetensors` gives `state_dict` and `meta`, our metadata if there are any; so does a model
    folder that contains one. A file that is missing, damaged, of another kind, or refers to code
    raises CheckpointError.
    """
    if in_zoo(path):
        path = zoo_folder(path)
    inside = os.path.join(os.path.expanduser(path), FOLDER_WEIGHTS)
    path = check_file(inside if os.path.isfile(inside) else path)
    if path.suffix == ".safetensors":
        return _read_safetensors(path)
    if path.suffix == ".pkl":
        return _read_pickle(path)
    return load_checkpoint_safely(path, also=(NAMESPACE,))  # the published command line


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
    content = check_content({"state_dict": tensors, "meta": meta}, path)
    if STORED in meta:
        if (found := digest(tensors)) != meta[STORED]:
            raise CheckpointError(CHANGED.format(path, found, meta[STORED]))
        halves = {n: v.float() for n, v in tensors.items() if v.dtype == torch.float16}
        content["state_dict"] = tensors | halves
    return content


def _read_pickle(path: Path) -> dict:
    try:
        file = io.BytesIO(path.read_bytes())
        check_opcodes(file)
        file.seek(0)
        arrays = plain_values(ArrayUnpickler(file, encoding="latin1").load())
        content = _convert(arrays, np.ndarray | np.generic, _tensor)
    except Exception as error:  # a damaged pickle can raise anything
        kind = "a pickle of arrays as detectron2 reads it"
        raise CheckpointError(why_not_loaded(path, error, kind)) from None
    return check_content(content, path)


def _tensor(array: np.ndarray | np.generic) -> Tensor:
    return torch.from_numpy(np.array(array))  # a copy: unpickled arrays may be read-only


def _convert(content: Any, kind: type | UnionType, function: Callable) -> Any:
    """Apply a function to every value of a type, in nested dictionaries."""
    if isinstance(content, dict):
        return {key: _convert(value, kind, function) for key, value in content.items()}
    return function(content) if isinstance(content, kind) else content


def _safetensors():
    try:
        import safetensors
        import safetensors.torch
    except ImportError:
        raise CheckpointError(
            "A .safetensors file needs: pip install safetensors. Or use the suffix .pth."
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
    arrays = _convert(content, Tensor, lambda value: value.detach().cpu().numpy())
    return pickle.dumps(arrays, protocol=4)


def digest(state: Mapping[str, Tensor]) -> str:
    """SHA-256 of names, types, shapes and values: "sha256:" and 64 hexadecimal digits.

    It depends neither on the container nor on the order. The digests in metadata are those of
    torchvision's names.
    """
    found = hashlib.sha256()
    for name in sorted(state):
        value = state[name].detach().cpu().contiguous()
        found.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
        found.update(value.reshape(-1).view(torch.uint8).numpy().tobytes())
    return f"sha256:{found.hexdigest()}"
