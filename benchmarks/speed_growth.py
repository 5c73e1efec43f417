"""How time, memory and traffic grow with prototypes, batch size and processes."""

import statistics
from collections.abc import Callable

from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator, StrMethodFormatter

from benchmarks.measuring import peak_bytes, race
from benchmarks.speed_exchange import exchange
from benchmarks.speed_settings import Settings, clock
from benchmarks.speed_step import Step

LABELS = {
    "time": ("forward and backward, ms", 1e-3),
    "memory": ("peak, MiB", 2**20),
    "bytes": ("received in a step, KiB", 2**10),
}
AXES = {
    "K": "prototypes K, batch 4",
    "batch": "images in a process, smallest K",
    "processes": "processes, smallest K, batch 4",
}


def growth(settings: Settings, report: Callable[[str], None]) -> dict[str, dict[str, list]]:
    """Measure the curves.

    Returns:
        {name: {"x": [..], "ours": [..], "plain": [..]}} in seconds and bytes; a name is a key of
        LABELS and a key of AXES.
    """
    many = (16, 64) if settings.quick else (256, 1024, 4096, 16384)
    batches = (2, 4) if settings.quick else (4, 16, 64)
    processes = (2,) if settings.quick else (2, 3, 4)
    curves = {}

    def add(name: str, x: int, ours: float, plain: float) -> None:
        curve = curves.setdefault(name, {"x": [], "ours": [], "plain": []})
        for key, value in zip(curve, (x, ours, plain), strict=True):
            curve[key].append(value)

    points = [("K", k, 4) for k in many] + [("batch", many[0], batch) for batch in batches]
    for axis, k, batch in points:
        report(f"growth: K = {k}, batch size {batch}")
        x, sides = (k if axis == "K" else batch), Step(k, batch, device=settings.device).losses()
        times = race(*sides, max(settings.rounds // 2, 1), settings.device, clock(settings))
        add(f"time, {axis}", x, *map(statistics.median, times))
        add(f"memory, {axis}", x, *(peak_bytes(side, settings.device) for side in sides))
    for k, result in exchange(list(many), 4).items():
        add("bytes, K", k, result["ours"], result["plain"])
    for number in processes:
        report(f"growth: {number} processes")
        # A process receives what the others send.
        result = exchange([many[0]], 4, processes=number)[many[0]]
        received = (result[side] * (number - 1) for side in ("ours", "plain"))
        add("bytes, processes", number, *received)
    return curves


def draw_growth(curves: dict[str, dict[str, list]], title: str) -> Figure:
    """The curves of `growth`, ours and plain, on logarithmic axes: a column for each unit.

    Args:
        curves: as `growth` returns them.
        title: the machine and the versions.
    """
    columns: dict[str, list[str]] = {}
    for name in curves:
        columns.setdefault(name.split(", ")[0], []).append(name)
    rows = max(map(len, columns.values()))
    figure = Figure(figsize=(3.6 * len(columns), 2.7 * rows + 0.4), layout="constrained")
    plots = figure.subplots(rows, len(columns), squeeze=False, sharey="col")
    for (kind, names), column in zip(columns.items(), plots.T, strict=True):
        label, unit = LABELS[kind]
        for name, plot in zip(names, column, strict=False):
            curve = curves[name]
            for side, color in (("plain", "#999999"), ("ours", "#0077bb")):
                values = [value / unit for value in curve[side]]
                plot.loglog(curve["x"], values, "o-", color=color, label=side)
            plot.set_xlabel(AXES[name.split(", ")[1]])
            plot.set_xticks(curve["x"], [f"{x:,}" for x in curve["x"]])
            plot.set_xticks([], minor=True)
            plot.grid(alpha=0.3)
            plot.spines[["top", "right"]].set_visible(False)
        column[0].set_title(label, fontsize=11)
        column[0].yaxis.set_major_locator(LogLocator(subs=(1, 3), numticks=12))
        column[0].yaxis.set_major_formatter(StrMethodFormatter("{x:,g}"))
        column[0].yaxis.set_minor_locator(NullLocator())
        for plot in column[len(names) :]:
            plot.set_axis_off()
    plots[0, 0].legend(frameon=False)
    figure.suptitle(title, fontsize=11, color="#555555")
    return figure
