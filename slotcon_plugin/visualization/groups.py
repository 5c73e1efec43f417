"""Figures of the prototype of each pixel, before and after a training."""

import numpy as np
import torch
import torch.nn.functional as F
from matplotlib.figure import Figure
from PIL import Image

from .image_lines import GAP, add_box, lines_of, show_line, width_of
from .painting import overlay, prototype_colors
from .survey import scaled

Grouped = tuple[np.ndarray, np.ndarray]  # uint8 RGB (h, w, 3), and each pixel's prototype (h, w)
SHORT_SIDE = 192  # pixels of the figure's images
SCALES = (2 / 3, 1, 4 / 3)
LARGEST_SHORT_SIDE = round(SHORT_SIDE * max(SCALES))  # of the encoder's inputs, pixels
HEIGHT, WIDEST, NARROWEST, BAR = 1.9, 11.5, 6.2, 0.75  # of the figure, inches
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

    `rows` has the same photographs, grouped at a time, by the time's name. A color is a prototype,
    the same at all times.
    """
    photographs = [photograph for photograph, _ in next(iter(rows.values()))[:columns]]
    pictures = {"photograph": photographs}
    for name, grouped in rows.items():
        pictures[name] = [overlay(*one) for one in grouped[:columns]]
    lines = lines_of(photographs, HEIGHT, WIDEST)
    side, step, block = (
        0.34,
        HEIGHT + GAP,
        3 * GAP,
    )  # inches: of the names, a row, and between lines
    width = max(width_of(lines), NARROWEST)
    heights = len(lines) * (len(pictures) * step + block), len(rows) * BAR
    figure = Figure(figsize=(side + width + GAP, GAP + sum(heights)))
    top = GAP
    for line in lines:
        for name, images in pictures.items():
            show_line(figure, line, images, side, top, HEIGHT)
            box = add_box(figure, 0, top, side, HEIGHT)
            box.text(0.55, 0.5, name, rotation=90, ha="center", va="center", fontsize=12)
            top += step
        top += block
    shares = {name: usage(grouped, num_prototypes) for name, grouped in rows.items()}
    order = np.argsort(-list(shares.values())[-1], kind="stable")
    colors = prototype_colors(num_prototypes)[order] / 255
    for name, share_k in shares.items():
        used = int((share_k > 0).sum())
        box = add_box(figure, side, top, width, BAR - 3 * GAP)
        box.set(xlim=(0, 1), ylim=(0, 1))
        title = (
            f"{name}: {used} of {num_prototypes} prototypes are used; their shares of the pixels"
        )
        box.text(0, 0.97, title, va="top", fontsize=12)
        ends = share_k[order].cumsum()
        lengths = dict(width=share_k[order], left=ends - share_k[order], height=0.4)
        box.barh(0.2, color=colors, edgecolor="white", linewidth=0.5, **lengths)
        top += BAR
    return figure
