"""Pretrain, export, transfer and evaluate: a benchmark's jobs with Snakemake, and its tables."""

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from mmengine.logging import MMLogger
from pydantic import TypeAdapter

from ..benchmark.coco_folder import as_mini
from ..benchmark.collect import build_table
from ..benchmark.html_report import write_report
from ..benchmark.job_states import describe_plan, states_of
from ..benchmark.jobs import Plan
from ..benchmark.locks import present_gpus, try_lock
from ..benchmark.plan import Planner
from ..benchmark.protocols import Protocols
from ..benchmark.result_tables import write_tables
from ..benchmark.run_job import run_job
from ..benchmark.schema import Benchmark, read_benchmark
from ..errors import ConfigError
from ..runtime.atomic_files import write_atomically

ROOT = Path(__file__).resolve().parents[2]
# A result file is complete if it exists, and its folder's name says what it depends on: Snakemake
# needs neither its marks of incomplete files nor a lock, which a kill would leave behind. A job
# that it starts without need, as in a copy of the work dir, finds its steps complete.
ALWAYS = ("--ignore-incomplete", "--nolock", "--rerun-triggers", "input", "--scheduler", "greedy")
PLAN = TypeAdapter(Plan)


def run_benchmark(
    config: str | Path,
    data: str | Path | None = None,
    dag: str | Path | None = None,
    tables: bool = False,
    dry_run: bool = False,
    snakemake_options: Sequence[str] = (),
) -> int:
    """Run the jobs of a benchmark that have no result yet, and write its tables and its report.

    Interrupted at any time, the same call continues. It needs a checkout of the repository.

    Args:
        config: the benchmark file.
        data: images for configs/benchmark/mini.yaml: laid out as coco_mini, or any folder in COCO's
            format.
        dag: only write the graph of the jobs: .dot, .mmd (Mermaid), or .svg, .png, .pdf drawn by
            Graphviz; without Graphviz, .dot.
        tables: only collect the results that exist.
        dry_run: only print the plan and what Snakemake would start.
        snakemake_options: more options of Snakemake.

    Returns:
        Snakemake's exit status.
    """
    if data is not None:
        folder = as_mini(Path(data).expanduser().absolute(), Path("work_dirs/benchmark/data"))
        os.environ["SLOTCON_DATA"] = str(folder.absolute())
    MMLogger.get_instance("mmengine", log_level="WARNING")  # it logs each variable of each config
    benchmark, protocols = read_benchmark(config), Protocols(ROOT)
    protocols.check(benchmark)
    plan, work_dir = Planner(benchmark, ROOT, protocols).plan(), benchmark.work_dir
    states = states_of(plan, work_dir)
    print(f"{benchmark.title}\n\n{describe_plan(plan, states, work_dir)}\n", flush=True)
    if tables:
        _write_results(benchmark, protocols, plan)
        return 0
    text = PLAN.dump_json(plan, indent=1)
    # Named by its content: running jobs keep the plan that they were started with
    file = Path("plans") / f"{hashlib.sha256(text).hexdigest()[:12]}.json"
    write_atomically(text, work_dir / file)
    command = _snakemake(work_dir, file, list(snakemake_options))
    if dag:
        return _write_dag(Path(dag), command)
    if dry_run:
        return subprocess.run([*command, "--dry-run", "--quiet", "rules", "host"]).returncode
    lock = try_lock(work_dir / "lock")
    if lock is None:
        raise ConfigError(
            f"This benchmark is already running in {work_dir}. Wait for its end, or stop it; "
            "--tables shows its results so far."
        )
    try:
        process = subprocess.Popen(command, pass_fds=[lock])
        try:
            status = process.wait()
        except KeyboardInterrupt:  # Snakemake has received it too and ends its jobs
            status = process.wait() or 130
        _write_results(benchmark, protocols, plan)
        return status
    finally:
        os.close(lock)


def run_benchmark_job(plan: str | Path, name: str, attempt: int) -> None:
    """Run the job `name` of the file `plan`, as Snakemake starts it for the `attempt`-th time."""
    jobs = {job.name: job for job in PLAN.validate_json(Path(plan).read_bytes()).jobs}
    needs = {need: jobs[need].result for need in jobs[name].needs}
    run_job(jobs[name], ROOT, needs, attempt)


def _snakemake(work_dir: Path, plan: Path, options: list[str]) -> list[str]:
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
    return command + options


def _write_dag(path: Path, command: list[str]) -> int:
    form = "mermaid-js" if path.suffix == ".mmd" else "dot"
    done = subprocess.run([*command, "--dag", form], stdout=subprocess.PIPE)
    if done.returncode:
        return done.returncode
    graph, image = done.stdout.strip() + b"\n", path.suffix not in (".mmd", ".dot")
    if image and shutil.which("dot"):
        draw = ["dot", f"-T{path.suffix.removeprefix('.')}"]
        graph = subprocess.run(draw, input=graph, stdout=subprocess.PIPE).stdout
    elif image:
        print("Graphviz is not installed (there is no program `dot`): no image can be drawn.")
        path = path.with_suffix(".dot")
    write_atomically(graph, path)
    print(f"written: {path}")
    return 0


def _write_results(benchmark: Benchmark, protocols: Protocols, plan: Plan) -> None:
    table = build_table(benchmark, protocols, plan)
    write_tables(table, benchmark.work_dir)
    write_report(table, benchmark, plan)
    print(f"\n{table.markdown()}\n\nwritten: {benchmark.work_dir}/tables.* and report.html")
