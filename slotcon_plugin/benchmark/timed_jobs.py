"""Hours of a benchmark's trainings before the first of them, from timed steps of each kind."""

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from ..runtime.text_formats import describe_bytes, describe_duration
from .job_states import State
from .jobs import Job
from .locks import present_gpus
from .run_job import environment_of


def time_jobs(
    jobs: Iterable[Job], states: dict[str, State], root: Path, max_minutes: float
) -> dict[str, State]:
    """The states with the time left of trainings of which no similar one was measured.

    For each config with its overrides and number of GPUs, `tools/plan.py` times steps on one GPU or
    the CPU, from random weights, and a line is printed. The rest stays unknown: exports,
    evaluations, detectron2's own trainer, and trainings on GPUs where there is none.

    Args:
        root: the folder in which the jobs run.
        max_minutes: for the timed steps of each kind.
    """
    states, numbers = dict(states), {}
    for job in jobs:
        words, state = plan_words(job), states[job.name]
        if words is None or state.seconds_left is not None:
            continue
        if (kind := tuple(words)) not in numbers:
            print(f"timing steps of {job.name}", flush=True)
            if job.gpus and not present_gpus():
                print("  not timed: there is no GPU here, and a CPU says nothing about it")
                numbers[kind] = None
                continue
            numbers[kind] = _run_plan([*words, "--max-minutes", str(max_minutes)], job, root)
        if found := numbers[kind]:
            left = found["seconds"] * (1 - state.share)
            states[job.name] = replace(state, seconds_left=left)
    return states


def plan_words(job: Job) -> list[str] | None:
    """The arguments of tools/plan.py for a training; None for other jobs."""
    program, *words = job.steps[0].command
    if program == "python" and words[0] == "tools/train.py":
        config, rest = words[1], words[2:]
    elif program == "tools/dist_train.sh":
        config, rest = words[0], words[2:]
    else:
        return None
    options = rest[rest.index("--cfg-options") :] if "--cfg-options" in rest else []
    backbone = ["--backbone", "none"] * (job.rule == "transfer")
    return [config, "--gpus", str(max(job.gpus, 1)), *backbone, *options]


def _run_plan(words: list[str], job: Job, root: Path) -> dict | None:
    """The numbers of `apis.plan`; None, with a line that says why, if it fails."""
    with tempfile.TemporaryDirectory(prefix="slotcon_plan_") as folder:
        out = Path(folder) / "plan.json"
        command = [sys.executable, str(root / "tools" / "plan.py"), *words, "--out", str(out)]
        environment = environment_of(job, root, present_gpus()[0] if job.gpus else "")
        streams = dict(stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        done = subprocess.run(command, cwd=root, env=environment, **streams)
        if done.returncode:
            print(f"  not timed: {done.stderr.strip().rpartition('error: ')[2]}", flush=True)
            return None
        found = json.loads(out.read_text())
    memory = found["memory_estimated"]
    print(
        f"  {describe_duration(found['seconds'])} on {found['processes']} x {found['device']}: "
        f"{found['images_per_second']:.3g} images/s each, {found['data_wait']:.0%} waiting for "
        "images" + (f", memory {describe_bytes(memory)}" if memory else ""),
        flush=True,
    )
    return found
