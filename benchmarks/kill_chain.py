"""Kill a benchmark at random moments until it ends; its results must be those of one left alone.

    python benchmarks/kill_chain.py --kills 10
    python benchmarks/kill_chain.py --benchmark configs/benchmark/mini.yaml --kills 10

Without --benchmark it is the tests' tiny one, longer, on images drawn here. The whole process
group gets kill -9, workers and all. Exit status 0: equal, figure by figure. Interrupted itself, it
goes on in the same --folder.
"""

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import yaml
from tiny_benchmark import tiny_benchmark, write_benchmark
from tiny_training import ROOT, environment
from tiny_transfer import write_mini

STARTUP = 8.0  # seconds in which nothing but Python starts
COMPARED = ("measures", "losses", "digest")


def parse_args() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--benchmark", type=Path, help="a benchmark file; its work_dir is not used")
    parser.add_argument("--kills", type=int, default=10, help="default: %(default)s")
    parser.add_argument("--seed", type=int, default=0, help="of the moments (%(default)s)")
    parser.add_argument("--folder", type=Path, default=Path("work_dirs/kill_chain"))
    parser.add_argument("--cores", default="2", help="of Snakemake (%(default)s)")
    return parser.parse_args()


def start(file: Path, cores: str, log: Path) -> subprocess.Popen:
    """Start a benchmark in a process group of its own."""
    with open(log, "ab") as stream:
        return subprocess.Popen(
            [str(ROOT / "tools" / "benchmark.sh"), str(file), "--cores", cores],
            cwd=ROOT,
            env=environment(),
            stdout=stream,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def results(folder: Path) -> dict[str, dict]:
    """What every finished job found, by its name."""
    files = [json.loads(file.read_text()) for file in folder.glob("jobs/*/*/result.json")]
    return {result["job"]: {key: result[key] for key in COMPARED} for result in files}


def begun(folder: Path) -> list[str]:
    """The jobs that were started and are not finished."""
    clocks = folder.glob("jobs/*/*/clock.json")
    return [c.parent.parent.name for c in clocks if not (c.parent / "result.json").exists()]


def main() -> int:
    """Run both and compare. Returns the exit status."""
    args = parse_args()
    folder = args.folder.absolute()
    files = {name: folder / f"{name}.yaml" for name in ("alone", "killed")}
    note = folder / "state.json"
    if not note.exists():
        length = run_alone(args, folder, files)
        if length is None:
            return 1
        note.write_text(json.dumps(dict(length=length, kills=0)))
    state = json.loads(note.read_text())
    draw = random.Random(f"{args.seed} {state['kills']}")
    while True:
        process = start(files["killed"], args.cores, folder / "killed.log")
        # Behind what a start takes; long enough to come further, and short enough for all kills
        moment = STARTUP + draw.uniform(0, 1.5) * state["length"] / args.kills
        patience = moment if state["kills"] < args.kills else None
        try:
            status = process.wait(patience)
            break
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            state["kills"] += 1
            note.write_text(json.dumps(state))
            done = len(results(folder / "killed"))
            busy = ", ".join(begun(folder / "killed")) or "planning"
            print(
                f"kill {state['kills']} after {moment:.0f} s: {done} jobs done, in {busy}",
                flush=True,
            )
    print(f"ended with status {status} after {state['kills']} kills")
    return compare(folder, files) or int(status != 0 or state["kills"] < args.kills)


def run_alone(args: argparse.Namespace, folder: Path, files: dict[str, Path]) -> float | None:
    """Write the benchmark twice, for two work dirs, and run one undisturbed: seconds."""
    folder.mkdir(parents=True, exist_ok=True)
    if args.benchmark:
        content = yaml.safe_load(args.benchmark.read_text())
    else:
        content = tiny_benchmark(write_mini(folder / "mini"), folder, interval=4)
    for name, file in files.items():
        content["work_dir"] = str(folder / name)
        write_benchmark(file, content)
    started = time.monotonic()
    status = start(files["alone"], args.cores, folder / "alone.log").wait()
    length = time.monotonic() - started
    if status:
        print(f"the benchmark itself fails: see {folder / 'alone.log'}", file=sys.stderr)
        return None
    print(f"undisturbed: {length:.0f} s, {len(results(folder / 'alone'))} jobs", flush=True)
    return length


def compare(folder: Path, files: dict[str, Path]) -> int:
    """Print what is the same and what is not. Returns 1 if something is not."""
    one, other = (results(folder / name) for name in files)
    tables = [(folder / name / "tables.csv").read_text() for name in files]
    for job in sorted(one.keys() | other.keys()):
        same = one.get(job) == other.get(job)
        print(f"{'same' if same else 'DIFFERENT'}: {job}")
        if not same:
            print(f"  alone:  {one.get(job)}\n  killed: {other.get(job)}")
    print(f"tables: {'same' if tables[0] == tables[1] else 'DIFFERENT'}")
    return int(one != other or tables[0] != tables[1])


if __name__ == "__main__":
    sys.exit(main())
