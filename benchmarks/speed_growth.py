"""How time, memory and traffic grow with prototypes, batch size and processes."""

import statistics
from collections.abc import Callable

from matplotlib.figure import Figure

from benchmarks.measuring import peak_bytes, race
from benchmarks.speed_exchange import exchange
from benchmarks.speed_step import Step
from benchmarks.speed_tables import Settings, clock

LABELS = {
    "time": ("forward and backward, ms", 1e-3),
    "memory": ("peak, MiB", 2**20),
    "bytes": ("bytes received in a step, KiB", 2**10),
}
AXES = {
    "K": "prototypes K (batch size 4)",
    "batch": "images in a process (smallest K)",
    "processes": "processes (smallest K, batch size 4)",
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
    """One plot per curve of `growth`, ours and plain, on logarithmic axes.

    Args:
        curves: as `growth` returns them.
        title: the machine and the versions.
    """
    columns = 3
    rows = -(-len(curves) // columns)
    figure = Figure(figsize=(4 * columns, 3 * rows), layout="constrained")
    plots = figure.subplots(rows, columns, squeeze=False).flatten()
    for plot, (name, curve) in zip(plots, curves.items(), strict=False):
        kind, axis = name.split(", ")
        label, unit = LABELS[kind]
        for side, style in (("plain", "o--"), ("ours", "o-")):
            plot.loglog(curve["x"], [value / unit for value in curve[side]], style, label=side)
        plot.set_xlabel(AXES[axis])
        plot.set_title(label, fontsize=10)
        plot.set_xticks(curve["x"], [f"{x:,}" for x in curve["x"]], fontsize=8)
        plot.minorticks_off()
        plot.grid(alpha=0.3)
        plot.legend(fontsize=8)
    for plot in plots[len(curves) :]:
        plot.set_axis_off()
    figure.suptitle(title, fontsize=11)
    return figure
