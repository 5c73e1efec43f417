"""Pretrain, export, transfer and evaluate: a benchmark's jobs with Snakemake, and its tables."""

import contextlib
import hashlib
import io
import os
import shutil
import subprocess
import sys
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

from mmengine.logging import MMLogger
from pydantic import TypeAdapter

from ..benchmark.check_plan import check_plan
from ..benchmark.coco_folder import as_mini
from ..benchmark.collect import build_table
from ..benchmark.end_together import run_owned
from ..benchmark.html_report import write_report
from ..benchmark.job_states import describe_plan, states_of
from ..benchmark.jobs import Job, Plan
from ..benchmark.locks import present_gpus
from ..benchmark.planner import Planner
from ..benchmark.protocols import Protocols
from ..benchmark.result_tables import write_tables
from ..benchmark.schema import Benchmark, read_benchmark
from ..benchmark.timed_jobs import time_jobs
from ..errors import ConfigError
from ..runtime.atomic_files import write_atomically
from ..runtime.config_files import ROOT
from ..runtime.config_options import did_you_mean
from ..runtime.file_locks import hold
from ..runtime.work_dir import check_writable

# A result file is complete if it exists, and its folder's name says what it depends on: Snakemake
# needs neither its marks of incomplete files nor a lock, which a kill would leave behind. A job
# that it starts without need, as in a copy of the work dir, finds its steps complete.
ALWAYS = ("--ignore-incomplete", "--nolock", "--rerun-triggers", "input", "--scheduler", "greedy")
PLAN = TypeAdapter(Plan)
TEXT_GRAPHS = (".dot", ".mmd")
GRAPHS = (*TEXT_GRAPHS, ".svg", ".png", ".pdf")


def run_benchmark(
    config: str | Path,
    data: str | Path | None = None,
    dag: str | Path | None = None,
    tables: bool = False,
    dry_run: bool = False,
    skip_checks: bool = False,
    time_steps: float | None = None,
    snakemake_options: Sequence[str] = (),
    overwrite: bool = False,
) -> int:
    """Run the jobs of a benchmark that have no result yet, and write its tables and its report.

    Interrupted at any time, the same call continues.

    Args:
        config: the benchmark file.
        data: the folder of configs/benchmark/mini.yaml: laid out as coco_mini, or any in COCO's
            format; or of small.yaml: images, label maps and lists.
        dag: only write the graph of the jobs: .dot, .mmd (Mermaid), or .svg, .png, .pdf drawn by
            Graphviz; without Graphviz, .dot.
        tables: only collect the results that exist.
        dry_run: only check and print the plan, and what Snakemake would start.
        skip_checks: do not look at data, labels, GPUs and encoders before the first job, as for the
            plan of another machine.
        time_steps: time steps of each training for so many minutes, print the plan with hours, and
            run nothing; see `plan.plan`.
        snakemake_options: more options of Snakemake, and names of jobs: then only these run, and
            those that they need.
        overwrite: replace the file of `dag` if it is there; otherwise this is an error.

    Returns:
        Snakemake's exit status.
    """
    dag = dag and _graph_file(Path(dag))
    if data is not None:
        folder = as_mini(Path(data).expanduser().absolute(), Path("work_dirs/benchmark/data"))
        os.environ["SLOTCON_DATA"] = str(folder.absolute())
    MMLogger.get_instance("mmengine", log_level="WARNING")  # it logs each variable of each config
    benchmark, protocols = read_benchmark(config), Protocols(ROOT)
    protocols.check(benchmark)
    planner, work_dir = Planner(benchmark, ROOT, protocols), benchmark.work_dir
    plan = planner.plan()
    options, words = _checked_options(snakemake_options, plan)
    if dag:
        check_writable(dag, "--dag", overwrite=overwrite)
    elif overwrite:
        raise ConfigError(
            "--overwrite replaces the file of --dag, which is not given. Finished jobs are kept: "
            "to run one again, remove its folder."
        )
    check_writable(work_dir, f"{config}: work_dir", folder=True)
    states = states_of(plan, work_dir)
    print(f"{benchmark.title}\n\n{describe_plan(plan, states, work_dir)}\n", flush=True)
    if tables:
        _write_results(benchmark, protocols, plan)
        return 0
    if not dag and not skip_checks:
        jobs = [job for job in _selected(plan, options) if states[job.name].word != "done"]
        gpus = None if options.executor or options.profile else len(present_gpus())
        if problems := check_plan(benchmark, jobs, planner.find, gpus):
            raise ConfigError(
                f"{config}: jobs would fail for {len(problems)} reasons:\n  "
                + "\n  ".join(problems)
                + "\nRepair them, or print the plan alone with --dry-run --skip-checks."
            )
    if time_steps is not None:
        states = time_jobs(_selected(plan, options), states, ROOT, time_steps)
        print(f"\n{describe_plan(plan, states, work_dir)}", flush=True)
        return 0
    text = PLAN.dump_json(plan, indent=1)
    # Named by its content: running jobs keep the plan that they were started with
    file = Path("plans") / f"{hashlib.sha256(text).hexdigest()[:12]}.json"
    write_atomically(text, work_dir / file)
    command = [*_snakemake(work_dir, file, options), *words]
    if dag:
        return _write_dag(dag, command)
    if dry_run:
        return subprocess.run([*command, "--dry-run", "--quiet", "rules", "host"]).returncode
    refusal = (
        f"This benchmark is already running in {work_dir}. Wait for its end, or stop it; --tables "
        "shows its results so far. It is"
    )
    with hold(work_dir / "lock", refusal):
        try:
            return run_owned(command)
        finally:
            _write_results(benchmark, protocols, plan)


def _checked_options(words: Sequence[str], plan: Plan) -> tuple[Namespace, list[str]]:
    """Snakemake's options, and their words with the result files of jobs in place of their names.

    A ConfigError for what Snakemake does not have or cannot use; its own message comes late.
    """
    from snakemake.cli import get_argument_parser  # jobs do not need it

    parser, said = get_argument_parser(), io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            args, unknown = parser.parse_known_args(words)
    except SystemExit:
        last = said.getvalue().strip().rpartition("error: ")[2]
        raise ConfigError(f"Options of Snakemake: {last}") from None
    except Exception as error:  # of several types
        raise ConfigError(f"Options of Snakemake: {error}") from None
    if unknown:
        known = [name for action in parser._actions for name in action.option_strings]
        raise ConfigError(
            f"{unknown[0]} is no option of this command or of Snakemake."
            f"{did_you_mean(unknown[0].partition('=')[0], known)}"
        )
    for name in ("cores", "jobs"):
        value = getattr(args, name)
        if isinstance(value, int) and value < 1:
            raise ConfigError(f"--{name} is {value}, expected a whole number from 1 on")
    results = {job.name: _result_file(job) for job in plan.jobs}
    for target in args.targets:
        if target not in results:
            raise ConfigError(f"There is no job {target}.{did_you_mean(target, results)}")
    return args, [results[word] if word in args.targets else word for word in words]


def _result_file(job: Job) -> str:
    return f"jobs/{job.name}/{job.digest[:12]}/result.json"


def _selected(plan: Plan, options: Namespace) -> list[Job]:
    """The jobs that are named, and those that they need, or all."""
    jobs, names = {job.name: job for job in plan.jobs}, list(options.targets or ())
    for name in names:  # grows
        names += jobs[name].needs
    return [job for job in plan.jobs if job.name in names or not names]


def _snakemake(work_dir: Path, plan: Path, options: Namespace) -> list[str]:
    """Snakemake with what its options leave open."""
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "tools/benchmark.smk")]
    command += ["--directory", str(work_dir), "--config", f"plan={plan}", *ALWAYS]
    if options.profile:
        return command
    if "slurm" in (options.executor or ""):
        return [*command, "--profile", str(ROOT / "configs" / "benchmark" / "profiles" / "slurm")]
    if options.executor:
        return command
    if options.cores is None and options.jobs is None:  # on this machine
        command += ["--cores", str(len(os.sched_getaffinity(0)))]
    return command if options.resources else [*command, "--resources", f"gpu={len(present_gpus())}"]


def _graph_file(path: Path) -> Path:
    """The file that is written for `--dag path`."""
    if path.suffix not in GRAPHS:
        raise ConfigError(f"--dag {path}: expected a file that ends in {', '.join(GRAPHS)}.")
    if path.suffix in TEXT_GRAPHS or shutil.which("dot"):
        return path
    print("Graphviz is not installed (there is no program `dot`): no image can be drawn.")
    return path.with_suffix(".dot")


def _write_dag(path: Path, command: list[str]) -> int:
    form = "mermaid-js" if path.suffix == ".mmd" else "dot"
    done = subprocess.run([*command, "--dag", form], stdout=subprocess.PIPE)
    if done.returncode:
        return done.returncode
    graph = done.stdout.strip() + b"\n"
    if path.suffix not in TEXT_GRAPHS:
        draw = ["dot", f"-T{path.suffix.removeprefix('.')}"]
        drawn = subprocess.run(draw, input=graph, stdout=subprocess.PIPE)
        if drawn.returncode:
            raise ConfigError(f"Graphviz cannot draw {path}; --dag jobs.dot writes the text.")
        graph = drawn.stdout
    write_atomically(graph, path)
    print(f"written: {path}")
    return 0


def _write_results(benchmark: Benchmark, protocols: Protocols, plan: Plan) -> None:
    table = build_table(benchmark, protocols, plan)
    write_tables(table, benchmark.work_dir)
    write_report(table, benchmark, plan)
    print(f"\n{table.markdown()}\n\nwritten: {benchmark.work_dir}/tables.* and report.html")
