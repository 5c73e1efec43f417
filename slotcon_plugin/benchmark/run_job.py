"""Runs one job: its commands, each continued where it was interrupted, then the result file."""

import contextlib
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import uuid
from collections.abc import Callable
from pathlib import Path

from ..errors import SlotConError, TrainingStopped
from ..runtime.atomic_files import write_atomically
from .gpus import take_gpus
from .job_clock import Clock, lock_job
from .job_result import BORN, describe, device_name
from .jobs import Job, Step

# torchrun ends with status 1 whatever happens, and says what happened.
LAUNCHERS = ("torchrun", "tools/dist_train.sh")
FROM_OUTSIDE = re.compile(r"SignalException|exitcode\s*: -(9|15)\b")


class Interrupted(TrainingStopped):
    """A command was ended from outside, by a time limit or a kill: another attempt continues it."""


def is_complete(step: Step, folder: Path) -> bool:
    """Whether a step was finished, by this start or an earlier one."""
    done = folder / step.done
    return done.is_file() and (step.says is None or done.read_text().strip() == step.says)


def command_line(step: Step, job: Job, root: Path) -> list[str]:
    """A step's command with this Python and the job's folder in it."""
    words = [word.replace("{folder}", job.folder) for word in step.command]
    if words[0] == "python":
        return [sys.executable, "-u", *words[1:]]
    if words[0] == "torchrun":
        launch = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", words[1]]
        return [sys.executable, *launch, *words[2:]]
    return [str(root / words[0]), *words[1:]]


def environment_of(job: Job, root: Path, gpus: str) -> dict[str, str]:
    """The environment of a job's commands: the planned data folders, its GPUs, its cores."""
    here = {
        name: value
        for name, value in os.environ.items()
        if name not in ("SLOTCON_BACKBONE", "SLOTCON_WORK_DIR", "PYTHONDONTWRITEBYTECODE")
    }
    path = os.pathsep.join(filter(None, [str(root), os.environ.get("PYTHONPATH", "")]))
    threads = "1" if job.gpus else str(job.cores)
    return {
        **here,
        **job.environment,
        "PYTHONPATH": path,
        "PYTHON": sys.executable,  # dist_train.sh's
        "CUDA_VISIBLE_DEVICES": gpus,
        # The number of threads changes the last digits of sums on a CPU
        "OMP_NUM_THREADS": threads,
        "MKL_NUM_THREADS": threads,
    }


def run_job(job: Job, root: Path, needs: dict[str, Path], attempt: int = 1) -> None:
    """Run a job to its end and write its result.

    Args:
        job: of the plan.
        root: the repository's root folder.
        needs: the result files of the jobs that it needs, by their names. What it made from what
            they had made before they began anew is removed.
        attempt: Snakemake's count within one start of the chain, from 1. A later one is for a job
            that was ended (time limit, machine); one that failed by itself would fail again.

    Raises:
        ConfigError: it cannot be started here.
        TrainingStopped: one of its commands failed; the message names the log.
    """
    folder = Path(job.folder)

    def say(line: str) -> None:
        print(f"[{job.name}] {line}", flush=True)

    with contextlib.ExitStack() as held:
        handles = [lock_job(folder, say)]
        held.callback(os.close, handles[0])
        failure = folder / "failure.txt"
        if attempt > 1 and failure.exists():
            raise TrainingStopped(failure.read_text(encoding="utf-8"))
        failure.unlink(missing_ok=True)
        try:
            _remove_outdated(folder, needs, say)
            _run_steps(job, root, handles, held, say)
        except Interrupted:
            raise
        except SlotConError as error:
            write_atomically(str(error).encode(), failure)
            raise


def _remove_outdated(folder: Path, needs: dict[str, Path], say: Callable[[str], None]) -> None:
    """Empty a job's folder if what it was made from was made anew since."""
    note = folder / "needs.json"
    now = {
        name: json.loads(result.read_text(encoding="utf-8"))["born"]
        for name, result in needs.items()
    }
    if note.exists() and json.loads(note.read_text(encoding="utf-8")) != now:
        say(f"begins again: {', '.join(needs)} was made anew")
        for path in folder.iterdir():
            if path.is_dir():
                shutil.rmtree(path)
            elif path.name not in ("lock", note.name):  # the note goes last: a kill may come
                path.unlink()
    write_atomically(json.dumps(now).encode(), note)
    if not (folder / BORN).exists():
        write_atomically(uuid.uuid4().hex.encode(), folder / BORN)


def _run_steps(
    job: Job, root: Path, handles: list[int], held: contextlib.ExitStack, say: Callable[[str], None]
) -> None:
    folder = Path(job.folder)
    recipe = json.dumps(job.recipe, indent=1, default=str)
    write_atomically(recipe.encode(), folder / "recipe.json")
    gpus, locks = take_gpus(job.gpus, say)
    for lock in locks:
        held.callback(os.close, lock)
    environment = environment_of(job, root, gpus)
    running: list[int] = []
    with Clock(folder, lambda: running[-1] if running else None) as clock:
        for step in job.steps:
            if is_complete(step, folder):
                continue
            try:
                _run_step(step, job, root, environment, [*handles, *locks], running)
            except TrainingStopped as error:
                if step.needed or isinstance(error, Interrupted):
                    raise
                say(str(error))
        counted = clock.content()
    found = describe(job, root, counted, device_name(job.gpus, environment))
    write_atomically(json.dumps(found, indent=1, allow_nan=False).encode(), job.result)


def _run_step(
    step: Step, job: Job, root: Path, environment: dict, handles: list[int], running: list[int]
) -> None:
    words = command_line(step, job, root)
    log = Path(job.folder) / "log.txt"
    with open(log, "ab") as stream:
        stream.write(f"\n$ {shlex.join(words)}\n".encode())
        stream.flush()
        process = subprocess.Popen(
            words,
            cwd=root,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=subprocess.STDOUT,
            pass_fds=handles,
        )
        running.append(process.pid)
        status = process.wait()
    if status or not is_complete(step, Path(job.folder)):
        last = log.read_text(errors="replace").splitlines()[-25:]
        what = f"ended with status {status}" if status else f"ended without writing {step.done}"
        ended = -status in (signal.SIGTERM, signal.SIGKILL) or (
            step.command[0] in LAUNCHERS and FROM_OUTSIDE.search("\n".join(last))
        )
        raise (Interrupted if ended else TrainingStopped)(
            f"{job.name} {what}: {shlex.join(step.command[:2])}. The end of {log}:\n  "
            + "\n  ".join(last)
        )
