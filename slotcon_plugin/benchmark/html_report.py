"""report.html: everything about a benchmark in one file that needs no other."""

import base64
import html
import io
import json
import shlex
from datetime import datetime, timezone
from pathlib import Path

from matplotlib.figure import Figure

from ..runtime.atomic_files import write_atomically
from ..runtime.scalars import read_curves
from ..visualization.curves import draw_curves
from .dag import draw_jobs
from .job_states import State, hours, read_result, states_of
from .jobs import Job, Plan
from .result_tables import WARNING, Table
from .schema import Benchmark

STYLE = """
:root { color-scheme: light dark; --line: #c9ced6; --soft: #f4f5f7;
  --warn: #fff3cd; --ink: #5b4300 }
@media (prefers-color-scheme: dark) {
  :root { --line: #444b55; --soft: #22262c; --warn: #4a3c10; --ink: #ffe9a8 } }
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 1320px; padding: 0 1rem }
h1 { margin-bottom: 0 } h2 { margin-top: 2.5rem }
.wide { overflow-x: auto } .quiet { opacity: .7 }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; white-space: nowrap }
th, td { padding: .3rem .7rem; border-bottom: 1px solid var(--line); text-align: right }
th:first-child, td:first-child, td:last-child, th:last-child { text-align: left }
tr.difference td { font-style: italic; opacity: .8 } tr.published td { background: var(--soft) }
.warning { background: var(--warn); color: var(--ink); padding: .6rem 1rem; border-radius: 6px }
details { border: 1px solid var(--line); border-radius: 6px; padding: .4rem .9rem; margin: .5rem 0 }
summary { cursor: pointer; font-weight: 600 } summary span { font-weight: 400; opacity: .75 }
pre { background: var(--soft); padding: .7rem; border-radius: 6px; overflow-x: auto;
  font-size: 13px; white-space: pre-wrap }
img { max-width: 100%; height: auto; background: white; border-radius: 4px }
"""


def write_report(table: Table, benchmark: Benchmark, plan: Plan, folder: Path) -> None:
    """Write report.html.

    Args:
        table: of `build_table`.
        benchmark: what was asked for.
        plan: its jobs; those without a result appear with what they logged so far.
        folder: where it goes.
    """
    states = states_of(plan, benchmark.work_dir)
    jobs = {job.name: job for job in plan.jobs}
    reasons = {run["job"]: run["reasons"] for run in table.runs}
    now = datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC")
    done = sum(state.word == "done" for state in states.values())
    parts = [
        f"<h1>{_e(benchmark.title)}</h1>",
        f'<p class="quiet">{_e(benchmark.path)}, {now}: {done} of {len(plan.jobs)} jobs done</p>',
        f'<p class="warning"><b>{_e(WARNING)}.</b></p>' if table.has_marks else "",
        "<h2>Results</h2>",
        f'<div class="wide">{_table(table)}</div>',
        "".join(f"<li>{_e(note)}</li>" for note in table.notes).join(("<ul>", "</ul>")),
        '<p class="quiet">Percent; mean ± standard deviation (n − 1) over seeds (number of runs). '
        "Empty: no result.</p>",
        "<h2>Jobs</h2>",
        f'<div class="wide">{_timings(plan, states)}</div>',
        f"<p>{_image(draw_jobs(plan, states))}</p>",
        "<h2>Each job</h2>",
        *(
            _job(job, states[job.name], _needed(job, jobs), reasons.get(job.name))
            for job in plan.jobs
        ),
    ]
    parts += [f"<p>left out: {_e(reason)}</p>" for reason in plan.left_out]
    page = (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{_e(benchmark.title)}</title><style>{STYLE}</style></head><body>\n"
        + "\n".join(filter(None, parts))
        + "\n</body></html>\n"
    )
    write_atomically(page.encode(), folder / "report.html")


def _e(text: object) -> str:
    return html.escape(str(text))


def _table(table: Table) -> str:
    heads = ["pretraining", *(column.head for column in table.columns), "source"]
    lines = ["<tr>" + "".join(f"<th>{_e(head)}</th>" for head in heads) + "</tr>"]
    for row, words in zip(table.rows, table.lines(), strict=True):
        cells = "".join(f"<td>{_e(word)}</td>" for word in words)
        lines.append(f'<tr class="{row.kind}">{cells}</tr>')
    return f"<table>{''.join(lines)}</table>"


def _timings(plan: Plan, states: dict[str, State]) -> str:
    heads = ("job", "state", "time", "starts", "per unit", "peak memory", "GPU memory", "device")
    lines = ["<tr>" + "".join(f"<th>{head}</th>" for head in heads) + "</tr>"]
    for job in plan.jobs:
        result = read_result(job.result)
        words = [job.name, states[job.name].word, *[""] * 6]
        if result:
            gpu = result["peak_gpu_memory_mib"]
            words[2:] = [
                hours(result["seconds"]),
                result["starts"],
                f"{result['seconds'] / job.length:.2f} s / {job.unit.removesuffix('s')}",
                f"{result['peak_memory_mib']:,} MiB",
                f"{gpu:,.0f} MiB" if gpu is not None else "",
                result["device"],
            ]
        lines.append("<tr>" + "".join(f"<td>{_e(word)}</td>" for word in words) + "</tr>")
    return f"<table>{''.join(lines)}</table>"


def _needed(job: Job, jobs: dict[str, Job]) -> list[Job]:
    """The jobs that have to be done before, in their order."""
    found = []
    for name in job.needs:
        found += [*_needed(jobs[name], jobs), jobs[name]]
    return found


def _job(job: Job, state: State, needed: list[Job], reasons: list[str] | None) -> str:
    """A job's part. `reasons` for a mark are the table's; a job that is not in it has its own."""
    result = read_result(job.result) or {}
    measures = ", ".join(f"{k} {v:.2f}" for k, v in result.get("measures", {}).items())
    parts = [f"<summary>{_e(job.name)} <span>{_e(state.word)} {_e(measures)}</span></summary>"]
    reasons = job.deviations if reasons is None else reasons
    if reasons:
        told = _e("; ".join(reasons))
        parts.append(f'<p class="warning">not the paper\'s protocol: {told}</p>')
    groups = Path(job.folder) / "groups.png"
    if groups.is_file():
        parts.append(f'<p><img alt="groups" src="{_address(groups.read_bytes())}"></p>')
    curves = read_curves(Path(job.folder))
    if curves:
        parts.append(f"<p>{_image(draw_curves(curves))}</p>")
    commands = "\n".join(_commands(one, [*needed, job]) for one in [*needed, job])
    commands = f"export OUT=work_dirs/repeated\n{commands}"
    parts.append(f"<p>To repeat it, in the repository's folder:</p><pre>{_e(commands)}</pre>")
    if result:
        shown = {key: result[key] for key in ("seed", "digest", "device", "finished", "versions")}
        shown["losses"] = result["losses"]
        parts.append(f"<pre>{_e(json.dumps(shown, indent=1))}</pre>")
    return f"<details>{''.join(parts)}</details>"


def _commands(job: Job, jobs: list[Job]) -> str:
    """The job's commands as a shell takes them, with folders of `jobs` below $OUT."""
    lines = [f"export {name}={shlex.quote(value)}" for name, value in job.environment.items()]
    without_gpu = [] if job.gpus else ["CUDA_VISIBLE_DEVICES=", f"OMP_NUM_THREADS={job.cores}"]
    for step in job.steps:
        words = [word.replace("{folder}", job.folder) for word in step.command]
        if words[0] == "torchrun":
            words[:2] = ["torchrun", "--nproc_per_node", words[1]]
        lines.append(" ".join([*without_gpu, *(_quoted(word, jobs) for word in words)]))
    return "\n".join(lines)


def _quoted(word: str, jobs: list[Job]) -> str:
    for one in jobs:
        if one.folder in word:
            return '"' + word.replace(one.folder, f"$OUT/{one.name}") + '"'
    return shlex.quote(word)


def _image(figure: Figure) -> str:
    data = io.BytesIO()
    figure.savefig(data, dpi=90, format="png")
    return f'<img alt="" src="{_address(data.getvalue())}">'


def _address(png: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"
