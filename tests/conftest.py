"""What several test files share."""

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def repo_root() -> Path:
    """The repository's root folder."""
    return ROOT


@pytest.fixture(scope="session")
def coco_mini() -> Path:
    """The folder of small COCO images and annotations; the test is skipped where there is none.

    It is looked for in SLOTCON_DATA (its parent or itself), then beside the repository in
    shared/data/coco_mini.
    """
    candidates = [ROOT.parent / "shared" / "data" / "coco_mini"]
    if os.environ.get("SLOTCON_DATA"):
        named = Path(os.environ["SLOTCON_DATA"]).expanduser()
        candidates = [named, named / "coco_mini"]
    for folder in candidates:
        if (folder / "images").is_dir():
            return folder
    pytest.skip(f"no coco_mini images in {' or '.join(map(str, candidates))}; set SLOTCON_DATA")
