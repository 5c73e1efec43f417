"""Figures of what prototypes select, for papers and slides."""

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.colors import ListedColormap, Normalize
from matplotlib.figure import Figure
from PIL import Image

from ..runtime.atomic_files import write_atomically
from .painting import heat_colors, prototype_colors
from .survey import SIZE_EDGES, Survey

INK = "#333333"


def draw_gallery(rows: dict[int, Sequence[np.ndarray]], usage_k: np.ndarray) -> Figure:
    """A row for each prototype: its number, color, share of the pixels (`usage_k`), and images."""
    columns = max(map(len, rows.values()))
    figure = Figure(figsize=(1.1 + 1.75 * columns, 1.5 * len(rows)), layout="constrained")
    widths = [0.45] + [1] * columns
    axes = figure.subplots(len(rows), columns + 1, width_ratios=widths, squeeze=False)
    colors = prototype_colors(len(usage_k)) / 255
    for (k, images), line in zip(rows.items(), axes, strict=True):
        line[0].text(0.5, 0.58, str(k), ha="center", va="center", fontsize=17, color=INK)
        line[0].text(0.5, 0.3, f"{usage_k[k]:.1%}", ha="center", va="center", color="#777777")
        line[0].axhspan(0.1, 0.17, 0.2, 0.8, color=colors[k])
        line[0].set(ylim=(0, 1), xlim=(0, 1))
        for axis, image in zip(line[1:], images, strict=False):
            axis.imshow(image)
        for axis in line:
            axis.set_axis_off()
    return figure


def draw_attention(
    prototype: int, images: Sequence[np.ndarray], heated: Sequence[np.ndarray], temperature: float
) -> Figure:
    """Images, and below them the share of each pixel that a prototype has, as heat.

    `images` and `heated` have one or more of uint8 (h, w, 3).
    """
    figure = Figure(figsize=(0.6 + 2.2 * len(images), 4.2), layout="constrained")
    figure.suptitle(f"attention of prototype {prototype}, τ = {temperature:g}", color=INK)
    axes = figure.subplots(2, len(images), squeeze=False)
    for axis, image in zip(axes.flat, [*images, *heated], strict=True):
        axis.imshow(image)
        axis.set_axis_off()
    colors = ListedColormap(heat_colors(np.linspace(0, 1, 256)) / 255)
    figure.colorbar(ScalarMappable(Normalize(0, 1), colors), ax=axes[1], fraction=0.03, pad=0.01)
    return figure


def draw_map(
    points_k2: np.ndarray, usage_k: np.ndarray, other_k: np.ndarray, method: str
) -> Figure:
    """Prototypes in the plane, at positions in [0, 1] that `method` computed.

    Areas show the share of the pixels (`usage_k`), unused ones are hollow, and a line connects each
    with the most similar one (`other_k`).
    """
    figure = Figure(figsize=(8, 8), layout="constrained")
    axis = figure.subplots()
    for start, end in zip(points_k2, points_k2[other_k], strict=True):
        axis.plot(*zip(start, end), color="#bbbbbb", linewidth=0.8, zorder=1)
    used = usage_k > 0
    colors = prototype_colors(len(usage_k)) / 255
    size = 30 + 2500 * usage_k / max(usage_k.max(), 1e-12)
    axis.scatter(*points_k2[used].T, size[used], colors[used], edgecolors="white", zorder=2)
    axis.scatter(*points_k2[~used].T, 18, "none", edgecolors="#999999", zorder=2)
    centered = dict(ha="center", va="center", fontsize=8, color=INK, zorder=3)
    for k in np.flatnonzero(used):
        axis.annotate(str(k), points_k2[k], **centered)
    title = f"prototypes by {method} of their cosine distances; area: share of the pixels; "
    axis.set_title(title + "line: the most similar one", fontsize=9, color=INK)
    axis.set(aspect="equal", xlim=(-0.06, 1.06), ylim=(-0.06, 1.06))
    axis.set_axis_off()
    return figure


def draw_histograms(survey: Survey) -> Figure:
    """The usage of prototypes, the sizes of groups, and the number of groups in an image."""
    figure = Figure(figsize=(12, 3.4), layout="constrained")
    use, sizes, numbers = figure.subplots(1, 3, width_ratios=[1.6, 1, 1])
    usage = survey.usage
    order = np.argsort(-usage, kind="stable")
    colors = prototype_colors(len(usage)) / 255
    use.bar(range(len(order)), 100 * usage[order], color=colors[order], width=1)
    used = int((usage > 0).sum())
    use.axhline(100 / len(usage), color="#999999", linewidth=0.8, linestyle="--")
    use.set(title=f"usage: {used} of {len(usage)} prototypes", ylabel="% of pixels", xticks=[])
    use.set(xlabel="prototype, by usage; dashed: equal usage")
    sizes.stairs(survey.sizes, 100 * SIZE_EDGES, fill=True, color="#4477aa")
    sizes.set(xscale="log", title="size of groups", xlabel="% of the image", ylabel="groups")
    sizes.set_xticks([0.1, 1, 10, 100], ["0.1", "1", "10", "100"])
    counts = survey.group_counts
    numbers.bar(range(len(counts)), list(counts.values()), color="#228833", width=0.9)
    numbers.set(title="groups in an image", xlabel="groups", ylabel="images")
    ticks = np.unique(np.linspace(0, len(counts) - 1, 6).astype(int))
    numbers.set_xticks(ticks, np.array(list(counts))[ticks])
    for axis in (use, sizes, numbers):
        axis.spines[["top", "right"]].set_visible(False)
        axis.margins(x=0)
    return figure


def save_png(image: Figure | Image.Image, path: str | Path) -> None:
    """Write a figure or an image as PNG, completely or not at all."""
    file = io.BytesIO()
    if isinstance(image, Figure):
        image.savefig(file, dpi=110)
    else:
        image.save(file, "PNG")
    write_atomically(file.getvalue(), path)
