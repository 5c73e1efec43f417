"""Reads checkpoints without running code, which a pickle can contain.

`torch.load(weights_only=True)` reads a file whose names, sizes and (since torch 1.6) checksums were
checked before. `use_safe_loader` replaces MMEngine's own loader, which lets a pickle run code.
"""

import os
import pickle
import re
import tarfile
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

import torch
from mmengine.runner import CheckpointLoader
from torch import Tensor

from ..errors import CheckpointError
from .pickle_limits import check_opcodes, require
from .stand_ins import NAMESPACE, STAND_INS, TORCH_NAMES, plain_values
from .training_state import TRAINING_KEYS, check_training_state

# The prefixes for which MMEngine 0.10 has a loader; some of those loaders unpickle fully.
REMOTE_PREFIXES = [
    *("http://", "https://", "modelzoo://", "torchvision://", "open-mmlab://", "openmmlab://"),
    *("mmcls://", "pavi://", r"(\S+\:)?s3://", r"(\S+\:)?petrel://"),
]


def check_file(path: str | Path) -> Path:
    """The path of a file that is there and not empty, with the home folder for `~`."""
    if "://" in str(path):
        raise CheckpointError(
            f"{path} is a URL. Download the file, check its origin, and give its path."
        )
    path = Path(os.path.expanduser(path))
    if os.path.isdir(path):
        found = sorted(file.name for file in path.glob("*.pth"))[-8:]
        inside = f" in it: {', '.join(found)}." if found else ", a file."
        raise CheckpointError(f"{path} is a folder. Give the path of a checkpoint{inside}")
    if not os.path.isfile(path):  # False for every kind of impossible path
        if os.path.lexists(path):
            raise CheckpointError(
                f"{path} is a pipe, a device, a socket, or a link that leads to no file. Give the "
                "path of a checkpoint, a regular file."
            )
        raise CheckpointError(f"There is no checkpoint {path}. Check the path.")
    if os.path.getsize(path) == 0:
        raise CheckpointError(f"The checkpoint {path} is empty. Use another one or copy it again.")
    return path


def load_checkpoint_safely(path: str | Path, also: Iterable[str] = ()) -> dict:
    """Read a dictionary that `torch.save` wrote without running anything that is in the file.

    The tensors are on the CPU. `also` may contain `stand_ins.NAMESPACE`, to allow it in addition.

    Raises:
        CheckpointError: the file is missing, empty, truncated, changed, compressed or of another
            kind, or contains a type that is not allowed.
    """
    path = check_file(path)
    allowed = {name: kind for name, kind in STAND_INS.items() if name != NAMESPACE or name in also}
    names = allowed.keys() | TORCH_NAMES
    try:
        with open(path, "rb") as file:
            if zipfile.is_zipfile(file):
                _check_zip(file, path.stat().st_size, names)
            else:
                _check_old(file, names)
            file.seek(0)
            with torch.serialization.safe_globals([(kind, name) for name, kind in allowed.items()]):
                content = torch.load(file, "cpu", weights_only=True)
        checkpoint = plain_values(content)
    except Exception as error:
        # zipfile, pickle and torch raise many types of errors for files of other kinds.
        raise CheckpointError(why_not_loaded(path, error)) from None
    return check_content(checkpoint, path)


def check_content(content: Any, path: Path) -> dict:
    """The content of a file, if it and its `meta`, `state_dict` and `model` are dictionaries."""
    if not isinstance(content, dict):
        found = type(content).__name__
        raise CheckpointError(f"{path} contains a {found}, expected a dictionary of weights.")
    for key in ("meta", "state_dict", "model"):
        if key in content and not isinstance(content[key], dict):
            found = type(content[key]).__name__
            raise CheckpointError(f"{path}: `{key}` is a {found}, expected a dictionary.")
    return content


def _check_zip(file: BinaryIO, size: int, names: set[str]) -> None:
    """Check a file of torch 1.6 and later before it is read: sizes, names, checksums."""
    with zipfile.ZipFile(file) as archive:
        entries = archive.infolist()
        stored = all(entry.compress_type == zipfile.ZIP_STORED for entry in entries)
        fits = sum(entry.file_size for entry in entries) <= size
        require(stored and fits, "data that are not compressed, as torch.save writes them")
        pickles = [e for e in entries if e.filename.rpartition("/")[2] == "data.pkl"]
        require(len(pickles) == 1, "a zip file of torch.save with one data.pkl")
        check_opcodes(BytesIO(archive.read(pickles[0])), names)
        if damaged := archive.testzip():
            raise zipfile.BadZipFile(f"Bad CRC-32 for file {damaged!r}")


def _check_old(file: BinaryIO, names: set[str]) -> None:
    """Check a file of torch 0.1.10 to 1.5 before it is read; it has no checksums."""
    file.seek(0)
    require(not tarfile.is_tarfile(file), "a file of torch 0.1.10 or later, not a .tar")
    file.seek(0)
    for _ in range(5):  # magic number, protocol, machine, content, names of the storages
        check_opcodes(file, names)


def check_finite(state: Mapping[str, Tensor], source: str) -> None:
    """Raise CheckpointError if a weight is infinite or NaN."""
    for name, value in state.items():
        if value.is_floating_point() and not torch.isfinite(value).all():
            raise CheckpointError(f"{source}: `{name}` is not finite. Take an earlier checkpoint.")


def why_not_loaded(path: Path, error: Exception, kind: str = "a file that torch.save wrote") -> str:
    """The message for a file that could not be read because of `error`; `kind` was expected."""
    own = isinstance(error, pickle.UnpicklingError | zipfile.BadZipFile)
    refused = re.search(r"GLOBAL ([\w.]+)", str(error))
    if isinstance(error, pickle.UnpicklingError) and refused:
        return (
            f"The checkpoint {path} was refused: it asks for `{refused[1]}`, which could run code "
            "when it is loaded. Nothing in it was run. Only dense tensors, plain values and "
            "MMEngine's logs are accepted; if you trust the file, convert it to weights alone with "
            "its own software first."
        )
    text = str(error).rpartition("WeightsUnpickler error: ")[2]  # torch's, behind its own advice
    reason = f": {text.splitlines()[0][:200]}" if own and text else ""
    return (
        f"The checkpoint {path} cannot be read: it is truncated, damaged, or not {kind} "
        f"({type(error).__name__}{reason}). Nothing in it was run. Copy it again or use an earlier "
        "one."
    )


def use_safe_loader(work_dir: str | Path | None = None, known: dict | None = None) -> None:
    """Let MMEngine read every checkpoint of this process with `load_checkpoint_safely`.

    This includes resuming, `load_from` and `init_cfg=dict(type="Pretrained")`. URLs are refused. A
    training state is checked before MMEngine applies it; for `work_dir` see `check_training_state`.
    `known` has the contents of files that were read already, by path; each is given out once.
    """

    def load_file(filename: str, map_location: Any = None) -> dict:
        # On the CPU, whatever the map_location is: modules and optimizers copy to their devices.
        checkpoint = (known or {}).pop(str(filename), None) or load_checkpoint_safely(filename)
        # Runner.resume would run this program; MMEngine itself writes none.
        checkpoint.get("meta", {}).pop("config", None)
        if all(key in checkpoint for key in TRAINING_KEYS):
            check_training_state(checkpoint, filename, work_dir)
        return checkpoint

    for prefixes in ("", REMOTE_PREFIXES):  # URLs too: `check_file` refuses them
        CheckpointLoader.register_scheme(prefixes=prefixes, loader=load_file, force=True)


@contextmanager
def safe_loader(work_dir: str | Path | None = None, known: dict | None = None) -> Iterator[None]:
    """`use_safe_loader` for a while: MMEngine's loaders are the same as before afterwards."""
    schemes = dict(CheckpointLoader._schemes)
    use_safe_loader(work_dir, known)
    try:
        yield
    finally:
        CheckpointLoader._schemes = schemes
