"""The measurements as a table for people and as JSON, with the machine that made them."""

import json
import os
import shutil
import statistics
import subprocess
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from tabulate import tabulate

from benchmarks.measuring import Timed, spread
from benchmarks.processes import ROOT
from slotcon_plugin.datasets import decode
from slotcon_plugin.runtime.environment import collect_versions, processor_name

# How a value of each unit is printed: (divisor, unit after the number).
UNITS = {
    "s": (1e-3, "ms"),
    "bytes": (2**20, "MiB"),
    "traffic": (2**10, "KiB"),
    "images/s/core": (1, "images/s/core"),
    "images/s": (1, "images/s"),
    "images": (1, "images"),
    "share": (0.01, "%"),
}
HEAD = ("table", "what", "ours", "±", "plain", "±", "ratio", "goal")


@dataclass
class Row:
    """One measurement beside its plain baseline."""

    table: str  # one of `speed.TABLES`
    name: str
    unit: str  # a key of UNITS
    ours: float | None  # median; None if the measurement failed
    plain: float | None  # median; None without a plain version, or if it failed
    ours_spread: float = 0.0  # half the distance between the quartiles / median
    plain_spread: float = 0.0
    ratio: float | None = None  # how many times better ours is
    goal: float | None = None  # the smallest ratio that is wanted
    value_goal: float | None = None  # the smallest value of ours that is wanted; largest of shares

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
    """A row of times; with `images` per run, of images per second instead.

    The ratio is the median of the rounds' ratios: both sides of a round ran one after the other.
    """
    ratio = statistics.median(p / o for o, p in zip(*times, strict=True))
    sides = [[images / t for t in side] if images else side for side in times]
    medians = [statistics.median(side) for side in sides]
    return Row(table, name, unit, *medians, *map(spread, sides), ratio=ratio, goal=goal)


def machine(device: str) -> dict:
    """The processor or GPU, and the versions that a measurement depends on."""
    facts = {
        "processor": processor_name(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "load": round(os.getloadavg()[0], 1),
        "jpeg decoder": "PIL" if decode.decode_jpeg is None else "simplejpeg",
    }
    if device == "cuda":
        memory = torch.cuda.get_device_properties(0).total_memory
        facts |= {
            "gpu": torch.cuda.get_device_name(),
            "gpu memory": f"{memory / 2**30:.0f} GiB",
            "driver": _driver(),
            "cuda": torch.version.cuda,
            "cudnn": torch.backends.cudnn.version(),
        }
    return facts | collect_versions(ROOT)


def table(rows: list[Row]) -> str:
    """The rows as text, with their goals."""
    body = [
        (
            row.table,
            row.name,
            "failed" if row.ours is None else _formatted(row.ours, row.unit),
            f"{row.ours_spread:.0%}" if row.ours_spread else "",
            "" if row.plain is None else _formatted(row.plain, row.unit),
            f"{row.plain_spread:.0%}" if row.plain_spread else "",
            "" if row.ratio is None else f"{row.ratio:.1f}×",
            _goal(row),
        )
        for row in rows
    ]
    return tabulate(body, HEAD, disable_numparse=True, colalign=["left"] * 2 + ["right"] * 6)


def write_json(path: str | Path, facts: dict, settings: dict, rows: list[Row]) -> None:
    """Write everything that was measured, where, and with which settings."""
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
        reached = row.ours is not None and (
            row.ours <= row.value_goal if at_most else row.ours >= row.value_goal
        )
        wanted = f"{row.value_goal:.0%}" if at_most else f"{row.value_goal:,g}"
        goals.append(f"{'≤' if at_most else '≥'} {wanted} {'yes' if reached else 'NO'}")
    return ", ".join(goals)


def _formatted(value: float, unit: str) -> str:
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
