"""Figures of what a training logged; `runtime.scalars.read_curves` reads the values."""

import matplotlib.axes
from matplotlib.figure import Figure

from ..errors import DataError

Curves = dict[str, list[tuple[int, float]]]  # name -> (step, value) pairs

# SlotCon's losses, and the diagnostics that show whether they are meaningful.
LOSSES = {
    "loss (weighted)": ("loss", "loss_group", "loss_slot"),
    "prototypes used, share": ("prototypes_used", "prototypes_used_running"),
    "assignment entropy, nats": ("assignment_entropy",),
    "feature standard deviation": ("feature_std",),
}
# Any training: title -> beginnings of the names.
OVERVIEW = {
    "loss": ("loss", "decode.loss", "total_loss"),
    "metrics": ("coco/bbox_mAP", "coco/segm_mAP", "mIoU", "bbox/AP", "segm/AP"),
    "learning rate": ("lr",),
    "prototypes in use, share": ("prototypes_used",),
    "seconds an iteration": ("time",),
}
FINER = ("_s", "_m", "_l", "s", "m", "l")  # COCO's sizes: too many lines


def draw_losses(curves: Curves) -> Figure:
    """Draw the losses and the diagnostics of a SlotCon training.

    Raises:
        DataError: no loss was logged.
    """
    if "loss" not in curves:
        raise DataError("No loss was logged: was the training shorter than LoggerHook's interval?")
    figure = Figure(figsize=(11, 5.5), layout="constrained")
    for axis, (title, names) in zip(figure.subplots(2, 2).flat, LOSSES.items(), strict=True):
        _draw(axis, title, {name: curves[name] for name in names if name in curves})
        axis.margins(x=0)
    return figure


def draw_curves(curves: Curves) -> Figure:
    """Draw the curves of OVERVIEW, of which there must be one, of any training."""
    panels = {}
    for title, starts in OVERVIEW.items():
        chosen = {name: points for name, points in curves.items() if name.startswith(starts)}
        if title == "metrics":
            chosen = {name: points for name, points in chosen.items() if not name.endswith(FINER)}
        if chosen:
            panels[title] = chosen
    figure = Figure(figsize=(4.4 * len(panels), 3), layout="constrained")
    for axis, (title, chosen) in zip(
        figure.subplots(1, len(panels), squeeze=False)[0], panels.items(), strict=True
    ):
        _draw(axis, title, chosen, marker=".", lw=1, ms=4)
    return figure


def _draw(axis: matplotlib.axes.Axes, title: str, curves: Curves, **style) -> None:
    for name, points in curves.items():
        axis.plot(*zip(*points, strict=True), label=name, **style)
    axis.set_title(title, fontsize=10)
    axis.set(xlabel="step")
    axis.spines[["top", "right"]].set_visible(False)
    axis.tick_params(labelsize=8)
    if len(curves) > 1:
        axis.legend(frameon=False, fontsize=8)
