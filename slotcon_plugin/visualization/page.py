"""One HTML file with all images in it, which works from the disk and without a network."""

import base64
import io
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from PIL import Image

from ..runtime.atomic_files import open_atomically
from .painting import hex_color, prototype_colors
from .survey import SIZE_EDGES, Groups, Survey

PHOTO_QUALITY = 72  # of WebP
LONGEST_WEBP = 16383  # pixels of a side


def write_card(file: io.TextIOBase, name: str, pixels: np.ndarray, groups: Groups) -> None:
    """Write the line of one image for `write_page`; uint8 `pixels` have the size of `groups`."""
    listed = list(zip(groups.prototypes, groups.shares, groups.similarities, strict=True))
    card = TEMPLATES.get_template("card.html").render(
        name=name,
        pixels=pixels,
        groups=groups,
        entries=[f"{k}:{100 * share:.3g}:{cosine:.3f}" for k, share, cosine in listed],
        largest=", ".join(f"{k} ({share:.0%})" for k, share, _ in listed[:5]),
        mean_cosine=float(groups.shares @ groups.similarities),
    )
    file.write(card.strip().replace("\n", "") + "\n")


def write_page(
    path: Path, cards: Iterable[str], survey: Survey, points: np.ndarray, **content: object
) -> None:
    """Fill web/page.html and write it completely or not at all, without having all in memory.

    Args:
        cards: the lines of `write_card`.
        points: (k, 2) positions of the prototypes in [0, 1].
        content: the other names that the template uses; a missing one is an error.
    """
    page = TEMPLATES.get_template("page.html").stream(
        cards=map(Markup, cards),
        survey=survey,
        usage=survey.usage,
        order=np.argsort(-survey.usage, kind="stable").tolist(),
        used=survey.most_used(),
        unused=np.flatnonzero(survey.usage == 0).tolist(),
        size_edges=SIZE_EDGES,
        points=(40 + 720 * points.astype(float)).round(1).tolist(),
        **content,
    )
    with open_atomically(path) as file:
        page.dump(file, encoding="utf-8")


def _colored(assignment_hw: np.ndarray) -> str:
    """The groups as an image with a palette of the few colors that occur."""
    present, index = np.unique(assignment_hw, return_inverse=True)
    colors_k3 = prototype_colors(int(present[-1]) + 1)
    if len(present) > 256:
        image = Image.fromarray(colors_k3[assignment_hw])
    else:
        image = Image.fromarray(index.reshape(assignment_hw.shape).astype(np.uint8), "P")
        image.putpalette(colors_k3[present].tobytes())
    return _data(image, "PNG", optimize=True)


def _data(image: Image.Image, kind: str, **options) -> str:
    """The address of an image that contains the whole image."""
    file = io.BytesIO()
    image.save(file, kind, **options)
    return f"data:image/{kind.lower()};base64,{base64.b64encode(file.getvalue()).decode()}"


WEB = FileSystemLoader(Path(__file__).parent / "web")
TEMPLATES = Environment(
    loader=WEB, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
)
TEMPLATES.filters.update(
    webp=lambda pixels: _data(Image.fromarray(pixels), "WEBP", quality=PHOTO_QUALITY),
    colored=_colored,
    color=lambda prototype: hex_color(prototype_colors(prototype + 1)[prototype]),
)
