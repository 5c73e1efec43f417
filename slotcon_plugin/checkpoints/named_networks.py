"""What may be given instead of a checkpoint's path: `zoo:NAME`, and a work dir.

`zoo:NAME` is a trained network that the package contains; see `evaluation.teacher_folder`.
"""

import os
from collections.abc import Callable
from pathlib import Path

from ..errors import CheckpointError, did_you_mean
from ..runtime.config_files import ROOT
from ..runtime.resume_state import find_last_good_checkpoint

FOLDER_WEIGHTS = "model.safetensors"  # of a model folder, as timm and the Hugging Face Hub name it
ZOO = ROOT / "zoo"
MARK = "zoo:"


def in_zoo(source: object) -> bool:
    """Whether a source is `zoo:NAME`, of a known network or not."""
    return str(source).startswith(MARK)


def zoo_networks() -> dict[str, str]:
    """The sources `zoo:NAME`, each with the line about it that its README.md begins with."""
    found = {}
    for file in sorted(ZOO.glob(f"*/{FOLDER_WEIGHTS}")):
        card = file.with_name("README.md")
        lines = card.read_text(encoding="utf-8").splitlines() if card.is_file() else []
        about = next((line for line in lines if line and not line.startswith("#")), "")
        found[MARK + file.parent.name] = about
    return found


def zoo_folder(source: str | Path) -> Path:
    """The folder of `zoo:NAME`; a CheckpointError lists the networks if there is no such."""
    if str(source) not in (known := zoo_networks()):
        raise CheckpointError(
            f"There is no network {source}.{did_you_mean(str(source), known)} The package "
            f"contains {', '.join(known) or 'no trained network'}."
        )
    return ZOO / str(source).removeprefix(MARK)


def last_of_work_dir(source: str | Path, say: Callable[[str], None]) -> str:
    """The last good checkpoint of a work dir, which is said; every other source as it is.

    A folder with `model.safetensors` is no work dir. A folder without checkpoint is an error.
    """
    path = Path(source).expanduser()
    if in_zoo(source) or not os.path.isdir(path) or (path / FOLDER_WEIGHTS).is_file():
        return str(source)
    try:
        found = find_last_good_checkpoint(path, say)
    except CheckpointError:  # with advice for a training that is resumed
        found = None
    if found is None:
        raise CheckpointError(
            f"{path} is a folder, and has no checkpoint of a training that can be read."
        )
    say(f"{source} is a work dir: {found[0].name} is used, its last good checkpoint")
    return str(found[0])
