"""Record the pretrainings of a benchmark for docs: commands, logs, digests, figures.

    python benchmarks/recorded_runs.py work_dirs/benchmark/small docs/runs/small

Writes README.md, a row for each pretraining that is finished, and for each its log, a JSON object
for each logged step; and copies runs.csv, the figure of each evaluation and transfer. Paths of this
machine are left out of the commands.
"""

import argparse
import re
import shlex
import shutil
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # runs without installation too

from slotcon_plugin.benchmark.jobs import Job, JobResult, read_record
from slotcon_plugin.checkpoints.containers import read_file
from slotcon_plugin.runtime.run_command import run_command
from slotcon_plugin.runtime.scalars import log_lines

HEAD = """# Runs of `{name}.yaml`

Each pretraining with its command, and the SHA-256 of the tensors of its exported encoder;
[runs.csv](runs.csv) has the figure of each evaluation and transfer. Machine: {devices}. Written by
`python benchmarks/recorded_runs.py`.

| pretraining, log | command | seconds | loss at the end | encoder | commit |
|---|---|---|---|---|---|
"""
ROW = (
    "| [{name}]({name}.jsonl) | `{command}` | {seconds:.0f} | {loss:.2f} | `{digest}` | {commit} |"
)


def main(argv: list[str] | None = None) -> None:
    """Read the results and write the folder."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("work_dir", type=Path, help="of a benchmark")
    parser.add_argument("out", type=Path, help="a folder; files in it are replaced")
    args = parser.parse_args(argv)
    files = args.work_dir.glob("jobs/*/*/result.json")
    results = filter(None, (read_record(file, JobResult) for file in files))
    newest = {result.job.name: result for result in sorted(results, key=lambda one: one.finished)}
    args.out.mkdir(parents=True, exist_ok=True)
    rows, devices = [], set()
    for name, result in sorted(newest.items()):
        kind, _, run = name.partition(".")
        export = newest.get(f"export.{run}")
        if kind != "pretrain" or export is None or not _reads(export.job, result.job):
            continue
        encoder = Path(export.job.folder) / "encoder.pth"
        lines = log_lines(Path(result.job.folder))
        (args.out / f"{run}.jsonl").write_text(lines, encoding="utf-8")
        versions = result.versions
        devices.add(f"{result.device}, {result.job.cores} core, torch {versions['torch']}")
        row = dict(name=run, command=_command(result.job), seconds=result.seconds)
        row |= dict(loss=result.losses["loss"], commit=versions.get("commit", ""))
        rows.append(ROW.format(digest=read_file(encoder)["meta"]["digest"], **row))
    head = HEAD.format(name=args.work_dir.name, devices="; ".join(sorted(devices)))
    (args.out / "README.md").write_text(head + "\n".join(rows) + "\n", encoding="utf-8")
    shutil.copy(args.work_dir / "runs.csv", args.out)


def _reads(job: Job, other: Job) -> bool:
    """Whether a job's command has a file of another job: not after that one was repeated."""
    return any(other.folder in word for word in job.steps[0].command)


def _command(job: Job) -> str:
    """The training's command, with names in place of this machine's folders."""
    places = {job.folder: "WORK_DIR", "{folder}": "WORK_DIR"}
    places |= {value: f"${name}" for name, value in job.environment.items()}
    words = job.steps[0].command
    for place, name in places.items():
        words = [word.replace(place, name) for word in words]
    config = job.about["config"]
    words = [Path(config).stem if word.endswith(config) else word for word in words]
    words = [re.sub(r"(?<![^=])/.*/", "…/", word) for word in words]  # places of other files
    return " ".join(["slotcon train", *map(_quoted, words[2:])])


def _quoted(word: str) -> str:
    return word if "$" in word or "…" in word else shlex.quote(word)


if __name__ == "__main__":
    sys.exit(run_command(main))
