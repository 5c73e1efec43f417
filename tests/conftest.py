"""Fixtures that several test files share."""

import os
import runpy
from pathlib import Path

import pytest
from mmengine.registry import DefaultScope
from mmengine.visualization import Visualizer

from benchmarks.processes import ROOT


def pytest_collection_modifyitems(items):
    """Tests marked slow first: they then do not run alone at the end, beside an idle worker."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)


@pytest.fixture(autouse=True)
def _initial_state():
    """After each test, the default scope and the visualizers that a training of it has set are
    forgotten: a visualizer of the same name would write into the folder of an earlier test."""
    yield
    for kind in (DefaultScope, Visualizer, *Visualizer.__subclasses__()):
        kind._instance_dict.clear()


@pytest.fixture
def run_tool(monkeypatch, capsys):
    """Runs tools/NAME.py as a program on the CPU, in this process, which has imported torch.

    run_tool(name, *arguments) returns the exit status, the output and the errors.
    """
    monkeypatch.syspath_prepend(ROOT / "tools")
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)

    def run(name: str, *arguments: object) -> tuple[int, str, str]:
        path = str(ROOT / "tools" / f"{name}.py")
        monkeypatch.setattr("sys.argv", [path, *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            runpy.run_path(path, run_name="__main__")
        printed = capsys.readouterr()
        return ended.value.code, printed.out, printed.err

    return run


@pytest.fixture(scope="session")
def coco_mini() -> Path:
    """The folder coco_mini with images and annotations of COCO; without it the test is skipped.

    The folder is SLOTCON_DATA or SLOTCON_DATA/coco_mini, or without that variable
    ../shared/data/coco_mini.
    """
    candidates = [ROOT.parent / "shared" / "data" / "coco_mini"]
    if os.environ.get("SLOTCON_DATA"):
        named = Path(os.environ["SLOTCON_DATA"]).expanduser()
        candidates = [named, named / "coco_mini"]
    for folder in candidates:
        if (folder / "images").is_dir():
            return folder
    pytest.skip(f"no coco_mini images in {' or '.join(map(str, candidates))}; set SLOTCON_DATA")
