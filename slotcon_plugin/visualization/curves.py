"""Figures of what a training logged; `runtime.scalars.read_curves` reads the values."""

from matplotlib.figure import Figure

from ..errors import DataError
from .painting import FIRST_COLORS

Curves = dict[str, list[tuple[int, float]]]  # name -> (step, value) pairs

# Title -> beginnings of the names. The entropy and the deviation show whether SlotCon's losses are
# meaningful.
PANELS = {
    "loss": ("loss", "decode.loss", "total_loss"),
    "prototypes in use, share": "prototypes_used",
    "assignment entropy, nats": "assignment_entropy",
    "feature standard deviation": "feature_std",
    "metrics": ("coco/bbox_mAP", "coco/segm_mAP", "mIoU", "bbox/AP", "segm/AP"),
    "learning rate": "lr",
    "seconds an iteration": "time",
}
COLUMNS = 3
# Of the lines of a panel, each with a style of its own: for color-blind eyes, and in print.
COLORS = FIRST_COLORS[:6]
STYLES = ("-", "--", ":", "-.", (0, (6, 2, 1, 2, 1, 2)), (0, (1, 3)))
FINER = ("s", "m", "l")  # ends of the metrics of COCO's sizes: too many lines


def draw_losses(curves: Curves) -> Figure:
    """The same as `draw_curves`, for a training that must have logged a loss."""
    if "loss" not in curves:
        raise DataError("No loss was logged: was the training shorter than LoggerHook's interval?")
    return draw_curves(curves)


def draw_curves(curves: Curves) -> Figure:
    """Draw the curves of PANELS, of which there must be one, of any training."""
    curves = {n: points for n, points in curves.items() if "/" not in n or not n.endswith(FINER)}
    panels = {
        title: [name for name in curves if name.startswith(starts)]
        for title, starts in PANELS.items()
    }
    panels = {title: names for title, names in panels.items() if names}
    columns, rows = min(COLUMNS, len(panels)), -(-len(panels) // COLUMNS)
    figure = Figure(figsize=(4.4 * columns, 3 * rows), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).flat
    for axis in axes[len(panels) :]:
        axis.set_axis_off()
    for axis, (title, names) in zip(axes, panels.items()):
        axis.set_prop_cycle(color=COLORS, linestyle=STYLES)
        for name in names:
            axis.plot(*zip(*curves[name], strict=True), label=name, marker=".", lw=1, ms=4)
        axis.set_title(title, fontsize=10)
        axis.set(xlabel="step")
        axis.spines[["top", "right"]].set_visible(False)
        axis.tick_params(labelsize=8)
        if len(names) > 1:
            axis.legend(frameon=False, fontsize=8)
    return figure
