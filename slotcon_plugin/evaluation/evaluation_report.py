"""Results: a table to read, a JSON file to keep."""

import json
import platform
from pathlib import Path
from typing import NamedTuple

import torch
from torch.utils.data import Dataset

from ..errors import ConfigError
from ..runtime.atomic_files import write_atomically
from ..version import __version__


class Run(NamedTuple):
    """What was found of one network."""

    name: str  # as the user wrote it
    origin: str  # what it is
    results: dict


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


def _parts(results: dict) -> dict[str, dict]:
    """The figures of a sub-command by clustering and matching, or all of them under ""."""
    if "clusterings" in results:
        return {
            f"{size} clusters, {mode}": values
            for size, modes in results["clusterings"].items()
            for mode, values in modes.items()
        }
    return results.get("matchings") or {"": results}


def summary(results: dict) -> str:
    """The table of one network's results: one row a matching, or one row."""
    return _table_of(list(_parts(results).items()))


def comparison(runs: list[Run]) -> str:
    """The table of several networks under the same options: one row each.

    Clusterings and matchings stand side by side, with two figures in a cell.
    """
    rows = [(run.name, _parts(run.results)) for run in runs]
    columns = list(rows[0][1])
    if columns == [""]:
        return _table_of([(name, parts[""]) for name, parts in rows])
    cells = [
        [name, *(f"{_cell(v['accuracy'])} / {_cell(v['miou'])}" for v in parts.values())]
        for name, parts in rows
    ]
    return table(["accuracy / mIoU, %", *columns], cells)


def _table_of(rows: list[tuple[str, dict]]) -> str:
    shown = {key: name for key, name in COLUMNS.items() if key in rows[0][1]}
    return table(
        ["%", *shown.values()],
        [[row, *(values[key] for key in shown)] for row, values in rows],
    )


def per_class(values: dict) -> str:
    """The table of the classes of one result."""
    return table(
        ["class", "IoU", "accuracy", "pixels"],
        [[name, v["iou"], v["accuracy"], v["pixels"]] for name, v in values["classes"].items()],
    )


def data_of(train: Dataset | None, test: Dataset) -> dict:
    """Which images were used: how many, by what they were chosen, and where they lie."""
    used = dict(test=test, train=train)
    return {
        name: dict(images=len(data), selection=data.selection, source=data.source)
        for name, data in used.items()
        if data is not None
    }


def show(runs: list[Run], train: Dataset | None, test: Dataset, size: int, classes: bool) -> None:
    """Print what was evaluated on what, the table, and of one network the classes if wanted.

    Args:
        runs: a network each.
        train, test: the images.
        size: pixels of their sides.
        classes: whether the classes are wanted.
    """
    for run in runs:
        print(f"network:   {run.origin}")
    print(f"images:  {test.selection}; at {size} x {size} pixels")
    if train is not None:
        print(f"learned from: {train.selection}")
    results = runs[0].results
    print(f"\n{summary(results) if len(runs) == 1 else comparison(runs)}")
    for run in runs:
        if "note" in run.results:
            print(f"\nnote: {f'{run.name}: ' * (len(runs) > 1)}{run.results['note']}")
    if len(runs) > 1:
        return
    for mode, values in results.get("matchings", {"": results}).items():
        if classes and isinstance(values.get("classes"), dict):
            print(f"\n{mode}\n{per_class(values)}".replace("\n\n\n", "\n\n"))


def write_results(
    path: Path,
    evaluation: str,
    options: dict,
    runs: list[Run],
    train: Dataset | None,
    test: Dataset,
) -> None:
    """Write everything that was found, and of what, as JSON.

    One network stands as `network` and `results`; several as a list of such pairs, `networks`.

    Args:
        path: the file.
        evaluation: the sub-command.
        options: of the command line.
        runs: a network each.
        train, test: the images.
    """
    pairs = [dict(network=run.origin, results=run.results) for run in runs]
    found = pairs[0] if len(runs) == 1 else dict(networks=pairs)
    options = {
        name: str(value) if isinstance(value, Path) else value for name, value in options.items()
    }
    head = dict(evaluation=evaluation, options=options, data=data_of(train, test))
    write_json(path, head | found)


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
