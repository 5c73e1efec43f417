"""What was measured, as a table for people and as JSON."""

import json
import os
import platform
import shutil
import statistics
import subprocess
from dataclasses import asdict, dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import torch
import torchvision

from benchmarks.timing import Timed, spread

# How a value of each unit is written: (divisor, what is written behind the number).
UNITS = {
    "s": (1e-3, "ms"),
    "bytes": (2**20, "MiB"),
    "traffic": (2**10, "KiB"),
    "images/s/core": (1, "images/s/core"),
    "images/s": (1, "images/s"),
    "images": (1, "images"),
    "share": (0.01, "%"),
}


@dataclass
class Row:
    """One thing, measured beside its plain baseline."""

    table: str  # data, step, memory, exchange, all or largest
    name: str
    unit: str  # a key of UNITS
    ours: float | None  # median; None if the measurement failed
    plain: float | None  # median; None where there is no plain version, or it failed
    ours_spread: float = 0.0  # half the quartiles' distance, share of the median
    plain_spread: float = 0.0
    ratio: float | None = None  # how many times ours is better
    goal: float | None = None  # the least ratio that is aimed at
    value_goal: float | None = None  # of ours itself: the least, of a share the most

    def __post_init__(self) -> None:
        measured = self.ours is not None and self.plain is not None
        if measured and self.ratio is None and self.unit != "share":
            more_is_better = self.unit.startswith("images")
            large, small = (self.ours, self.plain) if more_is_better else (self.plain, self.ours)
            self.ratio = large / small if small else None


def timed_row(
    table: str,
    name: str,
    times: Timed,
    goal: float | None = None,
    images: int | None = None,
    unit: str = "s",
) -> Row:
    """A row of times; with `images`, of images per second instead, that many a run.

    The ratio is the median over the rounds' own ratios: both sides of a round ran next to each
    other.
    """
    ratio = statistics.median(p / o for o, p in zip(*times, strict=True))
    sides = [[images / t for t in side] if images else side for side in times]
    medians = [statistics.median(side) for side in sides]
    return Row(table, name, unit, *medians, *map(spread, sides), ratio=ratio, goal=goal)


def machine(device: str) -> dict:
    """Where and with what this was measured."""
    import PIL

    from slotcon_plugin.datasets import decode

    facts = {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "load": round(os.getloadavg()[0], 1),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "torchvision": torchvision.__version__,
        "pillow": PIL.__version__,
        "jpeg": "simplejpeg" if decode.decode_jpeg is not None else "PIL",
    }
    for library in ("mmengine", "simplejpeg"):
        if find_spec(library):
            facts[library] = import_module(library).__version__
    if device == "cuda":
        memory = torch.cuda.get_device_properties(0).total_memory
        facts |= {
            "gpu": torch.cuda.get_device_name(),
            "gpu memory": f"{memory / 2**30:.0f} GiB",
            "driver": _driver(),
            "cuda": torch.version.cuda,
            "cudnn": torch.backends.cudnn.version(),
        }
    return facts


def table(rows: list[Row]) -> str:
    """The rows under each other, with the goals that they have."""
    head = ("table", "what", "ours", "±", "plain", "±", "ratio", "goal")
    body = []
    for row in rows:
        body.append(
            (
                row.table,
                row.name,
                "failed" if row.ours is None else _written(row.ours, row.unit),
                f"{row.ours_spread:.0%}" if row.ours_spread else "",
                "" if row.plain is None else _written(row.plain, row.unit),
                f"{row.plain_spread:.0%}" if row.plain_spread else "",
                "" if row.ratio is None else f"{row.ratio:.1f}×",
                _goal(row),
            )
        )
    widths = [max(len(line[i]) for line in (head, *body)) for i in range(len(head))]
    lines = []
    for line in (head, tuple("-" * w for w in widths), *body):
        left = [cell.ljust(w) for cell, w in zip(line[:2], widths[:2], strict=True)]
        right = [cell.rjust(w) for cell, w in zip(line[2:], widths[2:], strict=True)]
        lines.append("  ".join(left + right).rstrip())
    return "\n".join(lines)


def write_json(path: str | Path, facts: dict, settings: dict, rows: list[Row]) -> None:
    """Everything that was measured, with where and how."""
    record = {"machine": facts, "settings": settings, "rows": [asdict(row) for row in rows]}
    text = json.dumps(record, indent=1, ensure_ascii=False)
    Path(path).write_text(text + "\n", encoding="utf-8")


def _goal(row: Row) -> str:
    goals = []
    if row.goal is not None:
        reached = row.ratio is not None and row.ratio >= row.goal
        goals.append(f"≥ {row.goal:g}× {'yes' if reached else 'NO'}")
    if row.value_goal is not None:
        at_most = row.unit == "share"
        enough = row.ours is not None and (
            row.ours <= row.value_goal if at_most else row.ours >= row.value_goal
        )
        wanted = f"{row.value_goal:.0%}" if at_most else f"{row.value_goal:,g}"
        goals.append(f"{'≤' if at_most else '≥'} {wanted} {'yes' if enough else 'NO'}")
    return ", ".join(goals)


def _written(value: float, unit: str) -> str:
    divisor, name = UNITS[unit]
    value /= divisor
    digits = 0 if value >= 100 else 1 if value >= 10 else 2
    return f"{value:,.{digits}f} {name}"


def _driver() -> str | None:
    program = shutil.which("nvidia-smi")
    if program is None:
        return None
    command = [program, "--query-gpu=driver_version", "--format=csv,noheader"]
    return subprocess.run(command, capture_output=True, text=True).stdout.partition("\n")[0]


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
