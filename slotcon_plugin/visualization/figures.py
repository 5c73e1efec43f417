"""Figures of what prototypes select, for papers and slides."""

import io
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.colors import ListedColormap, Normalize
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from matplotlib.ticker import MaxNLocator
from PIL import Image

from ..runtime.atomic_files import write_atomically
from .image_lines import GAP, add_box, lines_of, show_line, width_of
from .painting import heat, prototype_colors
from .survey import SIZE_EDGES, Survey

INK, PALE = "#333333", "#777777"
HEIGHT, WIDEST = 1.45, 11.5  # inches: of an image, and of a line of images at most
HALO = [withStroke(linewidth=2.5, foreground="white")]  # around text on any background


def draw_gallery(rows: dict[int, Sequence[np.ndarray]], usage_k: np.ndarray) -> Figure:
    """A row for each prototype: its number, color, share of the pixels (`usage_k`), and images."""
    label, step = 0.95, HEIGHT + GAP
    lines = {k: lines_of(images, HEIGHT, WIDEST) for k, images in rows.items()}
    count = sum(map(len, lines.values()))
    width = max(map(width_of, lines.values()))
    figure = Figure(figsize=(label + width + GAP, count * step + GAP))
    colors, top = prototype_colors(len(usage_k)) / 255, GAP
    for k, images in rows.items():
        box = add_box(figure, 0, top, label, HEIGHT)
        box.set(xlim=(0, 1), ylim=(0, 1))
        box.text(0.5, 0.6, str(k), ha="center", va="center", fontsize=19, color=INK)
        box.text(0.5, 0.36, f"{usage_k[k]:.1%}", ha="center", va="center", fontsize=11, color=PALE)
        box.axhspan(0.14, 0.22, 0.2, 0.8, color=colors[k])
        for line in lines[k]:
            show_line(figure, line, images, label, top, HEIGHT)
            top += step
    return figure


def draw_attention(
    prototype: int,
    images: Sequence[np.ndarray],
    heated: Sequence[np.ndarray],
    temperature: float,
    highest: float,
) -> Figure:
    """Images, and below each the share of each pixel that a prototype has, as heat.

    `images` and `heated` (see `painting.heat`) have one or more of uint8 (h, w, 3); the lightest
    color is the share `highest`.
    """
    lines = lines_of(images, HEIGHT, WIDEST)
    step, head, side = 2 * HEIGHT + 3 * GAP, 0.4, 0.75
    width = width_of(lines)
    figure = Figure(figsize=(max(2 * GAP + width + side, 3.7), head + len(lines) * step))
    title = f"attention of prototype {prototype}, τ = {temperature:g}"
    figure.text(
        0.12 / figure.get_figwidth(),
        1 - 0.27 / figure.get_figheight(),
        title,
        color=INK,
        fontsize=13,
    )
    for number, line in enumerate(lines):
        top = head + number * step
        show_line(figure, line, images, 2 * GAP, top, HEIGHT)
        show_line(figure, line, heated, 2 * GAP, top + HEIGHT + GAP, HEIGHT)
    gray = np.full((256, 1, 3), 128, np.uint8)
    colors = ListedColormap(heat(gray, np.linspace(0, 1, 256)[:, None])[:, 0] / 255)
    bar = add_box(figure, width + 4 * GAP, head + HEIGHT + GAP, 0.14, HEIGHT)
    bar.set_axis_on()
    scale = ScalarMappable(Normalize(0, 100 * highest), colors)
    figure.colorbar(scale, cax=bar, format="%g %%").ax.tick_params(labelsize=10)
    return figure


def draw_map(
    points_k2: np.ndarray, usage_k: np.ndarray, other_k: np.ndarray, method: str
) -> Figure:
    """Prototypes in the plane, at positions in [0, 1] that `method` computed.

    Areas show the share of the pixels (`usage_k`). Unused ones are hollow and lie below. A line
    connects each used one with the most similar one (`other_k`), if that is used too. The most used
    ones have numbers, as many as there is room for.
    """
    side, range_ = 8, 1.12  # inches, and the part of the plane that they show
    figure = Figure(figsize=(side, side + 0.4))
    axis = add_box(figure, 0, 0.4, side, side)
    axis.set(xlim=(-0.06, 1.06), ylim=(-0.06, 1.06))
    order = np.argsort(-usage_k, kind="stable")
    order, unused = order[usage_k[order] > 0], usage_k == 0
    for k in order:
        if usage_k[other_k[k]] > 0:
            ends = points_k2[[k, other_k[k]]]
            axis.plot(*ends.T, color="#bbbbbb", linewidth=0.8, zorder=1)
    colors = prototype_colors(len(usage_k))
    area = 15 + 40_000 * usage_k[order]  # square points: all together are an eighth of the plane
    axis.scatter(*points_k2[order].T, area, colors[order] / 255, edgecolors="white", zorder=2)
    axis.scatter(*points_k2[unused].T, 18, "none", edgecolors="#cccccc", zorder=0)
    for k, at, size in _numbers(order, points_k2, np.sqrt(area / np.pi), range_ / 72 / side):
        centered = dict(ha="center", va="center", zorder=3)
        axis.text(*at, str(k), fontsize=size, path_effects=HALO, **centered)
    title = (
        f"{len(order)} of {len(usage_k)} prototypes are used; {method} of their cosine distances\n"
    )
    title += "area: share of the pixels; line: the most similar one, of used ones; hollow: unused"
    figure.text(0.5, 0.985, title, ha="center", va="top", fontsize=10.5, color=INK)
    return figure


def _numbers(
    order: np.ndarray, points_k2: np.ndarray, radii: np.ndarray, point: float
) -> Iterator[tuple[int, np.ndarray, float]]:
    """Where numbers do not overlap: (prototype, center, size in points).

    `order` has the most important one first, `radii` are those of its circles in points, and
    `point` is the length of a point in the plane.
    """
    taken: list[tuple[np.ndarray, np.ndarray]] = []
    for k, radius in zip(order, radii, strict=True):
        size = min(max(radius, 9), 13)
        half = np.array([0.32 * size * len(str(k)), 0.5 * size])
        sides = [(1, 0), (-1, 0), (0, 1), (0, -1)]
        if radius > 8:  # the number is legible in the circle
            sides.insert(0, (0, 0))
        for side in np.array(sides):
            center = points_k2[k] + point * side * (radius + half)
            low, high = center - point * half, center + point * half
            if not any((low < above).all() and (high > below).all() for below, above in taken):
                taken.append((low, high))
                yield int(k), center, size
                break


def draw_histograms(survey: Survey) -> Figure:
    """The usage of prototypes, the sizes of groups, and the number of groups in an image."""
    figure = Figure(figsize=(11, 3.3), layout="constrained")
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
    step = next(step for step in (1, 2, 5, 10) if len(counts) <= 7 * step)
    ticks = np.arange(step - 1, len(counts), step)
    numbers.set_xticks(ticks, np.array(list(counts))[ticks])
    numbers.yaxis.set_major_locator(MaxNLocator(6, integer=True))
    sizes.yaxis.set_major_locator(MaxNLocator(6, integer=True))
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
