"""The plan: which jobs are done, what is missing, how long and how large it may become."""

import json
import re
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from statistics import mean

from .job_clock import read_clock
from .jobs import Job, Plan

CHECKPOINT = re.compile(r"(?:epoch|iter|model)_(\d+)\.pth")


@dataclass(frozen=True)
class State:
    """How far a job is."""

    word: str  # done, begun or waiting
    share: float  # of its length, 0-1, as its checkpoints tell
    seconds_left: float | None  # None: nothing like it was measured
    bytes: int | None  # when it is done; None: nothing like it was measured


def read_result(path: Path) -> dict | None:
    """A job's result file; None if there is none. It is complete if it is there."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError:
        return None


def states_of(plan: Plan, work_dir: Path) -> dict[str, State]:
    """How far each job is, by its name.

    Times and sizes of jobs to come are the means of finished jobs of the same config on as many
    GPUs, each unit of their length counted alike; those of a job that was interrupted its own.
    """
    measured: dict[tuple, list[tuple[float, int]]] = {}
    for file in work_dir.glob("jobs/*/*/result.json"):
        result = read_result(file)
        key = (result["rule"], result["about"].get("config"), result["gpus"])
        per_unit = result["seconds"] / result["length"]
        measured.setdefault(key, []).append((per_unit, result["bytes"]))
    return {job.name: _state(job, measured) for job in plan.jobs}


def _state(job: Job, measured: dict) -> State:
    result = read_result(job.result)
    if result is not None:
        return State("done", 1.0, 0.0, result["bytes"])
    known = measured.get((job.rule, job.about.get("config"), job.gpus), [])
    rates = [rate for rate, _ in known]
    size = round(mean(size for _, size in known)) if known else None
    clock, folder = read_clock(Path(job.folder)), Path(job.folder)
    if not clock:
        return State("waiting", 0.0, mean(rates) * job.length if rates else None, size)
    numbers = [int(n[1]) for f in folder.glob("*.pth") if (n := CHECKPOINT.fullmatch(f.name))]
    done = min(max(numbers, default=0), job.length)
    if done:
        rates = [clock["seconds"] / done]
    left = mean(rates) * (job.length - done) if rates else None
    return State("begun", done / job.length, left, size)


def describe_plan(plan: Plan, states: dict[str, State], work_dir: Path) -> str:
    """The plan in words: a line a job, then the sums."""
    width = max(len(job.name) for job in plan.jobs)
    lines = [f"{'job':{width}}  state       GPUs  {'length':>18}  left"]
    for job in plan.jobs:
        state = states[job.name]
        word = f"{state.word} {100 * state.share:.0f} %" if state.word == "begun" else state.word
        left = "" if state.word == "done" else hours(state.seconds_left)
        length = f"{job.length:,} {job.unit}"
        lines.append(f"{job.name:{width}}  {word:10}  {job.gpus:4}  {length:>18}  {left}")
    lines += [f"left out: {reason}" for reason in plan.left_out]
    waiting = [job for job in plan.jobs if states[job.name].word != "done"]
    done = len(plan.jobs) - len(waiting)
    lines.append(f"\n{len(plan.jobs)} jobs: {done} done, {len(waiting)} to run")
    if waiting:
        lines.append(f"time:  {_cost(waiting, states)}")
    lines.append(f"disk:  {_disk(plan.jobs, states, work_dir)}")
    lines.append(f"files: {work_dir}")
    return "\n".join(lines)


def _cost(waiting: Iterable[Job], states: dict[str, State]) -> str:
    kinds = {"GPU": [], "CPU": []}
    unknown = 0
    for job in waiting:
        seconds = states[job.name].seconds_left
        if seconds is None:
            unknown += 1
        else:
            kinds["GPU" if job.gpus else "CPU"].append(seconds * max(job.gpus, 1))
    known = [f"{sum(v) / 3600:.2f} {kind}-hours" for kind, v in kinds.items() if v]
    if unknown:
        known.append(f"{unknown} jobs of which nothing like it was measured here yet")
    return ", and ".join(known)


def _disk(jobs: Iterable[Job], states: dict[str, State], work_dir: Path) -> str:
    sizes = [states[job.name].bytes for job in jobs]
    known = sum(size for size in sizes if size is not None)
    place = next(path for path in (work_dir, *work_dir.absolute().parents) if path.exists())
    free = shutil.disk_usage(place).free
    unknown = sum(size is None for size in sizes)
    text = f"{known / 2**30:.1f} GiB for {len(sizes) - unknown} jobs, as measured"
    if unknown:
        text += f"; {unknown} jobs not known"
    return f"{text}; {free / 2**30:.0f} GiB free"


def hours(seconds: float | None) -> str:
    """A duration for people: 45 s, 12 min, 3.4 h, 2.1 days; ? if it is not known."""
    if seconds is None:
        return "?"
    for limit, divisor, unit in ((90, 1, "s"), (5400, 60, "min"), (172800, 3600, "h")):
        if seconds < limit:
            return f"{seconds / divisor:.{int(unit == 'h')}f} {unit}"
    return f"{seconds / 86400:.1f} days"
