"""Draw what trainings logged, a line each, for docs/healthy.md.

    python benchmarks/healthy_curves.py docs/healthy.png \\
        'healthy=work_dirs/healthy' 'no teacher momentum=work_dirs/momentum'
"""

import argparse
import sys
from pathlib import Path

from matplotlib.figure import Figure

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from slotcon_plugin.runtime.scalars import read_curves
from slotcon_plugin.visualization.figures import save_png

# Title of each panel, and whether its axis begins at 0.
PANELS = {
    "loss_group": False,
    "loss_slot": False,
    "feature_std": True,
    "prototypes_used": True,
    "prototypes_used_running": True,
    "active_slots": True,
    "assignment_entropy": True,
    "rankme": True,
    "alpha_req": True,
}
COLORS = ("#222222", "#cc3311", "#0077bb", "#ee7733", "#009988", "#aa3377")


def main() -> None:
    """Read the work dirs, and write the figure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path, help="the figure, .png")
    parser.add_argument("runs", nargs="+", metavar="NAME=WORK_DIR")
    args = parser.parse_args()
    runs = {
        name: read_curves(Path(folder)) for name, _, folder in (r.partition("=") for r in args.runs)
    }
    save_png(draw(runs), args.out)


def draw(runs: dict[str, dict[str, list[tuple[int, float]]]]) -> Figure:
    """A panel for each of PANELS, with a line for each run."""
    figure = Figure(figsize=(10.5, 7.2), layout="constrained")
    axes = figure.subplots(3, 3, sharex=True)
    for axis, (name, from_zero) in zip(axes.flat, PANELS.items(), strict=True):
        for (label, curves), color in zip(runs.items(), COLORS):
            points = curves.get(name, [])
            axis.plot(*zip(*points), color=color, label=label, lw=1.6) if points else None
        axis.set_title(name, fontsize=10)
        axis.spines[["top", "right"]].set_visible(False)
        axis.tick_params(labelsize=8)
        if from_zero:
            axis.set_ylim(bottom=0)
    for axis in axes[-1]:
        axis.set_xlabel("step", fontsize=9)
    handles, labels = axes.flat[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, frameon=False, fontsize=9)
    return figure


if __name__ == "__main__":
    main()
