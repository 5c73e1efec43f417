"""Curves of what a training logged."""

import json
from pathlib import Path

from matplotlib.figure import Figure

from ..errors import DataError


def read_scalars(folder: str | Path) -> list[dict]:
    """The lines that a training logged, in order of steps; a later run's win over an earlier's.

    Args:
        folder: a training's work dir, with a `<time>/vis_data/scalars.json` of MMEngine for each
            run in it; or the folder of one run.

    Raises:
        DataError: nothing was logged there.
    """
    by_step: dict[int, dict] = {}
    for file in sorted(Path(folder).rglob("vis_data/scalars.json")):
        for line in file.read_text().splitlines():
            entry = json.loads(line)
            if "loss" in entry:
                by_step[entry["step"]] = entry
    if not by_step:
        raise DataError(
            f"No logged losses in {folder}, expected <time>/vis_data/scalars.json: was the "
            "training shorter than LoggerHook's interval?"
        )
    return [by_step[step] for step in sorted(by_step)]


def draw_losses(scalars: list[dict]) -> Figure:
    """Draw the losses and the diagnostics that tell whether they mean something.

    Args:
        scalars: entries with `step` and what a SlotCon training logs; see `read_scalars`.
    """
    panels = {
        "loss (weighted)": ("loss", "loss_group", "loss_slot"),
        "prototypes used, share": ("prototypes_used", "prototypes_used_running"),
        "assignment entropy, nats": ("assignment_entropy",),
        "feature standard deviation": ("feature_std",),
    }
    steps = [entry["step"] for entry in scalars]
    figure = Figure(figsize=(11, 5.5), layout="constrained")
    for axis, (title, names) in zip(figure.subplots(2, 2).flat, panels.items(), strict=True):
        for name in names:
            axis.plot(steps, [entry.get(name, float("nan")) for entry in scalars], label=name)
        axis.set(title=title, xlabel="step")
        axis.spines[["top", "right"]].set_visible(False)
        axis.margins(x=0)
        if len(names) > 1:
            axis.legend(frameon=False, fontsize=9)
    return figure
