"""Results as tables to read and as a JSON file to keep."""

from pathlib import Path
from typing import NamedTuple

from torch.utils.data import Dataset

from ..errors import ConfigError
from ..runtime.environment import collect_versions
from ..runtime.scalars import write_metrics
from ..runtime.text_formats import markdown_cell, one_line

# Key of a score in the results -> title of its column.
# fmt: off
COLUMNS = {
    "accuracy": "accuracy", "miou": "mIoU",
    "accuracy_things": "things, acc.", "miou_things": "things, mIoU",
    "accuracy_stuff": "stuff, acc.", "miou_stuff": "stuff, mIoU",
    "top1": "top-1", "top5": "top-5", "rankme": "RankMe", "alpha_req": "α-ReQ",
}
# fmt: on


class Run(NamedTuple):
    """The results of one network."""

    name: str  # as the user wrote it
    origin: str  # what it is
    results: dict


def table(head: list[str], rows: list[list[object]]) -> str:
    """A Markdown table; numbers have two digits, None becomes a dash."""
    from tabulate import tabulate  # visualization, which uses write_json, does not need it

    def shown(cells: list[object]) -> list[object]:
        return [markdown_cell(cell) if isinstance(cell, str) else cell for cell in cells]

    # A name in the first column can look like a number
    form = dict(floatfmt=".2f", missingval="–", disable_numparse=[0])
    return tabulate([shown(row) for row in rows], shown(head), "github", **form)


def score_parts(results: dict) -> dict[str, dict]:
    """The scores of each clustering and matching by its name, or all scores under ""."""
    if "clusterings" in results:
        return {
            f"{size} clusters, {matching}": scores
            for size, matchings in results["clusterings"].items()
            for matching, scores in matchings.items()
        }
    return results.get("matchings") or {"": results}


def score_table(runs: list[Run]) -> str:
    """A row for each network, or for each clustering and matching of a single one.

    With several networks and matchings, a cell has the accuracy and mean IoU of one matching.
    """
    parts = [score_parts(run.results) for run in runs]
    names = list(parts[0])
    if len(runs) > 1 and names != [""]:
        cells = [[_two_scores(scores) for scores in part.values()] for part in parts]
        rows = [[run.name, *row] for run, row in zip(runs, cells)]
        return table(["accuracy / mIoU, %", *names], rows)
    scored = [
        (name or run.name, one) for run, part in zip(runs, parts) for name, one in part.items()
    ]
    shown = [key for key in COLUMNS if key in scored[0][1]]
    rows = [[name, *(scores[key] for key in shown)] for name, scores in scored]
    unit = "" if "rankme" in shown else "%"
    return table([unit, *(COLUMNS[key] for key in shown)], rows)


def _two_scores(scores: dict) -> str:
    values = scores["accuracy"], scores["miou"]
    return " / ".join("–" if value is None else f"{value:.2f}" for value in values)


def print_report(
    runs: list[Run], train: Dataset | None, test: Dataset, size: int, classes: bool
) -> None:
    """Print the networks, the images at `size` x `size` pixels, the scores and the notes.

    With `classes` and a single network, the scores of each class are printed too.
    """
    lines = [f"network: {one_line(run.origin)}" for run in runs]
    lines.append(f"images: {one_line(test.selection)}; at {size} x {size} pixels")
    if train is not None:
        lines.append(f"learned from: {one_line(train.selection)}")
    lines += ["", score_table(runs)]
    for run in runs:
        if "note" in run.results:
            name = f"{one_line(run.name)}: " * (len(runs) > 1)
            lines += ["", f"note: {name}{one_line(run.results['note'])}"]
    if classes and len(runs) == 1 and "clusterings" not in runs[0].results:
        for name, scores in score_parts(runs[0].results).items():
            if isinstance(scores.get("classes"), dict):
                found = scores["classes"].items()
                rows = [[key, one["iou"], one["accuracy"], one["pixels"]] for key, one in found]
                lines += ["", *filter(None, [name])]
                lines.append(table(["class", "IoU", "accuracy", "pixels"], rows))
    print("\n".join(lines))


def write_json(path: Path, content: dict) -> None:
    """Write results with the versions they were made with, completely or not at all."""
    try:
        write_metrics({**content, "versions": collect_versions()}, path)
    except OSError as error:
        raise ConfigError(f"{path} cannot be written: {error.strerror}.") from error
