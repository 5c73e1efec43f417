"""Which prototype each pixel belongs to, as a picture."""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from PIL import Image

# Distinct, also for most colour-blind eyes (after Paul Tol's schemes).
# fmt: off
PALETTE = (
    "#4477aa", "#ee6677", "#228833", "#ccbb44", "#66ccee", "#aa3377", "#ee7733", "#0077bb",
    "#009988", "#cc3311", "#ee3377", "#bbcc33", "#882255", "#44bb99", "#ddaa33", "#332288",
    "#99ddff", "#ffaabb", "#999933", "#117733",
)
# fmt: on


@dataclass
class Grouped:
    """One photograph and the prototype of each of its pixels."""

    photograph: np.ndarray  # (h, w, 3) uint8, RGB
    assignment: np.ndarray  # (h, w) int, in [0, k)


@torch.no_grad()
def group_photographs(
    model, photographs: list[Image.Image], short_side: int = 192
) -> list[Grouped]:
    """Group each photograph with the teacher of a `SlotCon` model.

    Scores are computed on the feature map and interpolated to the photograph, and each pixel goes
    to its best prototype.

    Args:
        model: a `SlotCon`; its mode is restored afterwards.
        photographs: RGB.
        short_side: pixels to which each photograph's shorter side is scaled. The groups are those
            of this scale: one to two times the side of the training views works well.
    """
    was_training = model.training
    model.eval()
    grouped = []
    for photograph in photographs:
        scale = short_side / min(photograph.size)
        size = [max(round(side * scale), 1) for side in photograph.size]
        pixels = np.array(photograph.resize(size, Image.Resampling.BICUBIC))
        batch = dict(inputs=torch.from_numpy(pixels).permute(2, 0, 1)[None])
        (sample,) = model.test_step(batch)
        scores_1khw = F.interpolate(sample.scores[None], pixels.shape[:2], mode="bilinear")
        grouped.append(Grouped(pixels, scores_1khw[0].argmax(dim=0).cpu().numpy()))
    model.train(was_training)
    return grouped


def usage(grouped: list[Grouped], num_prototypes: int) -> np.ndarray:
    """Share of the pixels that each prototype has, (k,), mean over photographs."""
    shares = [np.bincount(g.assignment.ravel(), minlength=num_prototypes) for g in grouped]
    return np.mean([share / share.sum() for share in shares], axis=0)


def overlay(grouped: Grouped, colours: np.ndarray, strength: float = 0.62) -> np.ndarray:
    """Paint the groups over the photograph in grey, with a light line between groups.

    Args:
        grouped: a grouped photograph.
        colours: (k, 3) RGB, 0-1.
        strength: share of the colour, 0-1.

    Returns:
        (h, w, 3) uint8.
    """
    grey = grouped.photograph @ np.array([0.299, 0.587, 0.114])
    painted = strength * 255 * colours[grouped.assignment] + (1 - strength) * grey[..., None]
    edge = np.zeros(grouped.assignment.shape, bool)
    edge[:, 1:] |= grouped.assignment[:, 1:] != grouped.assignment[:, :-1]
    edge[1:] |= grouped.assignment[1:] != grouped.assignment[:-1]
    painted[edge] = 0.4 * painted[edge] + 0.6 * 255
    return painted.astype(np.uint8)


def prototype_colours(shares_k: np.ndarray) -> np.ndarray:
    """A colour for each prototype, (k, 3) in 0-1: the most used get the most distinct ones."""
    colours = np.empty((len(shares_k), 3))
    for place, k in enumerate(np.argsort(-shares_k, kind="stable")):
        fade = 0.75 ** (place // len(PALETTE))  # after a full round the palette returns, darker
        colours[k] = np.array(to_rgb(PALETTE[place % len(PALETTE)])) * fade
    return colours


def draw_groups(rows: dict[str, list[Grouped]], num_prototypes: int, columns: int = 6) -> Figure:
    """Draw photographs, their groups at several times, and how much each prototype is used.

    Args:
        rows: from a time's name to the same photographs, grouped at that time; colours are ordered
            by the usage at the last.
        num_prototypes: k.
        columns: photographs to show, at most.
    """
    names = list(rows)
    shares = {name: usage(grouped, num_prototypes) for name, grouped in rows.items()}
    colours = prototype_colours(shares[names[-1]])
    shown = [grouped.photograph for grouped in rows[names[0]][:columns]]
    widths = [photograph.shape[1] / photograph.shape[0] for photograph in shown]

    figure = Figure(figsize=(2.1 * sum(widths), 2.25 * (1 + len(rows)) + 1.6), layout="constrained")
    heights = [1] * (1 + len(rows)) + [0.62]
    top, bottom = figure.subfigures(2, 1, height_ratios=[sum(heights[:-1]), heights[-1]])
    axes = top.subplots(1 + len(rows), len(shown), width_ratios=widths, squeeze=False)
    for axis, photograph in zip(axes[0], shown, strict=True):
        axis.imshow(photograph)
    for name, line in zip(names, axes[1:], strict=True):
        for axis, grouped in zip(line, rows[name], strict=False):
            axis.imshow(overlay(grouped, colours), interpolation="nearest")
    for name, axis in zip(["photograph", *names], axes[:, 0], strict=True):
        axis.set_ylabel(name, fontsize=12)
    for axis in axes.flat:
        axis.set(xticks=[], yticks=[])
        axis.spines[:].set_visible(False)

    order = np.argsort(-shares[names[-1]], kind="stable")
    panels = bottom.subplots(1, len(rows), sharey=True, squeeze=False)[0]
    for panel, name in zip(panels, names, strict=True):
        panel.bar(
            range(num_prototypes), 100 * shares[name][order], color=colours[order], width=0.85
        )
        used = int((shares[name] > 0).sum())
        panel.set_title(f"{name}: {used} of {num_prototypes} prototypes used", fontsize=11)
        panel.set_xlabel("prototype, by its use at the end")
        panel.set_xticks([])
        panel.spines[["top", "right"]].set_visible(False)
    panels[0].set_ylabel("% of pixels")
    return figure
