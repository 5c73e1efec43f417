"""One HTML file with every image in it, for a browser, from file:// and without a network.

Cards of images go to a file beside it as they come, so that memory does not grow with them; when
the rest is known, both become the page under its name.
"""

import base64
import html
import io
import os
import re
import shutil
from pathlib import Path

import numpy as np
from PIL import Image

from .painting import hex_color, prototype_colors
from .survey import Groups

WEB = Path(__file__).parent / "web"
PHOTO_QUALITY = 72  # of WebP


class PageWriter:
    """Writes the page, whole or not at all; use it in a `with`.

    Args:
        path: of the HTML file.
        num_prototypes: k.
    """

    def __init__(self, path: Path, num_prototypes: int):
        self.path = path
        self.colors_k3 = prototype_colors(num_prototypes)
        self.cards = path.with_name(f".{path.name}.cards.tmp")
        self.whole = path.with_name(f".{path.name}.tmp")

    def __enter__(self):
        self.file = self.cards.open("w", encoding="utf-8")
        return self

    def __exit__(self, *error) -> None:
        self.file.close()
        for temporary in (self.cards, self.whole):
            temporary.unlink(missing_ok=True)

    def add(self, name: str, pixels: np.ndarray, found: Groups) -> None:
        """Add an image.

        Args:
            name: is shown.
            pixels: (h, w, 3) uint8 RGB, of the size that is stored.
            found: its groups, of the same size.
        """
        height, width = found.assignment.shape
        groups = " ".join(
            f"{k}:{100 * share:.3g}:{similarity:.3f}"
            for k, share, similarity in zip(
                found.prototypes, found.shares, found.similarities, strict=True
            )
        )
        words = ", ".join(
            f"{k} ({share:.0%})" for k, share in zip(found.prototypes[:5], found.shares[:5])
        )
        number = len(found.prototypes)
        clear = float(found.shares @ found.similarities)
        caption = f"{name} · {number} group{'s' * (number != 1)}"
        size = f'width="{width}" height="{height}" loading="lazy" decoding="async"'
        name = html.escape(name)
        self.file.write(
            f'<li class="card" data-name="{name}" data-groups="{groups}" data-clear="{clear:.4f}" '
            f'style="--r:{width / height:.4f}"><button type="button">'
            f'<img class="photo" {size} alt="{name}" src="{photo_data(pixels)}">'
            f'<img class="groups" {size} alt="groups {words}" src="{self._groups_data(found)}">'
            f"<span>{html.escape(caption)}</span></button></li>\n"
        )

    def finish(self, parts: dict[str, str]) -> None:
        """Put the page together.

        Args:
            parts: HTML for each `{{name}}` of web/page.html, but for cards, style and script.

        Raises:
            KeyError: a name of the template has no part.
        """
        self.file.close()
        parts = parts | {
            name: (WEB / file).read_text(encoding="utf-8")
            for name, file in (("style", "page.css"), ("script", "page.js"))
        }
        template = (WEB / "page.html").read_text(encoding="utf-8")
        before, after = template.split("{{cards}}")
        with self.whole.open("w", encoding="utf-8") as page:
            page.write(_fill(before, parts))
            with self.cards.open(encoding="utf-8") as cards:
                shutil.copyfileobj(cards, page)
            page.write(_fill(after, parts))
            page.flush()
            os.fsync(page.fileno())
        os.replace(self.whole, self.path)

    def _groups_data(self, found: Groups) -> str:
        """The groups as an image with a palette of the few colors that occur."""
        present, index = np.unique(found.assignment, return_inverse=True)
        if len(present) > 256:
            image = Image.fromarray(self.colors_k3[found.assignment])
        else:
            shape = found.assignment.shape
            image = Image.fromarray(index.reshape(shape).astype(np.uint8), "P")
            image.putpalette(self.colors_k3[present].tobytes())
        return _data(image, "PNG", optimize=True)


def photo_data(pixels: np.ndarray) -> str:
    """A photograph, uint8 (h, w, 3), as the address of a WebP image that holds all of it."""
    return _data(Image.fromarray(pixels), "WEBP", quality=PHOTO_QUALITY)


def color_of(prototype: int) -> str:
    """The CSS of a prototype's color."""
    return f"--c:{hex_color(prototype_colors(prototype + 1)[prototype])}"


def _data(image: Image.Image, kind: str, **options) -> str:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return f"data:image/{kind.lower()};base64,{base64.b64encode(file.getvalue()).decode()}"


def _fill(template: str, parts: dict[str, str]) -> str:
    return re.sub(r"\{\{(\w+)\}\}", lambda match: parts[match[1]], template)
