"""Pretrain, export, transfer and evaluate: a benchmark's jobs with Snakemake, and its tables."""

import argparse
import sys
from pathlib import Path

from command_line import new_parser, positive, positive_real, run_api

EXAMPLES = """
examples:
  everything in small, on a CPU, on any folder in COCO's format:
    slotcon benchmark mini --data /data/coco_mini
  what would be done; the graph of the jobs:
    slotcon benchmark paper --dry-run
    slotcon benchmark paper --dag jobs.mmd
  the paper's tables on this machine's GPUs, though single jobs fail; again after an interruption:
    slotcon benchmark paper --keep-going
  on a cluster, from its login machine:
    slotcon benchmark paper --keep-going --executor slurm
  tables and report of the results that exist, also while jobs run:
    slotcon benchmark paper --tables

Every other option is passed to Snakemake; with names of jobs, only these run and what they need.
The results are in the file's work_dir: tables.md, tables.csv, tables.tex, runs.csv, report.html.
See docs/benchmark.md.
"""


def parse_args(argv: list[str] | None = None) -> tuple[argparse.Namespace, list[str]]:
    """The command line, and what of it is Snakemake's."""
    parser = new_parser(__doc__, EXAMPLES, prog="tools/benchmark.sh", allow_abbrev=False)
    parser.add_argument("config", type=Path, help="a path, or a name of slotcon list, e.g. paper")
    text = "images for mini.yaml: laid out as coco_mini, or any folder in COCO's format; for "
    text += "small.yaml: images/, labels/, train.txt and test.txt"
    parser.add_argument("--data", type=Path, metavar="FOLDER", help=text)
    text = "only write the graph of the jobs: .dot, .mmd (Mermaid), or .svg, .png, .pdf drawn by "
    text += "Graphviz; without Graphviz, .dot"
    parser.add_argument("--dag", type=Path, metavar="FILE", help=text)
    parser.add_argument("--overwrite", action="store_true", help="replace the file of --dag")
    parser.add_argument("--tables", action="store_true", help="only collect existing results")
    text = "check and print the plan, run nothing; the status is 1 if jobs would fail"
    parser.add_argument("-n", "--dry-run", action="store_true", help=text)
    text = "time steps of each training for at most N minutes (%(const)s), print the plan with "
    text += "hours, run nothing"
    minutes = dict(type=positive_real, nargs="?", const=2.0, metavar="N", help=text)
    parser.add_argument("--time-steps", **minutes)
    text = "do not look at data, labels, GPUs and encoders before the first job"
    parser.add_argument("--skip-checks", action="store_true", help=text)
    return parser.parse_known_args(argv)


def parse_job(argv: list[str]) -> argparse.Namespace:
    """The command line of one job."""
    parser = new_parser("Run one job, as Snakemake starts it.", prog="tools/benchmark.py job")
    parser.add_argument("plan", type=Path, help="a file in the work dir's plans/")
    parser.add_argument("name", help="of a job")
    parser.add_argument("attempt", type=positive, help="Snakemake's count, from 1")
    return parser.parse_args(argv)


def main() -> int:
    """Run the benchmark, or one of its jobs for Snakemake: `job PLAN NAME ATTEMPT`."""
    if sys.argv[1:2] == ["job"]:
        return run_api("run_benchmark_job", parse_job(sys.argv[2:]))
    args, options = parse_args()
    args.snakemake_options = options
    return run_api("run_benchmark", args, stopped="stopped; the same command continues")


if __name__ == "__main__":
    sys.exit(main())
