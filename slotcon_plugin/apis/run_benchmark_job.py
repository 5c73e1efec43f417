"""Run one job of a benchmark."""

from pathlib import Path

from ..benchmark.jobs import Plan, load_record
from ..benchmark.run_job import run_job
from ..errors import ConfigError
from ..runtime.config_files import ROOT
from ..runtime.config_options import did_you_mean


def run_benchmark_job(plan: str | Path, name: str, attempt: int) -> None:
    """Run the job `name` of the file `plan`, as Snakemake starts it for the `attempt`-th time."""
    found = load_record(Path(plan), Plan)
    if found is None:
        raise ConfigError(f"There is no usable plan {plan}; start the benchmark again.")
    jobs = {job.name: job for job in found.jobs}
    if name not in jobs:
        raise ConfigError(f"{plan} has no job {name}.{did_you_mean(name, jobs)}")
    needs = {need: jobs[need].result for need in jobs[name].needs}
    run_job(jobs[name], ROOT, needs, attempt)
