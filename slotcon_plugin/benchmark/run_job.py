"""Runs one job: its commands, each continued where it was interrupted, then the result file."""

import contextlib
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import uuid
from datetime import datetime, timezone
from pathlib import Path

from ..checkpoints import metadata
from ..errors import DataError, SlotConError, TrainingStopped
from ..runtime.atomic_files import write_atomically
from ..runtime.environment import collect_versions, processor_name
from ..runtime.scalars import last_losses, peak_gpu_memory
from .clock import BEAT, Clock, Notes
from .end_together import end_process, end_with_owner, end_with_parent
from .jobs import Job, JobResult, Step, read_record, write_record
from .locks import lock_gpus, lock_job
from .measures import read_measures

RUN_ID = "run_id"  # a file with a random name, written when a job begins from nothing
FIGURES = "figures.json"
# torchrun ends with status 1 after any failure; its log has the reason.
LAUNCHERS = ("torchrun", "tools/dist_train.sh")
FROM_OUTSIDE = re.compile(r"SignalException|exitcode\s*: -(9|15)\b")


class Interrupted(TrainingStopped):
    """A command was ended from outside, by a time limit or a kill: another attempt continues it."""


def is_complete(step: Step, folder: Path) -> bool:
    """Whether a step was finished, by this start or an earlier one."""
    done = folder / step.done
    if done.suffix == ".json":
        return bool(read_record(done, dict))
    if step.content is None:
        return done.is_file()
    return done.is_file() and done.read_text(errors="replace").strip() == step.content


def run_job(job: Job, root: Path, needs: dict[str, Path], attempt: int = 1) -> None:
    """Run a job to its end and write its result; TrainingStopped if a command fails.

    Args:
        job: of the plan.
        root: the repository's root folder.
        needs: the result files of the jobs that it needs, by name. If one of them began from
            nothing since, this job does too.
        attempt: Snakemake's count within one start of the benchmark, from 1. Only a job that was
            interrupted (time limit, machine) is run again; one that failed would fail again.
    """
    end_with_owner()
    run = _Run(job, root)
    failure = run.folder / "failure.txt"
    try:
        run.locks.append(lock_job(run.folder, run.say))
        if attempt > 1 and failure.exists():
            raise TrainingStopped(failure.read_text(encoding="utf-8", errors="replace"))
        failure.unlink(missing_ok=True)
        try:
            run.remove_outdated(needs)
            write_record(run.result(), job.result)
        except Interrupted:
            raise
        except SlotConError as error:
            write_atomically(str(error).encode(), failure)
            raise
    finally:
        for lock in run.locks:
            os.close(lock)


class _Run:
    """One start of a job."""

    def __init__(self, job: Job, root: Path) -> None:
        self.job, self.root, self.folder = job, root, Path(job.folder)
        self.locks: list[int] = []  # open files, which the commands inherit

    def say(self, line: str) -> None:
        print(f"[{self.job.name}] {line}", flush=True)

    def remove_outdated(self, needs: dict[str, Path]) -> None:
        """Empty the folder if the job's input was created again since, or is not known."""
        note = self.folder / "needs.json"
        existed, now = note.exists(), {}
        for name, path in needs.items():
            result = read_record(path, JobResult)
            if result is None:
                raise TrainingStopped(f"The result of {name} is missing; run the benchmark again.")
            now[name] = result.run_id
        if needs and existed and read_record(note, dict[str, str]) != now:
            self.say(f"begins again: {', '.join(needs)} was created again")
            for path in self.folder.iterdir():
                if path.is_dir():
                    shutil.rmtree(path)
                elif path.name not in ("lock", note.name):  # a kill must leave the old note
                    path.unlink()
        write_record(now, note)
        if not (self.folder / RUN_ID).exists():
            write_atomically(uuid.uuid4().hex.encode(), self.folder / RUN_ID)

    def result(self) -> JobResult:
        """Run the steps that are not complete, and collect the results."""
        write_record(self.job.recipe, self.folder / "recipe.json")
        gpus, locks = lock_gpus(self.job.gpus, self.say)
        self.locks += locks
        environment = environment_of(self.job, self.root, gpus)
        clock = Clock(self.folder)
        clock.note()
        read_record(self.folder / FIGURES, dict, self._check_figures)  # sets damaged ones aside
        for step in self.job.steps:
            if is_complete(step, self.folder):
                continue
            try:
                self._run_step(step, environment, clock)
            except TrainingStopped as error:
                if step.needed or isinstance(error, Interrupted):
                    raise
                self.say(str(error))
        return self._describe(clock.note(), environment)

    def _check_figures(self, metrics: dict) -> None:
        read_measures(self.job.about["kind"], self.job.about["column"], metrics)
        images = metadata.lookup(metrics, "data.test.images")
        if self.job.rule == "evaluate" and type(images) is not int:
            raise DataError(f"data.test.images is {images!r:.80}, expected their number")

    def _run_step(self, step: Step, environment: dict[str, str], clock: Clock) -> None:
        words, log = self._command_line(step), self.folder / "log.txt"
        with open(log, "ab") as output:
            output.write(f"\n$ {shlex.join(words)}\n".encode())
            output.flush()
            streams = dict(stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT)
            streams |= dict(cwd=self.root, env=environment, pass_fds=self.locks)
            streams |= dict(preexec_fn=end_with_parent(signal.SIGTERM))
            process = subprocess.Popen(words, **streams)
        status = None
        try:
            while status is None:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    status = process.wait(BEAT)
                with contextlib.suppress(OSError):  # a full disk; the command is still watched
                    clock.note(process.pid)
        except KeyboardInterrupt:
            end_process(process, signal.SIGTERM)
            raise
        if status or not is_complete(step, self.folder):
            last = "\n  ".join(log.read_text(errors="replace").splitlines()[-25:])
            what = f"ended with status {status}" if status else f"ended without writing {step.done}"
            from_outside = -status in (signal.SIGTERM, signal.SIGKILL)
            from_outside |= step.command[0] in LAUNCHERS and bool(FROM_OUTSIDE.search(last))
            kind = Interrupted if from_outside else TrainingStopped
            command = shlex.join(step.command[:2])
            raise kind(f"{self.job.name} {what}: {command}. The end of {log}:\n  {last}")

    def _command_line(self, step: Step) -> list[str]:
        """A step's command with this Python and the job's folder."""
        program, *words = [word.replace("{folder}", self.job.folder) for word in step.command]
        if program == "python":
            return [sys.executable, "-u", *words]
        if program == "torchrun":
            launch = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node"]
            return [sys.executable, *launch, *words]
        return [str(self.root / program), *words]

    def _describe(self, notes: Notes, environment: dict[str, str]) -> JobResult:
        folder, about = self.folder, self.job.about
        metrics = read_record(folder / FIGURES, dict) or {}
        measures = read_measures(about["kind"], about["column"], metrics) if metrics else {}
        evaluated = metrics.get("data")  # of tools/evaluate.py
        images = {"evaluated": evaluated["test"]["images"]} if isinstance(evaluated, dict) else {}
        for file in (folder / "images.json", folder / "test" / "images.json"):
            images |= read_record(file, dict[str, int]) or {}
        return JobResult(
            job=self.job,
            run_id=(folder / RUN_ID).read_text(encoding="utf-8", errors="replace"),
            measures=measures,
            metrics=metrics,
            losses=last_losses(folder),
            images=images,
            seconds=round(notes.seconds, 1),
            starts=notes.starts,
            peak_memory_mib=round(notes.peak_mib),
            peak_gpu_memory_mib=peak_gpu_memory(folder),
            bytes=sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()),
            device=_device(self.job.gpus, environment),
            versions=collect_versions(self.root),
            finished=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        )


def environment_of(job: Job, root: Path, gpus: str) -> dict[str, str]:
    """The environment of a job's commands: the plan's data folders, the job's GPUs and cores."""
    unset = ("SLOTCON_BACKBONE", "SLOTCON_WORK_DIR", "PYTHONDONTWRITEBYTECODE")
    path = os.pathsep.join(filter(None, [str(root), os.environ.get("PYTHONPATH", "")]))
    threads = "1" if job.gpus else str(job.cores)  # on a CPU they change the order of sums
    variables = {name: value for name, value in os.environ.items() if name not in unset}
    variables |= job.environment | dict(PYTHONPATH=path, PYTHON=sys.executable)
    variables |= dict(OMP_NUM_THREADS=threads, MKL_NUM_THREADS=threads)
    return variables | dict(CUDA_VISIBLE_DEVICES=gpus)


def _device(gpus: int, environment: dict[str, str]) -> str:
    """The name of the GPU that the environment shows, or of the CPU."""
    if not gpus:
        return processor_name()
    ask = [sys.executable, "-c", "import torch; print(torch.cuda.get_device_name())"]
    name = subprocess.run(ask, env=environment, stdout=subprocess.PIPE, text=True).stdout
    return f"{gpus} x {name.strip() or 'unknown GPU'}"
