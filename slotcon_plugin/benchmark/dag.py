"""The jobs of a benchmark as an image: what waits for what, and what is done."""

from matplotlib.figure import Figure

from .job_states import State
from .jobs import Plan

RULES = ("pretrain", "export", "transfer", "evaluate")  # columns, from left to right
COLORS = {"done": "#9fd8a8", "begun": "#ffe08a", "waiting": "#e4e7eb"}


def draw_jobs(plan: Plan, states: dict[str, State]) -> Figure:
    """Draw the jobs, a column for each kind, colored by their state.

    Args:
        plan: all jobs.
        states: of `states_of`.
    """
    columns = {rule: [job for job in plan.jobs if job.rule == rule] for rule in RULES}
    columns["evaluate"] = columns.pop("transfer") + columns["evaluate"]
    tallest = max(len(jobs) for jobs in columns.values())
    figure = Figure(figsize=(4.2 * len(columns), 0.42 * tallest + 1.2), layout="constrained")
    axis = figure.subplots()
    places = {}
    for x, jobs in enumerate(columns.values()):
        for i, job in enumerate(jobs):
            places[job.name] = (x, (i + 0.5) * tallest / len(jobs))
    for job in plan.jobs:
        for need in job.needs:
            axis.plot(
                *zip(places[need], places[job.name], strict=True), color="#b8bec7", lw=0.8, zorder=1
            )
    for job in plan.jobs:
        word = states[job.name].word
        label = job.name.split(".", 1)[1] + (f"  {job.gpus} GPU" if job.gpus else "")
        box = dict(boxstyle="round", facecolor=COLORS[word], edgecolor="#8a9099", linewidth=0.6)
        axis.text(
            *places[job.name], label, fontsize=8, ha="center", va="center", bbox=box, zorder=2
        )
    axis.set(xlim=(-0.5, len(columns) - 0.5), ylim=(tallest, -0.2), yticks=[])
    axis.set_xticks(range(len(columns)), ["pretrain", "export", "transfer, evaluate"])
    axis.xaxis.tick_top()
    axis.tick_params(length=0)
    axis.spines[:].set_visible(False)
    for word, color in COLORS.items():
        axis.plot([], [], "s", color=color, label=word, markeredgecolor="#8a9099")
    figure.legend(loc="outside lower center", ncols=3, frameon=False, fontsize=8)
    return figure
