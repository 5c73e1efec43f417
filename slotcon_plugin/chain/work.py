"""Runs one job: its commands, each continued where it was interrupted, then the result file."""

import contextlib
import json
import os
import platform
import shlex
import subprocess
import sys
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path

from ..engine.checkpoint import write_atomically
from ..engine.scalars import last_losses, peak_gpu_memory
from ..errors import TrainingStopped
from .clock import Clock, lock_job
from .gpus import take_gpus
from .jobs import Job, Step
from .measures import read_measures

PACKAGES = (
    "slotcon_plugin",
    "torch",
    "torchvision",
    "onedl-mmengine",
    "onedl-mmcv",
    "onedl-mmdetection",
    "onedl-mmsegmentation",
    "mmengine",
    "mmcv",
    "mmdet",
    "mmsegmentation",
    "detectron2",
    "numpy",
    "snakemake",
)


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
    threads = str(max(job.cores // max(job.gpus, 1), 1)) if job.gpus == 0 else "1"
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


def run_job(job: Job, root: Path, attempt: int = 1) -> None:
    """Run a job to its end and write its result.

    Args:
        job: of the plan.
        root: the repository's root folder.
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
        recipe = json.dumps(job.recipe, indent=1, default=str)
        write_atomically(recipe.encode(), folder / "recipe.json")
        gpus, locks = take_gpus(job.gpus, say)
        for lock in locks:
            held.callback(os.close, lock)
        environment = environment_of(job, root, gpus)
        running: list[int] = []
        with Clock(folder, lambda: running[-1] if running else None) as clock:
            for step in job.steps:
                if not is_complete(step, folder):
                    _run_step(step, job, root, environment, [*handles, *locks], running)
            counted = clock.content()
        found = describe(job, counted, device_name(job.gpus, environment))
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
        told = f"{job.name} {what}: {shlex.join(step.command[:2])}. The end of {log}:\n  "
        told += "\n  ".join(last)
        if status >= 0:  # not ended by a signal
            write_atomically(told.encode(), Path(job.folder) / "failure.txt")
        raise TrainingStopped(told)


def describe(job: Job, counted: dict, device: str) -> dict:
    """The content of a job's result file.

    Args:
        job: the job, all its steps complete.
        counted: of `Clock.content`.
        device: of `device_name`.
    """
    folder = Path(job.folder)
    metrics, measures = {}, {}
    if (folder / "figures.json").is_file():
        metrics = json.loads((folder / "figures.json").read_text(encoding="utf-8"))
        measures = read_measures(job.about["kind"], job.about["column"], metrics)
    return dict(
        job=job.name,
        rule=job.rule,
        digest=job.digest,
        about=job.about,
        seed=job.about.get("transfer_seed", job.about["seed"]),
        measures=measures,
        metrics=metrics,
        losses=last_losses(folder),
        deviations=job.deviations,
        length=job.length,
        unit=job.unit,
        seconds=round(counted["seconds"], 1),
        starts=counted["starts"],
        peak_memory_mib=round(counted["peak_mib"]),
        peak_gpu_memory_mib=peak_gpu_memory(folder),
        bytes=sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()),
        device=device,
        gpus=job.gpus,
        cores=job.cores,
        environment=job.environment,
        commands=[step.command for step in job.steps],
        versions=versions(),
        finished=datetime.now(timezone.utc).isoformat(timespec="seconds"),
    )


def versions() -> dict[str, str]:
    """The versions of what a result depends on, without importing it."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    if "slotcon_plugin" not in found:  # used from its folder
        from .. import __version__

        found["slotcon_plugin"] = __version__
    return found


def device_name(gpus: int, environment: dict[str, str]) -> str:
    """The name of the GPU that a job's environment shows, or the CPU's."""
    if gpus:
        ask = [sys.executable, "-c", "import torch; print(torch.cuda.get_device_name())"]
        told = subprocess.run(ask, env=environment, stdout=subprocess.PIPE, text=True)
        return f"{gpus} x {told.stdout.strip() or 'unknown GPU'}"
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if "model name" in line)
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
