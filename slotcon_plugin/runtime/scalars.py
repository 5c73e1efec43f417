"""What a training logged: its curves, last losses and memory."""

import json
import math
import sys
from pathlib import Path
from typing import Any

from .atomic_files import write_atomically


def read_entries(folder: Path) -> dict[int, dict[str, float]]:
    """From each logged step, in their order, to its finite numbers by name, such as `loss`.

    Of a step that was logged twice, by two runs, each name has the later one's value. A damaged
    line, and one without a whole number as its step, is left out.

    Args:
        folder: a training's work dir, with a `<time>/vis_data/scalars.json` of MMEngine for each
            run in it or with detectron2's `metrics.json`; or the folder of one run.
    """
    entries: dict[int, dict[str, float]] = {}
    names = ("vis_data/scalars.json", "*/vis_data/scalars.json", "metrics.json")
    for file in [file for name in names for file in sorted(folder.glob(name))]:
        for line in file.read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                entry = json.loads(line)
            except (ValueError, RecursionError):  # cut short by a kill, or damaged
                continue
            step = entry.get("step", entry.get("iteration")) if isinstance(entry, dict) else None
            if type(step) is int and _is_number(step):
                numbers = {name: value for name, value in entry.items() if _is_number(value)}
                entries.setdefault(step, {}).update(numbers)
    return dict(sorted(entries.items()))


def log_lines(folder: Path, last: float = math.inf) -> str:
    """`read_entries` up to the step `last`, a line of JSON for each."""
    entries = read_entries(folder).items()
    return "".join(f"{json.dumps(numbers)}\n" for step, numbers in entries if step <= last)


def read_curves(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """From each name in `read_entries` to its (step, value) pairs."""
    curves: dict[str, list[tuple[int, float]]] = {}
    for step, numbers in read_entries(folder).items():
        for name, value in numbers.items():
            if name not in ("step", "iteration", "iter", "epoch"):
                curves.setdefault(name, []).append((step, float(value)))
    return curves


def _is_number(value: object) -> bool:
    """Whether it is one that a float can hold; the integers of JSON can be larger."""
    return type(value) in (int, float) and abs(value) <= sys.float_info.max


def note_images(work_dir: str | Path, **counts: int) -> None:
    """Write how many images were read (`trained`, `evaluated`) into the work dir's images.json."""
    write_atomically(json.dumps(counts).encode(), Path(work_dir) / "images.json")


def write_metrics(metrics: dict, path: str | Path) -> None:
    """Write results, by name or nested, as JSON; null for numbers that are not finite, such as
    COCO's mean over no objects."""

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: plain(one) for name, one in value.items()}
        if isinstance(value, list | tuple):
            return [*map(plain, value)]
        if value is None or isinstance(value, str | int):
            return value
        return float(value) if math.isfinite(value) else None

    write_atomically(json.dumps(plain(metrics), indent=1).encode(), path)


def last_losses(folder: Path) -> dict[str, float]:
    """The losses that were logged last."""
    curves = read_curves(folder)
    return {name: points[-1][1] for name, points in curves.items() if "loss" in name}


def peak_gpu_memory(folder: Path) -> float | None:
    """The most memory that the first process's GPU had allocated, MiB; None without a GPU."""
    return max((value for _, value in read_curves(folder).get("memory", [])), default=None)
