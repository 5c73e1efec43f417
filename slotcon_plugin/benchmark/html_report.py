"""report.html: everything about a benchmark in one file that needs no other."""

import base64
import io
import shlex
from datetime import datetime, timezone
from pathlib import Path

import jinja2

from ..runtime.atomic_files import write_atomically
from ..runtime.scalars import read_curves
from ..runtime.text_formats import describe_duration
from ..visualization.curves import draw_curves
from .job_states import states_of
from .jobs import UNITS, Job, Plan
from .result_tables import WARNING, Table
from .schema import Benchmark

TEMPLATE = Path(__file__).parent / "templates" / "report.html"


def write_report(table: Table, benchmark: Benchmark, plan: Plan) -> None:
    """Write report.html into the work dir. A job without a result is shown with what it logged."""
    form = dict(autoescape=True, undefined=jinja2.StrictUndefined)
    form |= dict(trim_blocks=True, lstrip_blocks=True)
    template = jinja2.Template(TEMPLATE.read_text(encoding="utf-8"), **form)
    states = states_of(plan, benchmark.work_dir)
    needed = {}
    for job in plan.jobs:
        needed[job.name] = [*(one for name in job.needs for one in needed[name]), job]
    reasons = {job.digest[:12]: "; ".join(job.deviations) for job in plan.jobs}
    reasons |= dict(zip(table.runs["digest"], table.runs["reasons"], strict=True))
    page = template.render(
        benchmark=benchmark,
        plan=plan,
        table=table,
        frame=table.frame(),
        states=states,
        reasons={job.name: reasons[job.digest[:12]] for job in plan.jobs},
        images={job.name: _images(Path(job.folder)) for job in plan.jobs},
        commands={name: _commands(jobs) for name, jobs in needed.items()},
        warning=WARNING,
        time=datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        duration=describe_duration,
        units=UNITS,
    )
    write_atomically(page.encode(), benchmark.work_dir / "report.html")


def _images(folder: Path) -> list[str]:
    """The groups and the curves of a job, as far as they exist, as data addresses."""
    groups, curves, images = folder / "groups.png", read_curves(folder), []
    if groups.is_file():
        images.append(groups.read_bytes())
    if curves:
        file = io.BytesIO()
        draw_curves(curves).savefig(file, dpi=90, format="png")
        images.append(file.getvalue())
    return [f"data:image/png;base64,{base64.b64encode(image).decode()}" for image in images]


def _commands(jobs: list[Job]) -> str:
    """Shell commands that repeat jobs, with folders in $OUT."""
    lines = ["export OUT=work_dirs/repeated"]
    for job in jobs:
        lines += [f"export {name}={shlex.quote(text)}" for name, text in job.environment.items()]
        cpu = [] if job.gpus else ["CUDA_VISIBLE_DEVICES=", f"OMP_NUM_THREADS={job.cores}"]
        for step in job.steps:
            words = [word.replace("{folder}", job.folder) for word in step.command]
            if words[0] == "torchrun":
                words.insert(1, "--nproc_per_node")
            lines.append(" ".join([*cpu, *(_quote(word, jobs) for word in words)]))
    return "\n".join(lines)


def _quote(word: str, jobs: list[Job]) -> str:
    for job in jobs:
        if word.startswith(job.folder):
            return f'"$OUT/{job.name}{word.removeprefix(job.folder)}"'
    return shlex.quote(word)
