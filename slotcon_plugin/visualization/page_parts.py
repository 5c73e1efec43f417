"""The parts of the page that are known when all images were seen, as HTML."""

import html
from itertools import pairwise

import numpy as np

from .gallery import Row
from .page import color_of, photo_data
from .survey import SIZE_EDGES, Survey, how_many


def facts(origin: str, survey: Survey, size: int) -> str:
    """What was looked at."""
    used, count = int((survey.usage_k > 0).sum()), len(survey.usage_k)
    return html.escape(
        f"{origin} · {survey.images:,} images, short side {size} · "
        f"{used} of {count} prototypes used"
    )


def gallery_row(prototype: int, survey: Survey, row: Row) -> str:
    """A prototype and its nearest images.

    Args:
        prototype: its number.
        survey: what was counted.
        row: the images.
    """
    items = []
    shown = zip(row.names, row.similarities, row.marked, row.heated, strict=True)
    for name, similarity, marked, heated in shown:
        name = html.escape(name)
        images = "".join(
            f'<img class="{kind}" loading="lazy" decoding="async" width="{pixels.shape[1]}" '
            f'height="{pixels.shape[0]}" alt="{name}, {words}" src="{photo_data(pixels)}">'
            for kind, words, pixels in (
                ("marked", f"group {prototype} marked", marked),
                ("heat", f"attention of {prototype}", heated),
            )
        )
        items.append(f'<li title="{name}">{images}<span>{similarity:.2f}</span></li>')
    images = int(survey.images_k[prototype])
    return (
        f'<div class="row"><div><h3>{chip(prototype)}</h3><small>'
        f"{survey.usage[prototype]:.1%} of the pixels<br>in {images:,} "
        f"image{'s' * (images != 1)}</small></div>"
        f'<ul class="strip" tabindex="0" aria-label="images nearest to prototype {prototype}">'
        f"{''.join(items)}</ul></div>\n"
    )


def chip(prototype: int, note: str = "") -> str:
    """A button that chooses a prototype."""
    return (
        f'<button type="button" class="chip" data-k="{prototype}" style="{color_of(prototype)}" '
        f'aria-label="prototype {prototype} {note}"><i></i>{prototype}<small>{note}</small>'
        "</button>"
    )


def used_in_order(survey: Survey) -> list[int]:
    """All prototypes that are used, the most used first."""
    return survey.most_used(len(survey.usage_k))


def chips(survey: Survey) -> str:
    """A button for each prototype in use."""
    return "".join(chip(k, f"{survey.usage[k]:.2%}") for k in used_in_order(survey))


def options(survey: Survey) -> str:
    """The entries of the list to choose from."""
    return "".join(
        f'<option value="{k}">{k} – {survey.usage[k]:.1%}, {survey.images_k[k]:,} images</option>'
        for k in used_in_order(survey)
    )


def unused(survey: Survey) -> str:
    """Which prototypes no pixel has."""
    numbers = np.flatnonzero(survey.usage_k == 0)
    if not len(numbers):
        return ""
    listed = ", ".join(map(str, numbers))
    return f"<details><summary>{len(numbers)} never used</summary><p>{listed}</p></details>"


def charts(survey: Survey) -> str:
    """Usage, sizes of groups, groups in an image."""
    order = np.argsort(-survey.usage_k, kind="stable")
    usage = survey.usage[order]
    last = int(np.flatnonzero(survey.groups).max(initial=1))
    sizes = [f"{100 * low:.2g}–{100 * high:.2g} %" for low, high in pairwise(SIZE_EDGES)]
    sizes[0] = f"under {100 * SIZE_EDGES[1]:.2g} %"
    return "".join(
        (
            _bars(
                usage,
                [f"prototype {k}: {share:.2%} of the pixels" for k, share in zip(order, usage)],
                "usage of the prototypes",
                f"largest {usage[0]:.1%}",
                [color_of(k) for k in order],
            ),
            _bars(
                survey.sizes,
                [f"{n:,} groups of {size}" for n, size in zip(survey.sizes, sizes)],
                "size of groups",
                "under 0.15 % to 100 % of the image, logarithmic",
            ),
            _bars(
                survey.groups[1 : last + 1],
                [f"{n:,} images with {how_many(i)}" for i, n in enumerate(survey.groups[1:], 1)],
                "groups in an image",
                f"1 to {how_many(last)}",
            ),
        )
    )


def _bars(values, titles: list[str], caption: str, note: str, colors: list[str] | None = None):
    """A bar chart; each bar says what it is when it is pointed at."""
    top, count = max(float(max(values)), 1e-12), len(values)
    bars = "".join(
        f'<rect x="{i + 0.06:.2f}" width=".88" y="{100 - 100 * value / top:.2f}" '
        f'height="{100 * value / top:.2f}" style="{colors[i] if colors else ""}">'
        f"<title>{title}</title></rect>"
        for i, (value, title) in enumerate(zip(values, titles))
    )
    return (
        f'<figure><svg viewBox="0 0 {count} 100" preserveAspectRatio="none" role="img" '
        f'aria-label="{caption}">{bars}</svg>'
        f"<figcaption><b>{caption}</b><span>{note}</span></figcaption></figure>"
    )


def plane(points_k2: np.ndarray, usage_k: np.ndarray, other_k: np.ndarray, cosine_k: np.ndarray):
    """The map: a circle for each prototype, which chooses it; a line to the most similar one."""
    places = 40 + 720 * points_k2
    radii = 5 + 30 * np.sqrt(usage_k / max(usage_k.max(), 1e-12))
    strength = np.clip(cosine_k, 0.08, 1)
    lines = "".join(
        f'<line x1="{a[0]:.1f}" y1="{a[1]:.1f}" x2="{b[0]:.1f}" y2="{b[1]:.1f}" '
        f'opacity="{opacity:.2f}"/>'
        for a, b, opacity in zip(places, places[other_k], strength)
    )
    circles = []
    for k in np.argsort(-usage_k, kind="stable"):  # small ones above large ones
        x, y = places[k]
        below = radii[k] + 9 if radii[k] < 12 else 0  # where the number stands
        words = f"prototype {k}: {usage_k[k]:.2%}; most similar {other_k[k]}, {cosine_k[k]:.2f}"
        if usage_k[k] == 0:
            circles.append(
                f'<circle class="idle" cx="{x:.1f}" cy="{y:.1f}" r="4"><title>{words}</title>'
                "</circle>"
            )
            continue
        circles.append(
            f'<a href="#images" data-k="{k}" aria-label="{words}"><circle cx="{x:.1f}" '
            f'cy="{y:.1f}" r="{radii[k]:.1f}" style="{color_of(k)}"><title>{words}</title>'
            f'</circle><text x="{x:.1f}" y="{y + below:.1f}">{k}</text></a>'
        )
    return (
        '<svg class="map" viewBox="0 0 800 800" role="group" aria-label="map of the prototypes">'
        f"{lines}{''.join(circles)}</svg>"
    )
