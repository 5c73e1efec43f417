"""Run the tools on damaged and wrong inputs, and count what they must never do.

    python benchmarks/fuzz.py
    python benchmarks/fuzz.py checkpoints images --runs 200 --seed 1

Five kinds of inputs: checkpoints, images, labels, benchmark files (yaml) and command lines
(options). Each run is one command of tools/ in a process of its own, with one input made from the
seed; in some runs nothing is wrong. Failures are

    traceback    a Python traceback was printed
    crash        the process was killed by a signal, or took more than --memory
    hang         it did not end within --timeout
    half-load    it succeeded although its input was not what it must be
    false-alarm  it refused an input in which nothing was wrong
    silent       it failed without a message

The runs that failed stay in --folder, with the command and its output. Exit status 0: none failed.
"""

import argparse
import os
import resource
import runpy
import shlex
import shutil
import signal
import sys
import time
from collections import Counter
from importlib import import_module
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # runs without installation too

KINDS = ("checkpoints", "images", "labels", "yaml", "options")
FAILURES = ("traceback", "crash", "hang", "half-load", "false-alarm", "silent")
TOOLS = ("train", "export", "evaluate", "draw_groups", "visualize", "run_benchmark")


class Run(NamedTuple):
    """A run that is going on."""

    kind: str
    trial: object
    folder: Path
    started: float


def parse_args() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("kinds", nargs="*", metavar="KIND", help="default: all five")
    parser.add_argument("--runs", type=int, default=240, help="of each kind (%(default)s)")
    parser.add_argument("--first", type=int, default=0, help="number of the first run (0)")
    parser.add_argument("--seed", type=int, default=0, help="default: %(default)s")
    parser.add_argument("--jobs", type=int, default=2, help="at the same time (%(default)s)")
    parser.add_argument("--timeout", type=float, default=120, help="seconds (%(default)s)")
    parser.add_argument("--memory", type=float, default=4, help="GiB of a run (%(default)s)")
    parser.add_argument("--folder", type=Path, default=Path("work_dirs/fuzz"))
    args = parser.parse_args()
    if unknown := set(args.kinds) - set(KINDS):
        parser.error(f"unknown kind {', '.join(unknown)}; expected some of {', '.join(KINDS)}")
    return args


def fuzz(
    folder: Path,
    kinds: tuple[str, ...] = KINDS,
    runs: int = 240,
    first: int = 0,
    seed: int = 0,
    jobs: int = 2,
    timeout: float = 120,
    memory: float = 4,
) -> dict[str, Counter]:
    """Run all trials; see the command line.

    Returns:
        For each kind the numbers of "runs", "accepted", "refused" and of each of `FAILURES`.
    """
    import torch

    torch.set_num_threads(1)  # a forked process must not inherit a pool of threads
    for name in TOOLS:  # once, instead of in every run
        import_module(f"slotcon_plugin.apis.{name}")
    for name in ("mmdet.models", "mmdet.datasets", "mmseg.models", "mmseg.datasets", "matplotlib"):
        import_module(name)
    from benchmarks.fuzz_inputs import Inputs

    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    inputs = Inputs(folder.absolute() / "valid")
    log = folder / "valid" / "output.txt"
    waiting = os.waitpid(
        start(["train", str(inputs.paths["config"])], folder / "valid", log, memory), 0
    )
    if waiting[1]:
        raise RuntimeError(f"The valid pretraining failed:\n{log.read_text()}")
    counts = {kind: Counter() for kind in kinds}
    names = [(kind, number) for number in range(first, first + runs) for kind in kinds]
    running: dict[int, Run] = {}
    while names or running:
        while names and len(running) < jobs:
            kind, number = names.pop(0)
            place = folder.absolute() / kind / f"{number:04}"
            trial = inputs.draw(kind, place, f"{seed} {kind} {number}")
            process = start(trial.command, place, place / "output.txt", memory)
            running[process] = Run(kind, trial, place, time.monotonic())
        time.sleep(0.01)
        for process, run in list(running.items()):
            late = time.monotonic() - run.started > timeout
            if late:
                os.killpg(process, signal.SIGKILL)
            ended, status, usage = os.wait4(process, 0 if late else os.WNOHANG)
            if ended:
                del running[process]
                code = os.waitstatus_to_exitcode(status)
                result = "hang" if late else judge(run, code, usage.ru_maxrss / 2**20, memory)
                report(run, result, code, counts[run.kind])
    return counts


def start(command: list[str], folder: Path, output: Path, memory: float) -> int:
    """Fork a process that runs a tool. Returns its number."""
    tool, *arguments = command
    sys.stdout.flush()
    process = os.fork()
    if process:
        return process
    import torch

    torch.set_num_threads(1)  # replaces torch's pool once; two threads that do so at a time abort
    os.setsid()
    os.chdir(folder)
    file = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(file, 1)
    os.dup2(file, 2)
    os.environ.update(CUDA_VISIBLE_DEVICES="", OMP_NUM_THREADS="1", PYTHONFAULTHANDLER="1")
    resource.setrlimit(resource.RLIMIT_DATA, (int(3 * memory * 2**30),) * 2)
    sys.argv = [f"tools/{tool}.py", *arguments]
    sys.path.insert(0, str(ROOT / "tools"))
    status = 1
    try:
        runpy.run_path(str(ROOT / "tools" / f"{tool}.py"), run_name="__main__")
    except SystemExit as error:
        status = error.code if isinstance(error.code, int) else int(error.code is not None)
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def judge(run: Run, code: int, used: float, memory: float) -> str:
    """The result of a run that ended with this exit status and took `used` GiB."""
    output = (run.folder / "output.txt").read_text(errors="replace")
    if "Traceback (most recent call last)" in output:
        return "traceback"
    if code < 0 or used > memory:
        return "crash"
    if code and run.trial.accepted:
        return "false-alarm"
    if code:
        return "refused" if "error: " in output else "silent"
    if run.trial.refused or run.trial.check():
        return "half-load"
    return "accepted"


def report(run: Run, result: str, code: int, counts: Counter) -> None:
    """Count a result. A failure is printed and stays on disk; other runs are removed."""
    counts["runs"] += 1
    counts[result] += 1
    if result not in FAILURES:
        shutil.rmtree(run.folder, ignore_errors=True)
        return
    tool, *arguments = run.trial.command
    text = f"{run.trial.what}\n{shlex.join(('python', f'tools/{tool}.py', *arguments))}\n"
    (run.folder / "command.txt").write_text(text, errors="surrogateescape")
    what = run.trial.what.encode(errors="backslashreplace").decode()[:150]
    print(f"{result:10} {run.kind}/{run.folder.name} (status {code}): {what}", flush=True)


def main() -> int:
    """Run, print a table and return the exit status."""
    args = parse_args()
    started = time.monotonic()
    options = {name: value for name, value in vars(args).items() if name != "kinds"}
    counts = fuzz(kinds=tuple(args.kinds) or KINDS, **options)
    columns = ("runs", "accepted", "refused", *FAILURES)
    total = sum(counts.values(), Counter())
    print("".join(f"{name:>12}" for name in ("", *columns)))
    for name, row in (*counts.items(), ("all", total)):
        print(f"{name:>12}" + "".join(f"{row[column]:12}" for column in columns))
    print(f"{time.monotonic() - started:.0f} s, seed {args.seed}")
    return int(any(total[failure] for failure in FAILURES))


if __name__ == "__main__":
    sys.exit(main())
