"""Kill a benchmark or a pretraining at random moments until it ends, and compare the results.

    python benchmarks/kill_benchmark.py chain --kills 10
    python benchmarks/kill_benchmark.py chain --benchmark configs/benchmark/mini.yaml --kills 10
    python benchmarks/kill_benchmark.py pretraining --kills 20

Without --benchmark a small one runs, on images drawn here; so does the pretraining. A kill is
SIGKILL to all processes, or SIGKILL, SIGTERM, SIGHUP or SIGINT to the one that the user started,
whose others must end then. Exit status 0: no process was left, and weights (bit for bit), figures
and tables equal those of an undisturbed run. If this program is interrupted, the next start with
the same --folder continues.
"""

import argparse
import contextlib
import json
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # runs without installation too

import psutil
from tabulate import tabulate

from benchmarks.processes import DEMO, ROOT, kill_all, start
from benchmarks.small_benchmark import (
    TOOL,
    pretraining_options,
    small_benchmark,
    write_benchmark,
    write_mini,
)

SIGNALS = ("SIGKILL", "SIGTERM", "SIGHUP", "SIGINT")
LEFT = 60.0  # seconds within which all other processes must end
NAMES = ("undisturbed", "killed")


def parse_args() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=("chain", "pretraining"))
    parser.add_argument("--benchmark", type=Path, help="a benchmark file; its work_dir is not used")
    parser.add_argument("--kills", type=int, default=10, help="default: %(default)s")
    parser.add_argument("--seed", type=int, default=0, help="of the random moments (%(default)s)")
    parser.add_argument("--folder", type=Path, help="default: work_dirs/kill_WHAT")
    parser.add_argument("--cores", default="2", help="of Snakemake (%(default)s)")
    parser.add_argument("--epochs", type=int, default=60, help="of the pretraining (%(default)s)")
    args = parser.parse_args()
    args.folder = (args.folder or Path("work_dirs") / f"kill_{args.what}").absolute()
    return args


class Chain:
    """A benchmark."""

    def __init__(self, args: argparse.Namespace) -> None:
        import yaml

        self.folder, self.cores = args.folder, args.cores
        if args.benchmark:
            content = yaml.safe_load(args.benchmark.read_text())
        elif (self.folder / "mini").exists():
            content = small_benchmark(self.folder / "mini", self.folder, interval=4)
        else:
            content = small_benchmark(write_mini(self.folder / "mini"), self.folder, interval=4)
        for name in NAMES:
            file = self.folder / f"{name}.yaml"
            write_benchmark(file, content | dict(work_dir=str(self.folder / name)))

    def start(self, name: str) -> subprocess.Popen:
        """Start or continue it."""
        with open(self.folder / f"{name}.log", "a") as log:
            return start(TOOL, self.folder / f"{name}.yaml", "--cores", self.cores, output=log)

    def progress(self, name: str) -> tuple[int, str]:
        """How many jobs are done, and those that were begun."""
        return chain_progress(self.folder / name)

    def signs(self, name: str) -> Iterator[Path]:
        """Files that it writes while it works."""
        return (self.folder / name).glob("jobs/*/*/clock.json")

    def results(self, name: str) -> dict[str, object]:
        """All that must be equal, by its name."""
        return chain_results(self.folder / name)


def chain_progress(folder: Path) -> tuple[int, str]:
    """How many jobs of a work dir are done, and those that were begun."""
    clocks = sorted(folder.glob("jobs/*/*/clock.json"))
    begun = [clock.parent for clock in clocks if not (clock.parent / "result.json").exists()]
    return len(clocks) - len(begun), ", ".join(one.parent.name for one in begun)


def chain_results(folder: Path) -> dict[str, object]:
    """Results and weights of the finished jobs in a work dir, and its table."""
    found: dict[str, object] = {}
    for file in sorted(folder.glob("jobs/*/*/result.json")):
        result = json.loads(file.read_text())
        job = result["job"]
        kept = [result[key] for key in ("measures", "losses", "images")]
        found[job["name"]] = [job["digest"], *kept]
        for step in job["steps"]:
            if (path := file.parent / step["done"]).suffix == ".pth":
                found[f"{job['name']}/{path.name}"] = weights(path)
    tables = folder / "tables.csv"
    return found | {"tables.csv": tables.read_text() if tables.exists() else None}


class Pretraining:
    """One training."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.folder, self.epochs = args.folder, args.epochs
        if not (self.folder / "mini").exists():
            write_mini(self.folder / "mini")

    def start(self, name: str) -> subprocess.Popen:
        """Start or continue it."""
        work_dir = self.folder / name
        options = pretraining_options(self.folder / "mini" / "images", work_dir, self.epochs)
        options += ["default_hooks.checkpoint.max_keep_ckpts=2"]
        command = (sys.executable, ROOT / "tools" / "train.py", DEMO, "--work-dir", work_dir)
        with open(self.folder / f"{name}.log", "a") as log:
            return start(*command, "--resume", "--cfg-options", *options, output=log)

    def progress(self, name: str) -> tuple[int, str]:
        """How many epochs are done."""
        files = (self.folder / name).glob("epoch_*.pth")
        done = max((int(file.stem.removeprefix("epoch_")) for file in files), default=0)
        return done, "training" if done else "start"

    def signs(self, name: str) -> Iterator[Path]:
        """Files that it writes while it works."""
        return (self.folder / name).glob("epoch_*.pth")

    def results(self, name: str) -> dict[str, object]:
        """All that must be equal, by its name."""
        return {"weights": weights(self.folder / name / f"epoch_{self.epochs}.pth")}


def weights(path: Path) -> str | None:
    """A digest of all tensors of a checkpoint, bit for bit."""
    from slotcon_plugin.checkpoints.encoder import digest
    from slotcon_plugin.runtime.safe_loading import load_checkpoint_safely

    return digest(load_checkpoint_safely(path)["state_dict"]) if path.exists() else None


def compare(one: dict[str, object], other: dict[str, object]) -> list[list[str]]:
    """A row for each result of either run: whether they are equal."""
    names = list(dict.fromkeys([*one, *other]))
    equal = {name: name in one and name in other and one[name] == other[name] for name in names}
    return [[name, "same" if equal[name] else "DIFFERENT"] for name in names]


def wait_for_work(process: subprocess.Popen, find: Callable, started: float) -> None:
    """Wait until a file is written that `find` lists, or the process has ended."""
    while process.poll() is None:
        for file in find():
            with contextlib.suppress(FileNotFoundError):  # an old checkpoint is removed
                if file.stat().st_mtime > started:
                    return
        time.sleep(0.1)


def kill(process: subprocess.Popen, number: str | None) -> float:
    """Kill all processes, or send one a signal: seconds until all had ended, or infinity."""
    started = time.monotonic()
    others = psutil.Process(process.pid).children(recursive=True)
    if number is None:
        kill_all(process)
    else:
        process.send_signal(getattr(signal, number))
    process.wait()
    _, alive = psutil.wait_procs(others, timeout=LEFT)
    for one in alive:
        one.kill()
    return float("inf") if alive else time.monotonic() - started


def main() -> int:
    """Run both and compare. Returns the exit status."""
    args = parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    target = {"chain": Chain, "pretraining": Pretraining}[args.what](args)
    note = args.folder / "state.json"
    if not note.exists():
        started = time.monotonic()
        process = target.start(NAMES[0])
        wait_for_work(process, lambda: target.signs(NAMES[0]), 0)
        startup = time.monotonic() - started
        if process.wait():
            print(f"it fails by itself: see {args.folder}/undisturbed.log", file=sys.stderr)
            return 1
        length = time.monotonic() - started - startup
        print(f"undisturbed: {startup:.0f} s to begin, then {length:.0f} s", flush=True)
        note.write_text(json.dumps(dict(startup=startup, length=length, kills=[])))
    state = json.loads(note.read_text())
    kills, status = state["kills"], None
    while status is None:
        draw = random.Random(f"{args.seed} {len(kills)}")
        process = target.start(NAMES[1])
        started = time.time()
        # A quarter while it starts; the others later, so that the work advances
        if draw.random() < 0.25:
            moment = draw.uniform(0, 1) * state["startup"]
        else:
            wait_for_work(process, lambda: target.signs(NAMES[1]), started)
            moment = draw.uniform(0, 1.5) * state["length"] / args.kills
        try:
            status = process.wait(moment if len(kills) < args.kills else None)
        except subprocess.TimeoutExpired:
            number = draw.choice((None, *SIGNALS))
            seconds = kill(process, number)
            done, during = target.progress(NAMES[1])
            signaled = f"{number or 'SIGKILL'} to {'one' if number else 'all'}"
            kills.append(
                [len(kills) + 1, signaled, f"{moment:.1f}", done, during, f"{seconds:.1f}"]
            )
            note.write_text(json.dumps(state))
            print(*kills[-1], sep="  ", flush=True)
    heads = ["kill", "signal", "after, s", "done", "during", "all ended in, s"]
    print(f"\n{tabulate(kills, heads, 'github', disable_numparse=True)}\n")
    rows = compare(*(target.results(name) for name in NAMES))
    print(tabulate(rows, ["compared", ""], "github"))
    left = sum(row[-1] == "inf" for row in kills)
    print(f"\nended with status {status} after {len(kills)} kills, {left} of which left processes")
    differ = any(row[1] != "same" for row in rows)
    return int(status != 0 or differ or left > 0 or len(kills) < args.kills)


if __name__ == "__main__":
    sys.exit(main())
