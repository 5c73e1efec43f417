"""One HTML file with all images in it, which works from the disk and without a network.

The cards of images are written to a temporary file one after another, so that memory does not grow
with their number; the template web/page.html is filled when all else is known.
"""

import base64
import io
import os
from pathlib import Path
from tempfile import TemporaryFile

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from PIL import Image

from .painting import hex_color, prototype_colors
from .survey import SIZE_EDGES, Groups, Survey, group_count

PHOTO_QUALITY = 72  # of WebP


class PageWriter:
    """Writes the page, completely or not at all; use it in a `with`.

    Args:
        path: the HTML file.
        num_prototypes: k.
    """

    def __init__(self, path: Path, num_prototypes: int):
        self.path = path
        self.colors_k3 = prototype_colors(num_prototypes)
        self.whole = path.with_name(f".{path.name}.tmp")
        folder = Path(__file__).parent / "web"
        self.templates = Environment(
            loader=FileSystemLoader(folder),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self.templates.filters["webp"] = lambda pixels: _data(
            Image.fromarray(pixels), "WEBP", quality=PHOTO_QUALITY
        )
        self.templates.filters["color"] = lambda k: hex_color(self.colors_k3[k])
        self.card = self.templates.get_template("card.html")

    def __enter__(self):
        self.cards = TemporaryFile("w+", encoding="utf-8", dir=self.path.parent)
        return self

    def __exit__(self, *error) -> None:
        self.cards.close()
        self.whole.unlink(missing_ok=True)

    def add(self, name: str, pixels: np.ndarray, groups: Groups) -> None:
        """Add an image.

        Args:
            name: the text that is shown.
            pixels: (h, w, 3) uint8 RGB, of the size that is stored.
            groups: of the same size.
        """
        listed = list(zip(groups.prototypes, groups.shares, groups.similarities, strict=True))
        card = self.card.render(
            name=name,
            pixels=pixels,
            groups=groups,
            entries=[f"{k}:{100 * share:.3g}:{cosine:.3f}" for k, share, cosine in listed],
            largest=", ".join(f"{k} ({share:.0%})" for k, share, _ in listed[:5]),
            mean_cosine=float(groups.shares @ groups.similarities),
            colored=self._colored(groups.assignment),
        )
        self.cards.write(card.strip().replace("\n", "") + "\n")

    def finish(self, survey: Survey, **content: object) -> None:
        """Fill web/page.html, and give it its final name.

        Args:
            survey: the counts.
            content: the other names that the template uses.

        Raises:
            jinja2.UndefinedError: a name is missing.
        """
        self.cards.seek(0)
        page = self.templates.get_template("page.html").stream(
            cards=map(Markup, self.cards),
            survey=survey,
            usage=survey.usage,
            order=np.argsort(-survey.usage, kind="stable").tolist(),
            used=survey.most_used(),
            unused=np.flatnonzero(survey.usage == 0).tolist(),
            group_count=group_count,
            size_edges=SIZE_EDGES,
            **content,
        )
        with self.whole.open("w", encoding="utf-8") as file:
            page.dump(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(self.whole, self.path)

    def _colored(self, assignment_hw: np.ndarray) -> str:
        """The groups as an image with a palette of the few colors that occur."""
        present, index = np.unique(assignment_hw, return_inverse=True)
        if len(present) > 256:
            image = Image.fromarray(self.colors_k3[assignment_hw])
        else:
            index = index.reshape(assignment_hw.shape).astype(np.uint8)
            image = Image.fromarray(index, "P")
            image.putpalette(self.colors_k3[present].tobytes())
        return _data(image, "PNG", optimize=True)


def _data(image: Image.Image, kind: str, **options) -> str:
    """The address of an image that contains the whole image."""
    file = io.BytesIO()
    image.save(file, kind, **options)
    return f"data:image/{kind.lower()};base64,{base64.b64encode(file.getvalue()).decode()}"
