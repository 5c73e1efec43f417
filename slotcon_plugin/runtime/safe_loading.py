"""Reads checkpoints without running code that is in them.

`torch.load` unpickles, and a pickle can run any code. MMEngine's own loader does that;
`use_safe_loader` replaces it. Here `plain_pickle` reads the pickle. The data of a zip file, which
`torch.save` has written since torch 1.6, are compared with their checksums; older files have none.
"""

import os
import pickle
import re
import struct
import sys
import tarfile
import zipfile
from collections.abc import Iterable
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

import torch
from mmengine.runner import CheckpointLoader
from torch import Tensor

from ..errors import CheckpointError
from .pickle_limits import require
from .plain_pickle import build_plain, load_plain
from .training_state import check_training_state

TRAINING_KEYS = ("meta", "state_dict", "message_hub", "optimizer")

# The prefixes for which MMEngine 0.10 has a loader; some of those loaders unpickle fully.
REMOTE_PREFIXES = [
    *("http://", "https://", "modelzoo://", "torchvision://", "open-mmlab://", "openmmlab://"),
    *("mmcls://", "pavi://", r"(\S+\:)?s3://", r"(\S+\:)?petrel://"),
]


def check_file(path: str | Path) -> Path:
    """The path of a file that exists and is not empty, with the home folder for `~`.

    Raises:
        CheckpointError: it does not exist, is no regular file, or is empty.
    """
    path = Path(os.path.expanduser(path))
    if os.path.isdir(path):
        raise CheckpointError(f"{path} is a folder. Give the path of a checkpoint, a file.")
    if not os.path.isfile(path):  # False for every kind of impossible path
        raise CheckpointError(
            f"There is no checkpoint {path}. Check the path; --resume alone searches the work dir."
        )
    if os.path.getsize(path) == 0:
        raise CheckpointError(
            f"The checkpoint {path} is empty (0 bytes). Use another one, or copy it again."
        )
    return path


def load_checkpoint_safely(
    path: str | Path, map_location: str | torch.device | None = None, also: Iterable[str] = ()
) -> dict:
    """Read a checkpoint without running anything that is in it.

    Args:
        path: a file that `torch.save` wrote.
        map_location: the device of the tensors; None: the CPU.
        also: names of types that are allowed in addition, see `plain_pickle.load_plain`.

    Returns:
        The dictionary in the file; its `meta`, if there is one, is a dictionary, too.

    Raises:
        CheckpointError: the file is missing, empty, truncated, changed, compressed or of another
            kind, or contains a type that is not allowed.
    """
    path = check_file(path)
    try:
        with open(path, "rb") as file:
            is_zip = file.read(4) == b"PK\x03\x04"
            file.seek(0)
            content = (_read_zip if is_zip else _read_old)(file, path.stat().st_size, also)
            checkpoint = build_plain(content, map_location or "cpu")
    except Exception as error:
        # zipfile, pickle and torch raise many types of errors for files of other kinds.
        raise CheckpointError(why_not_loaded(path, error)) from None
    return check_content(checkpoint, path)


def check_content(content: Any, path: Path) -> dict:
    """The content of a file of weights, if it and the entries with fixed names are dictionaries.

    Raises:
        CheckpointError: they are not.
    """
    if not isinstance(content, dict):
        raise CheckpointError(
            f"{path} contains a {type(content).__name__}, not a checkpoint: a dictionary of "
            "weights was expected."
        )
    for key in ("meta", "state_dict", "model"):
        if key in content and not isinstance(content[key], dict):
            found = type(content[key]).__name__
            raise CheckpointError(f"{path}: `{key}` is a {found}, expected a dictionary.")
    return content


def _read_zip(file: BinaryIO, size: int, also: Iterable[str]) -> Any:
    """The content of a file of torch 1.6 and later; `zipfile` verifies the checksums."""
    with zipfile.ZipFile(file) as archive:
        entries = {entry.filename: entry for entry in archive.infolist()}
        stored = all(entry.compress_type == zipfile.ZIP_STORED for entry in entries.values())
        total = sum(entry.file_size for entry in archive.infolist())
        require(stored and total <= size, "data that are not compressed, as torch.save writes them")
        pickles = [name for name in entries if re.fullmatch(r"([^/]+/)?data\.pkl", name)]
        require(len(pickles) == 1, "a zip file of torch.save with one data.pkl")
        prefix = pickles[0].removesuffix("data.pkl")
        if f"{prefix}byteorder" in entries:
            order = archive.read(f"{prefix}byteorder").decode("ascii")
            require(order == sys.byteorder, f"{sys.byteorder}-endian numbers")
        buffers: dict[str, Tensor] = {}

        def storage(key: str, dtype: torch.dtype, numel: int) -> Tensor:
            if key not in buffers:
                entry = entries[f"{prefix}data/{key}"]
                buffers[key] = torch.empty(entry.file_size, dtype=torch.uint8)
                with archive.open(entry) as data:
                    data.readinto(buffers[key].numpy())
            require(len(buffers[key]) == numel * dtype.itemsize, f"{numel} numbers of {dtype}")
            return buffers[key].view(dtype)

        return load_plain(BytesIO(archive.read(pickles[0])), also, storage)


def _read_old(file: BinaryIO, size: int, also: Iterable[str]) -> Any:
    """The content of a file of torch 0.1.10 to 1.5: five pickles, then the data."""
    require(not tarfile.is_tarfile(file), "a file of torch 0.1.10 or later, not a .tar")
    file.seek(0)
    buffers: dict[str, tuple[Tensor, torch.dtype]] = {}

    def storage(key: str, dtype: torch.dtype, numel: int) -> Tensor:
        if key not in buffers:
            total = sum(len(buffer) for buffer, _ in buffers.values()) + numel * dtype.itemsize
            require(total <= size, f"{numel} numbers of {dtype}")
            buffers[key] = torch.empty(numel * dtype.itemsize, dtype=torch.uint8), dtype
        require(len(buffers[key][0]) == numel * dtype.itemsize, f"{numel} numbers of {dtype}")
        return buffers[key][0].view(dtype)

    header = [load_plain(file, also) for _ in range(3)]
    require(header[:2] == [0x1950A86A20F9469CFC6C, 1001], "the header that torch.save writes")
    require(header[2].get("little_endian") == (sys.byteorder == "little"), "native byte order")
    content = load_plain(file, also, storage)
    keys = load_plain(file, also)
    require(isinstance(keys, list) and set(keys) == set(buffers), "data for each tensor")
    for key in keys:
        buffer, dtype = buffers[key]
        numel = struct.unpack("=q", file.read(8))[0]
        complete = numel * dtype.itemsize == file.readinto(buffer.numpy())
        require(complete, f"{len(buffer):,} bytes of data")
    return content


def why_not_loaded(path: Path, error: Exception, kind: str = "a file that torch.save wrote") -> str:
    """The message for a file that could not be read.

    Args:
        path: the file.
        error: what was raised.
        kind: what was expected.
    """
    refused = re.search(r"GLOBAL ([\w.]+)", str(error))
    if isinstance(error, pickle.UnpicklingError) and refused:
        return (
            f"The checkpoint {path} was refused: it asks for `{refused[1]}`, and loading what is "
            "not on a short list can run code. Nothing in it was run. Only dense tensors, plain "
            "values and MMEngine's logged histories are accepted; if you trust the file, convert "
            "it to weights alone with its own software first."
        )
    own = isinstance(error, pickle.UnpicklingError | zipfile.BadZipFile)
    reason = f": {str(error)[:200]}" if own else ""
    return (
        f"The checkpoint {path} cannot be read: it is truncated, damaged, or not {kind} "
        f"({type(error).__name__}{reason}). Nothing in it was run. Copy it again or use an earlier "
        "one."
    )


def use_safe_loader(work_dir: str | Path | None = None) -> None:
    """Let MMEngine read every checkpoint of this process with `load_checkpoint_safely`.

    This includes resuming, `load_from` and `init_cfg=dict(type="Pretrained")`. URLs are refused. A
    training state is checked before MMEngine applies it.

    Args:
        work_dir: the training's, see `check_training_state`.
    """

    def load_file(filename: str, map_location: Any = None) -> dict:
        device = map_location if isinstance(map_location, str | torch.device) else None
        checkpoint = load_checkpoint_safely(filename, device)
        # Runner.resume would run this program; MMEngine itself writes none.
        checkpoint.get("meta", {}).pop("config", None)
        if all(key in checkpoint for key in TRAINING_KEYS):
            check_training_state(checkpoint, filename, work_dir)
        return checkpoint

    def refuse_url(filename: str, map_location: Any = None) -> dict:
        raise CheckpointError(
            f"{filename} is a URL. Download the file, check its origin, and give its path."
        )

    CheckpointLoader.register_scheme(prefixes="", loader=load_file, force=True)
    CheckpointLoader.register_scheme(prefixes=REMOTE_PREFIXES, loader=refuse_url, force=True)
