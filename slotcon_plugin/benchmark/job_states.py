"""How far each job is, and the time and disk space that the rest will take."""

import re
from dataclasses import dataclass
from pathlib import Path
from statistics import mean

from tabulate import tabulate

from ..runtime.disk_space import free_space
from ..runtime.text_formats import describe_duration
from .clock import read_clock
from .jobs import UNITS, Job, JobResult, Plan, read_record, read_result

CHECKPOINT = re.compile(r"(?:epoch|iter|model)_(\d+)\.pth")


@dataclass(frozen=True)
class State:
    """How far a job is."""

    word: str  # done, begun or waiting
    share: float  # of its length, 0-1, by its checkpoints
    seconds_left: float | None  # None: no similar job was measured
    bytes: int | None  # when it is done; None: no similar job was measured
    result: JobResult | None = None


def states_of(plan: Plan, work_dir: Path) -> dict[str, State]:
    """The state of each job, by its name.

    Times and sizes are the means of finished jobs of the same config on as many GPUs, each unit of
    their length counted alike; the time of an interrupted job is its own.
    """
    measured: dict[tuple, list[JobResult]] = {}
    for file in sorted(work_dir.glob("jobs/*/*/result.json")):
        if result := read_record(file, JobResult):
            measured.setdefault(_kind(result.job), []).append(result)
    return {job.name: _state(job, measured.get(_kind(job), [])) for job in plan.jobs}


def _kind(job: Job) -> tuple:
    return job.rule, job.about.get("config"), job.gpus


def _state(job: Job, similar: list[JobResult]) -> State:
    if result := read_result(job):
        return State("done", 1.0, 0.0, result.bytes, result)
    clock, files = read_clock(Path(job.folder)), Path(job.folder).glob("*.pth")
    done = max((int(n[1]) for file in files if (n := CHECKPOINT.fullmatch(file.name))), default=0)
    done = min(done, job.length)
    rates = [one.seconds / one.job.length for one in similar]
    if done and clock.seconds:
        rates = [clock.seconds / done]
    left = mean(rates) * (job.length - done) if rates else None
    size = round(mean(one.bytes for one in similar)) if similar else None
    return State("begun" if done or clock.starts else "waiting", done / job.length, left, size)


def describe_plan(plan: Plan, states: dict[str, State], work_dir: Path) -> str:
    """The plan as text: a line for each job, then the sums."""
    rows, hours, unknown = [], {"GPU": 0.0, "CPU": 0.0}, 0
    for job in plan.jobs:
        state = states[job.name]
        word = f"{state.word} {100 * state.share:.0f} %" if state.word == "begun" else state.word
        left = "" if state.word == "done" else describe_duration(state.seconds_left)
        rows.append([job.name, word, job.gpus, f"{job.length:,} {UNITS[job.rule]}", left])
        if state.seconds_left is None:
            unknown += 1
        else:
            hours["GPU" if job.gpus else "CPU"] += state.seconds_left * max(job.gpus, 1) / 3600
    time = [f"{value:.2f} {kind}-hours" for kind, value in hours.items() if value]
    time += [f"{unknown} jobs of which no similar one was measured"] if unknown else []
    sizes = [state.bytes for state in states.values() if state.bytes is not None]
    jobs, done = len(plan.jobs), sum(state.word == "done" for state in states.values())
    heads, align = ["job", "state", "GPUs", "length", "left"], ["left", "left", "right", "right"]
    lines = [
        tabulate(rows, heads, "plain", disable_numparse=True, colalign=[*align, "left"]),
        *(f"left out: {reason}" for reason in plan.left_out),
        f"\n{jobs} jobs: {done} done, {jobs - done} to run",
        f"time:  {', and '.join(time) or 'none'}",
        f"disk:  {sum(sizes) / 2**30:.1f} GiB for {len(sizes)} of {jobs} jobs, as measured; "
        f"{free_space(work_dir) / 2**30:.0f} GiB free",
        f"files: {work_dir}",
    ]
    return "\n".join(lines)
