"""Pretrain, export, transfer and evaluate: a benchmark's jobs by Snakemake, and its tables."""

import argparse
import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
EXAMPLES = """
examples:
  the whole chain in small, on a CPU, on any folder in COCO's format:
    tools/benchmark.sh configs/benchmark/mini.yaml --data /data/coco_mini
  what would be done; the jobs as an image:
    tools/benchmark.sh configs/benchmark/paper.yaml --dry-run
    tools/benchmark.sh configs/benchmark/paper.yaml --dag jobs.svg
  the paper's, on this machine's GPUs, whatever single jobs do; again after any interruption:
    tools/benchmark.sh configs/benchmark/paper.yaml --keep-going
  on a cluster, from its login machine:
    tools/benchmark.sh configs/benchmark/paper.yaml --keep-going --executor slurm
  the tables and the report of what is there, also while jobs run:
    tools/benchmark.sh configs/benchmark/paper.yaml --tables

Everything after CONFIG that is not named above goes to Snakemake. Results are in the file's
work_dir: tables.md, tables.csv, tables.tex, runs.csv, report.html. docs/benchmark.md tells more.
"""
# A result file is whole if it is there, and its folder's name says what it depends on: Snakemake
# needs neither its own marks of incomplete files, nor a lock that a kill leaves behind. A job that
# it starts in vain, as in a copy of the work dir, finds its steps complete.
ALWAYS = ("--ignore-incomplete", "--nolock", "--rerun-triggers", "input", "--scheduler", "greedy")


def parse_args(argv: list[str] | None = None) -> tuple[argparse.Namespace, list[str]]:
    """The command line, and what of it is Snakemake's."""
    parser = argparse.ArgumentParser(
        prog="tools/benchmark.sh",
        description=__doc__,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("config", type=Path, help="e.g. configs/benchmark/paper.yaml")
    parser.add_argument(
        "--data",
        type=Path,
        metavar="FOLDER",
        help="images for mini.yaml: laid out as coco_mini, or any folder in COCO's format",
    )
    parser.add_argument("--dag", type=Path, metavar="FILE", help="draw the jobs (.svg, .png), stop")
    parser.add_argument("--tables", action="store_true", help="only collect what is there")
    parser.add_argument("-n", "--dry-run", action="store_true", help="print the plan, run nothing")
    return parser.parse_known_args(argv)


def make_plan(path: Path):
    """The benchmark, its published rows and its plan."""
    from mmengine.logging import MMLogger

    from slotcon_plugin.benchmark.planner import Planner
    from slotcon_plugin.benchmark.protocols import read_protocols
    from slotcon_plugin.benchmark.schema import read_benchmark

    MMLogger.get_instance("mmengine", log_level="WARNING")  # it names each variable of each config
    benchmark, protocols = read_benchmark(path), read_protocols(ROOT)
    protocols.check(benchmark)
    return benchmark, protocols, Planner(benchmark, ROOT, protocols).plan()


def start(args: argparse.Namespace, options: list[str]) -> int:
    """Plan, run, collect. Returns Snakemake's exit status."""
    from slotcon_plugin.benchmark import job_states as states
    from slotcon_plugin.benchmark.job_clock import hold
    from slotcon_plugin.runtime.atomic_files import write_atomically

    if args.data:
        from slotcon_plugin.benchmark.coco_folder import as_mini

        folder = as_mini(args.data.expanduser().absolute(), Path("work_dirs/benchmark/data"))
        os.environ["SLOTCON_DATA"] = str(folder.absolute())
    benchmark, protocols, plan = make_plan(args.config)
    work_dir = benchmark.work_dir.absolute()
    known = states.states_of(plan, work_dir)
    print(f"{benchmark.title}\n\n{states.describe_plan(plan, known, work_dir)}\n", flush=True)
    if args.dag:
        from slotcon_plugin.benchmark.dag import draw_jobs

        draw_jobs(plan, known).savefig(args.dag)
        print(f"written: {args.dag}")
        return 0
    if args.tables:
        return collect(benchmark, protocols, plan)
    text = json.dumps(plan.to_json(), indent=1, default=str).encode()
    # Named by its content: what is running keeps the plan that it was started with.
    planned = work_dir / "plans" / f"{hashlib.sha256(text).hexdigest()[:12]}.json"
    write_atomically(text, planned)
    command = snakemake(work_dir, planned, options, args.dry_run)
    if args.dry_run:
        return subprocess.run(command).returncode
    with hold(work_dir / "lock", f"This benchmark is already running in {work_dir}") as lock:
        process = subprocess.Popen(command, pass_fds=[lock])
        try:
            status = process.wait()
        except KeyboardInterrupt:  # Snakemake has it too, and ends its jobs
            status = process.wait() or 130
        return collect(benchmark, protocols, plan) or status


def snakemake(work_dir: Path, plan: Path, options: list[str], dry_run: bool) -> list[str]:
    """Snakemake's command line."""
    from slotcon_plugin.benchmark.gpus import present_gpus

    command = [sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "tools/benchmark.smk")]
    command += ["--directory", str(work_dir), "--config", f"plan={plan}", *ALWAYS]
    given = {option.split("=", 1)[0] for option in options}
    if "--profile" not in given and any("slurm" in option for option in options):
        command += ["--profile", str(ROOT / "configs" / "benchmark" / "profiles" / "slurm")]
    elif not given & {"--profile", "--executor", "-e"}:  # on this machine
        if not given & {"--cores", "-c", "--jobs", "-j"}:
            command += ["--cores", str(len(os.sched_getaffinity(0)))]
        if not given & {"--resources", "--res"}:
            command += ["--resources", f"gpu={len(present_gpus())}"]
    return [*command, *(["--dry-run", "--quiet", "rules", "host"] if dry_run else []), *options]


def collect(benchmark, protocols, plan) -> int:
    """Write the tables and the report of the results that are there."""
    from slotcon_plugin.benchmark.collect import build_table
    from slotcon_plugin.benchmark.html_report import write_report
    from slotcon_plugin.benchmark.result_tables import write_tables

    table = build_table(benchmark, protocols, plan)
    write_tables(table, benchmark.work_dir)
    write_report(table, benchmark, plan, benchmark.work_dir)
    print(f"\n{table.markdown()}\n\nwritten: {benchmark.work_dir}/tables.* and report.html")
    return 0


def work(argv: list[str]) -> None:
    """One job, as Snakemake starts it: `job PLAN NAME ATTEMPT`."""
    from slotcon_plugin.benchmark.jobs import read_plan
    from slotcon_plugin.benchmark.run_job import run_job

    path, name, attempt = argv
    plan = read_plan(json.loads(Path(path).read_text(encoding="utf-8")))
    jobs = {job.name: job for job in plan.jobs}
    needs = {need: jobs[need].result for need in jobs[name].needs}
    run_job(jobs[name], ROOT, needs, int(attempt))


def main(argv: list[str] | None = None) -> int:
    """Run; turn the user's errors into one message. Returns the exit status."""
    argv = sys.argv[1:] if argv is None else argv
    one_job = argv[:1] == ["job"]
    args, options = (None, []) if one_job else parse_args(argv)
    from slotcon_plugin.errors import SlotConError

    try:
        if one_job:
            work(argv[1:])
            return 0
        return start(args, options)
    except SlotConError as error:
        print(f"\nerror: {error}", file=sys.stderr, flush=True)
        return 1
    except KeyboardInterrupt:
        print("\nstopped; the same command goes on", file=sys.stderr, flush=True)
        return 130


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))  # works without installation too
    sys.exit(main())
