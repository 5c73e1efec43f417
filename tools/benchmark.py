"""Pretrain, export, transfer and evaluate: a benchmark's jobs with Snakemake, and its tables."""

import argparse
import sys
from pathlib import Path

from command_line import new_parser

EXAMPLES = """
examples:
  everything in small, on a CPU, on any folder in COCO's format:
    tools/benchmark.sh configs/benchmark/mini.yaml --data /data/coco_mini
  what would be done; the graph of the jobs:
    tools/benchmark.sh configs/benchmark/paper.yaml --dry-run
    tools/benchmark.sh configs/benchmark/paper.yaml --dag jobs.mmd
  the paper's tables on this machine's GPUs, though single jobs fail; again after an interruption:
    tools/benchmark.sh configs/benchmark/paper.yaml --keep-going
  on a cluster, from its login machine:
    tools/benchmark.sh configs/benchmark/paper.yaml --keep-going --executor slurm
  tables and report of the results that exist, also while jobs run:
    tools/benchmark.sh configs/benchmark/paper.yaml --tables

Every other option is passed to Snakemake. The results are in the file's work_dir: tables.md,
tables.csv, tables.tex, runs.csv, report.html. See docs/benchmark.md.
"""


def parse_args(argv: list[str] | None = None) -> tuple[argparse.Namespace, list[str]]:
    """The command line, and what of it is Snakemake's."""
    parser = new_parser(__doc__, EXAMPLES, prog="tools/benchmark.sh", allow_abbrev=False)
    parser.add_argument("config", type=Path, help="e.g. configs/benchmark/paper.yaml")
    text = "images for mini.yaml: laid out as coco_mini, or any folder in COCO's format"
    parser.add_argument("--data", type=Path, metavar="FOLDER", help=text)
    text = "only write the graph of the jobs: .dot, .mmd (Mermaid), or .svg, .png, .pdf drawn by "
    text += "Graphviz; without Graphviz, .dot"
    parser.add_argument("--dag", type=Path, metavar="FILE", help=text)
    parser.add_argument("--tables", action="store_true", help="only collect existing results")
    parser.add_argument("-n", "--dry-run", action="store_true", help="print the plan, run nothing")
    return parser.parse_known_args(argv)


def main() -> int:
    """Run the benchmark, or one of its jobs for Snakemake: `job PLAN NAME ATTEMPT`."""
    job = sys.argv[2:] if sys.argv[1:2] == ["job"] else None
    args, snakemake_options = (None, []) if job else parse_args()
    from slotcon_plugin.apis.run_benchmark import run_benchmark, run_benchmark_job
    from slotcon_plugin.runtime.run_command import run_command

    if job:
        return run_command(lambda: run_benchmark_job(job[0], job[1], int(job[2])))
    return run_command(
        lambda: run_benchmark(**vars(args), snakemake_options=snakemake_options),
        stopped="stopped; the same command continues",
    )


if __name__ == "__main__":
    sys.exit(main())
