"""How costs grow, drawn."""

from matplotlib.figure import Figure

LABELS = {
    "time": ("forward and backward, ms", 1e-3),
    "memory": ("peak, MiB", 2**20),
    "bytes": ("bytes received a step, KiB", 2**10),
}
AXES = {
    "K": "prototypes K (batch 4)",
    "batch": "images a process (fewest K)",
    "processes": "processes (fewest K, batch 4)",
}


def draw_growth(curves: dict[str, dict[str, list]], title: str) -> Figure:
    """One panel a curve, ours and plain on double logarithmic axes.

    Args:
        curves: {"time, K": {"x": [..], "ours": [..], "plain": [..]}, ..}; names are a key of LABELS
            and of AXES; seconds and bytes.
        title: what was measured where.
    """
    columns = 3
    rows = -(-len(curves) // columns)
    figure = Figure(figsize=(4 * columns, 3 * rows), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False).flatten()
    for panel, (name, curve) in zip(panels, curves.items(), strict=False):
        kind, axis = name.split(", ")
        label, unit = LABELS[kind]
        for side, style in (("plain", "o--"), ("ours", "o-")):
            panel.loglog(curve["x"], [value / unit for value in curve[side]], style, label=side)
        panel.set_xlabel(AXES[axis])
        panel.set_title(label, fontsize=10)
        panel.set_xticks(curve["x"], [f"{x:,}" for x in curve["x"]], fontsize=8)
        panel.minorticks_off()
        panel.grid(alpha=0.3)
        panel.legend(fontsize=8)
    for panel in panels[len(curves) :]:
        panel.set_axis_off()
    figure.suptitle(title, fontsize=11)
    return figure
