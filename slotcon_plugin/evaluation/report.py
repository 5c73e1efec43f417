"""Results: a table to read, a JSON file to keep."""

import json
import platform
from pathlib import Path

import torch
from torch.utils.data import Dataset

from .. import __version__
from ..engine.checkpoint import write_atomically
from ..errors import ConfigError


def table(head: list[str], rows: list[list[object]]) -> str:
    """A table in Markdown with aligned columns; numbers with two digits, None as a dash."""
    cells = [head, *([_cell(value) for value in row] for row in rows)]
    widths = [max(len(line[i]) for line in cells) for i in range(len(head))]
    lines = [
        "| " + " | ".join(text.ljust(width) for text, width in zip(line, widths)) + " |"
        for line in cells
    ]
    return "\n".join([lines[0], "|" + "|".join("-" * (w + 2) for w in widths) + "|", *lines[1:]])


def _cell(value: object) -> str:
    if value is None:
        return "–"
    return f"{value:.2f}" if isinstance(value, float) else str(value)


# Columns of a result, if it has them.
COLUMNS = {
    "accuracy": "accuracy",
    "miou": "mIoU",
    "accuracy_things": "things, acc.",
    "miou_things": "things, mIoU",
    "accuracy_stuff": "stuff, acc.",
    "miou_stuff": "stuff, mIoU",
    "top1": "top-1",
    "top5": "top-5",
}


def summary(results: dict) -> str:
    """The table of a sub-command's results: one row a matching, or one row."""
    if "clusterings" in results:
        rows = {
            f"{size} clusters, {mode}": values
            for size, modes in results["clusterings"].items()
            for mode, values in modes.items()
        }
    else:
        rows = results.get("matchings") or {"": results}
    shown = {key: name for key, name in COLUMNS.items() if key in next(iter(rows.values()))}
    return table(
        ["%", *shown.values()],
        [[row, *(values[key] for key in shown)] for row, values in rows.items()],
    )


def per_class(values: dict) -> str:
    """The table of the classes of one result."""
    return table(
        ["class", "IoU", "accuracy", "pixels"],
        [[name, v["iou"], v["accuracy"], v["pixels"]] for name, v in values["classes"].items()],
    )


def data_of(train: Dataset | None, test: Dataset) -> dict:
    """Which pictures were used: how many, and by what they were chosen."""
    used = dict(test=test, train=train)
    return {
        name: dict(pictures=len(data), selection=data.selection)
        for name, data in used.items()
        if data is not None
    }


def show(
    origin: str, train: Dataset | None, test: Dataset, size: int, results: dict, classes: bool
) -> None:
    """Print what was evaluated on what, the table, and the classes if they are wanted."""
    print(f"network:   {origin}")
    print(f"pictures:  {test.selection}, at {size} x {size} pixels")
    if train is not None:
        print(f"learned from: {train.selection}")
    print(f"\n{summary(results)}")
    if "note" in results:
        print(f"\nnote: {results['note']}")
    for mode, values in results.get("matchings", {"": results}).items():
        if classes and isinstance(values.get("classes"), dict):
            print(f"\n{mode}\n{per_class(values)}".replace("\n\n\n", "\n\n"))


def write_json(path: Path, content: dict) -> None:
    """Write results with the versions they were made with, whole or not at all.

    Raises:
        ConfigError: the file cannot be written.
    """
    versions = dict(
        slotcon_plugin=__version__, torch=torch.__version__, python=platform.python_version()
    )
    text = json.dumps({**content, "versions": versions}, indent=1, allow_nan=False)
    try:
        write_atomically(text.encode(), path)
    except OSError as error:
        raise ConfigError(f"{path} cannot be written: {error.strerror}.") from error
