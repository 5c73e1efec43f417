"""Figures of the prototype of each pixel, before and after a training."""

import numpy as np
import torch
import torch.nn.functional as F
from matplotlib.figure import Figure
from PIL import Image

from .painting import overlay, prototype_colors
from .survey import scaled

Grouped = tuple[np.ndarray, np.ndarray]  # uint8 RGB (h, w, 3), and each pixel's prototype (h, w)
SHORT_SIDE = 192  # pixels of the figure's images
SCALES = (2 / 3, 1, 4 / 3)
LARGEST_SHORT_SIDE = round(SHORT_SIDE * max(SCALES))  # of the encoder's inputs, pixels
MARGIN = 64  # pixels that are added at each border of a photograph


@torch.no_grad()
def group_photographs(
    model,
    photographs: list[Image.Image],
    short_side: int = SHORT_SIDE,
    scales=SCALES,
    level: str | int | None = None,
) -> list[Grouped]:
    """Assign each pixel to a prototype of the teacher of a `SlotCon` model.

    Scores of the photograph and of its mirror image at several scales are interpolated to one size
    and added; each pixel is assigned to its best prototype. Borders are padded by reflection,
    because convolutions would pad them with zeros.

    Args:
        model: a `SlotCon`; its mode is restored afterwards.
        short_side: of the result, in pixels.
        scales: of the encoder's inputs, relative to `short_side`. One to two times the side of the
            training views works well.
        level: see `SlotCon.predict`.
    """
    was_training = model.training
    model.eval()
    grouped = []
    for photograph in photographs:
        pixels = np.array(scaled(photograph, short_side, Image.Resampling.BICUBIC))
        shape, scores_khw = pixels.shape[:2], 0
        for scale in scales:
            image = np.array(scaled(photograph, short_side * scale, Image.Resampling.BICUBIC))
            scores_khw += _score(model, image, shape, level)
            scores_khw += _score(model, image[:, ::-1], shape, level).flip(2)
        grouped.append((pixels, scores_khw.argmax(dim=0).cpu().numpy()))
    model.train(was_training)
    return grouped


def _score(model, pixels: np.ndarray, shape: tuple[int, int], level) -> torch.Tensor:
    """The prototypes' scores, (k, *shape), of uint8 pixels (h, w, 3)."""
    height, width = pixels.shape[:2]
    top, left = min(MARGIN, height - 1), min(MARGIN, width - 1)
    framed = np.pad(pixels, ((top, top), (left, left), (0, 0)), mode="reflect")
    images = torch.from_numpy(framed).permute(2, 0, 1)[None]
    (sample,) = model.predict(model.data_preprocessor(dict(inputs=images))["inputs"], level)
    scores = F.interpolate(sample.scores[None], framed.shape[:2], mode="bilinear")
    inside = scores[:, :, top : top + height, left : left + width]
    return F.interpolate(inside, shape, mode="bilinear")[0]


def usage(grouped: list[Grouped], num_prototypes: int) -> np.ndarray:
    """(k,) share of the pixels of each prototype, the mean over photographs."""
    shares = [np.bincount(hw.ravel(), minlength=num_prototypes) for _, hw in grouped]
    return np.mean([share / share.sum() for share in shares], axis=0)


def draw_groups(rows: dict[str, list[Grouped]], num_prototypes: int, columns: int = 6) -> Figure:
    """Draw at most `columns` photographs, their groups at several times, and the prototypes' usage.

    `rows` has the same photographs, grouped at a time, by the time's name.
    """
    names = list(rows)
    shares = {name: usage(grouped, num_prototypes) for name, grouped in rows.items()}
    colors = prototype_colors(num_prototypes) / 255
    shown = [photograph for photograph, _ in rows[names[0]][:columns]]
    widths = [photograph.shape[1] / photograph.shape[0] for photograph in shown]

    figure = Figure(figsize=(2.1 * sum(widths), 2.25 * (1 + len(rows)) + 1.6), layout="constrained")
    top, bottom = figure.subfigures(2, 1, height_ratios=[1 + len(rows), 0.62])
    axes = top.subplots(1 + len(rows), len(shown), width_ratios=widths, squeeze=False)
    for axis, photograph in zip(axes[0], shown, strict=True):
        axis.imshow(photograph)
    for name, line in zip(names, axes[1:], strict=True):
        for axis, (photograph, assignment) in zip(line, rows[name], strict=False):
            axis.imshow(overlay(photograph, assignment), interpolation="nearest")
    for name, axis in zip(["photograph", *names], axes[:, 0], strict=True):
        axis.set_ylabel(name, fontsize=12)
    for axis in axes.flat:
        axis.set(xticks=[], yticks=[])
        axis.spines[:].set_visible(False)

    order = np.argsort(-shares[names[-1]], kind="stable")
    panels = bottom.subplots(1, len(rows), sharey=True, squeeze=False)[0]
    for panel, name in zip(panels, names, strict=True):
        panel.bar(range(num_prototypes), 100 * shares[name][order], color=colors[order], width=0.85)
        used = int((shares[name] > 0).sum())
        panel.set_title(f"{name}: {used} of {num_prototypes} prototypes used", fontsize=11)
        panel.set(xlabel="prototype, by its usage at the end", xticks=[])
        panel.spines[["top", "right"]].set_visible(False)
    panels[0].set_ylabel("% of pixels")
    return figure
