"""Kill a benchmark at random moments until it ends, and compare with an undisturbed run.

    python benchmarks/kill_benchmark.py --kills 10
    python benchmarks/kill_benchmark.py --benchmark configs/benchmark/mini.yaml --kills 10

Without --benchmark a small one runs, on images drawn here. All processes of the benchmark get
SIGKILL. Exit status 0: every job's results and the tables are equal. If this program is
interrupted, the next start with the same --folder continues.
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

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # runs without installation too

STARTUP = 8.0  # seconds in which nothing but Python starts


def parse_args() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--benchmark", type=Path, help="a benchmark file; its work_dir is not used")
    parser.add_argument("--kills", type=int, default=10, help="default: %(default)s")
    parser.add_argument("--seed", type=int, default=0, help="of the random moments (%(default)s)")
    parser.add_argument("--folder", type=Path, default=Path("work_dirs/kill_benchmark"))
    parser.add_argument("--cores", default="2", help="of Snakemake (%(default)s)")
    return parser.parse_args()


def start_benchmark(file: Path, cores: str) -> subprocess.Popen:
    """Start a benchmark; its output is appended to a log beside its file."""
    from benchmarks.processes import start
    from benchmarks.small_benchmark import TOOL

    with open(file.with_suffix(".log"), "a") as log:
        return start(TOOL, file, "--cores", cores, output=log)


def results(folder: Path) -> dict[str, dict]:
    """Results of the finished jobs, by job."""
    found = {}
    for file in folder.glob("jobs/*/*/result.json"):
        result = json.loads(file.read_text())
        job = result["job"]
        found[job["name"]] = dict(measures=result["measures"], losses=result["losses"])
        found[job["name"]]["digest"] = job["digest"]
    return found


def unfinished(folder: Path) -> list[str]:
    """Jobs that were started and have no result."""
    clocks = folder.glob("jobs/*/*/clock.json")
    return [c.parent.parent.name for c in clocks if not (c.parent / "result.json").exists()]


def main() -> int:
    """Run both and compare. Returns the exit status."""
    args = parse_args()
    folder = args.folder.absolute()
    files = {name: folder / f"{name}.yaml" for name in ("undisturbed", "killed")}
    note = folder / "state.json"
    if not note.exists():
        length = run_undisturbed(args, folder, files)
        if length is None:
            return 1
        note.write_text(json.dumps(dict(length=length, kills=0)))
    state = json.loads(note.read_text())
    draw = random.Random(f"{args.seed} {state['kills']}")
    while True:
        process = start_benchmark(files["killed"], args.cores)
        # Later than the imports, so that the work advances; early enough for all kills to happen.
        moment = STARTUP + draw.uniform(0, 1.5) * state["length"] / args.kills
        try:
            status = process.wait(moment if state["kills"] < args.kills else None)
            break
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        state["kills"] += 1
        note.write_text(json.dumps(state))
        done = len(results(folder / "killed"))
        running = ", ".join(unfinished(folder / "killed")) or "planning"
        print(f"kill {state['kills']} after {moment:.0f} s: {done} jobs done, during {running}")
        sys.stdout.flush()
    print(f"ended with status {status} after {state['kills']} kills")
    return compare(folder, files) or int(status != 0 or state["kills"] < args.kills)


def run_undisturbed(args: argparse.Namespace, folder: Path, files: dict[str, Path]) -> float | None:
    """Write the benchmark once for each work dir and run the first.

    Returns:
        How long it ran, in seconds; None if it failed.
    """
    import yaml

    from benchmarks.small_benchmark import small_benchmark, write_benchmark, write_mini

    folder.mkdir(parents=True, exist_ok=True)
    if args.benchmark:
        content = yaml.safe_load(args.benchmark.read_text())
    else:
        content = small_benchmark(write_mini(folder / "mini"), folder, interval=4)
    for name, file in files.items():
        write_benchmark(file, content | dict(work_dir=str(folder / name)))
    started = time.monotonic()
    status = start_benchmark(files["undisturbed"], args.cores).wait()
    length = time.monotonic() - started
    if status:
        print(f"the benchmark itself fails: see {folder}/undisturbed.log", file=sys.stderr)
        return None
    print(f"undisturbed: {length:.0f} s, {len(results(folder / 'undisturbed'))} jobs", flush=True)
    return length


def compare(folder: Path, files: dict[str, Path]) -> int:
    """Print which results are equal. Returns 1 if one is not."""
    one, other = (results(folder / name) for name in files)
    tables = [(folder / name / "tables.csv").read_text() for name in files]
    for job in sorted(one.keys() | other.keys()):
        same = one.get(job) == other.get(job)
        print(f"{'same' if same else 'DIFFERENT'}: {job}")
        if not same:
            print(f"  undisturbed: {one.get(job)}\n  killed:      {other.get(job)}")
    print(f"tables: {'same' if tables[0] == tables[1] else 'DIFFERENT'}")
    return int(one != other or tables[0] != tables[1])


if __name__ == "__main__":
    sys.exit(main())
