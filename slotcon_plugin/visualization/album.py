"""Everything that tools/visualize.py draws: figures, overlays and one page, of one checkpoint."""

import io
import os
import random
import re
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from ..errors import ConfigError
from ..evaluation.batches import LoaderOptions
from ..evaluation.evaluation_report import write_json
from ..evaluation.networks import PixelGroups
from ..runtime.atomic_files import write_atomically
from . import figures, page_parts
from .embedding import closest, positions
from .gallery import read_row
from .page import PageWriter
from .painting import overlay
from .survey import Survey, WholeImages, group, look_at, scaled

PAGE = "index.html"
MOST_ROWS = 12  # of prototypes.png
# What is written, by the path in the folder.
OWN_FILES = re.compile(
    r"index\.html|summary\.json|(prototypes|map|histograms)\.png"
    r"|prototypes/\d{4,}(_attention)?\.png|groups/\d{5,}_.*\.png"
)


class Wishes(NamedTuple):
    """What is to be drawn, and how large."""

    prototypes: tuple[int, ...] = ()  # of the gallery; empty: the most used
    most_used: int = 12
    nearest: int = 8  # images a prototype
    least_share: float = 0.01  # of an image, see `Survey`
    overlays: int = 24  # images whose groups are written as PNG files
    size: int = 320  # short side of what the network sees, and of the PNG files
    thumbnail: int = 192  # short side of the images in the page
    temperature: float = 0.07  # of the attention: the paper's τ_t
    seed: int = 0  # of the map


def choose_images(paths: list[str], limit: int | None, seed: int = 0) -> list[str]:
    """All of them, or `limit` by chance, in their order."""
    if limit is None or limit >= len(paths):
        return paths
    return [paths[i] for i in sorted(random.Random(seed).sample(range(len(paths)), limit))]


def draw_album(
    groups: PixelGroups, paths: list[str], out: Path, wishes: Wishes, reading: LoaderOptions
) -> tuple[Survey, list[str]]:
    """Look at every image once, and write the page, the figures and the summary into a folder.

    What an earlier album left there is removed first, and nothing else. Memory holds one image at
    a time, counts for each prototype, and a row of the gallery.

    Args:
        groups: the network, on the reading's device.
        paths: the images.
        out: the folder; it is made if it is missing.
        wishes: what to draw.
        reading: who reads, and where the network is.

    Returns:
        The counts, and for each image that could not be read the reason.

    Raises:
        ConfigError: a prototype that the network does not have, or a folder that cannot be made or
            has images where the album's files go.
        DataError: no image can be read.
    """
    count = len(groups.prototypes_kd)
    beyond = [k for k in wishes.prototypes if not 0 <= k < count]
    if beyond:
        raise ConfigError(
            f"--prototypes {' '.join(map(str, beyond))}: the checkpoint has the prototypes 0 to "
            f"{count - 1}."
        )
    _prepare(out, paths)
    names, unreadable = _names(paths), []
    survey = Survey(count, wishes.nearest, wishes.least_share)
    overlaid = set(np.linspace(0, len(paths) - 1, min(wishes.overlays, len(paths)), dtype=int))
    with PageWriter(out / PAGE, count) as page:
        for seen in look_at(paths, groups, wishes.size, reading, unreadable):
            small = np.asarray(scaled(Image.fromarray(seen.pixels), wishes.thumbnail))
            found = group(seen.scores_khw, *small.shape[:2])
            survey.add(seen.index, found)
            page.add(names[seen.index], small, found)
            if seen.index in overlaid:
                large = group(seen.scores_khw, *seen.pixels.shape[:2])
                painted = Image.fromarray(overlay(seen.pixels, large.assignment))
                name = f"{seen.index:05}_{Path(paths[seen.index]).stem}.png"
                _save(painted, out / "groups" / name)
        gallery = _draw_gallery(groups, paths, names, survey, out, wishes, reading)
        plane = _draw_plane(groups, survey, out, wishes)
        _save(figures.draw_histograms(survey), out / "histograms.png")
        page.finish(gallery | plane | _other_parts(groups, survey, wishes))
    _write_summary(out / "summary.json", groups, survey, names, wishes)
    return survey, unreadable


def _prepare(out: Path, paths: list[str]) -> None:
    """Make the folder, without the files of an earlier album, which may be another network's."""
    try:
        for folder in ("groups", "prototypes"):
            (out / folder).mkdir(parents=True, exist_ok=True)
        old = [
            file
            for file in (*out.iterdir(), *out.glob("groups/*"), *out.glob("prototypes/*"))
            if OWN_FILES.fullmatch(file.relative_to(out).as_posix())
        ]
        drawn = {os.path.realpath(path) for path in paths} & {os.path.realpath(f) for f in old}
        if drawn:
            raise ConfigError(
                f"--out {out} has images that are to be looked at where its own files go (first: "
                f"{min(drawn)}): choose another folder."
            )
        for file in old:
            file.unlink()
    except OSError as error:
        raise ConfigError(f"--out {out} cannot be made: {error.strerror}.") from error


def _draw_gallery(
    groups: PixelGroups,
    paths: list[str],
    names: list[str],
    survey: Survey,
    out: Path,
    wishes: Wishes,
    reading: LoaderOptions,
) -> dict[str, str]:
    """Figures of the chosen prototypes, and their part of the page."""
    chosen = wishes.prototypes or survey.most_used(wishes.most_used)
    images = WholeImages(paths, wishes.size)
    parts, shown = [], {}
    with reading.progress_bar(len(chosen), "gallery", "prototype") as bar:
        for k in chosen:
            nearest = survey.nearest_to(k)
            row = read_row(k, nearest, images, names, groups, reading, wishes.temperature)
            parts.append(page_parts.gallery_row(k, survey, row.small(wishes.thumbnail)))
            if row.names:
                stem = out / "prototypes" / f"{k:04}"
                _save(figures.draw_gallery({k: row.marked}, survey.usage), f"{stem}.png")
                heated = figures.draw_attention(k, row, wishes.temperature)
                _save(heated, f"{stem}_attention.png")
                if len(shown) < MOST_ROWS:
                    shown[k] = row.marked
            bar.update(1)
    if shown:
        _save(figures.draw_gallery(shown, survey.usage), out / "prototypes.png")
    return dict(gallery="".join(parts))


def _draw_plane(groups: PixelGroups, survey: Survey, out: Path, wishes: Wishes) -> dict[str, str]:
    """The map, as a figure and as its part of the page."""
    prototypes_kd = groups.prototypes_kd.cpu().numpy()
    points_k2, method = positions(prototypes_kd, wishes.seed)
    other_k, cosine_k = closest(prototypes_kd)
    _save(figures.draw_map(points_k2, survey.usage, other_k, method), out / "map.png")
    drawn = page_parts.plane(points_k2, survey.usage, other_k, cosine_k)
    return dict(map=drawn, method=method)


def _other_parts(groups: PixelGroups, survey: Survey, wishes: Wishes) -> dict[str, str]:
    return dict(
        title="What the prototypes see",
        facts=page_parts.facts(groups.origin, survey, wishes.size),
        temperature=f"{wishes.temperature:g}",
        count=str(len(survey.usage_k)),
        charts=page_parts.charts(survey),
        chips=page_parts.chips(survey),
        unused=page_parts.unused(survey),
        options=page_parts.options(survey),
    )


def _write_summary(
    path: Path, groups: PixelGroups, survey: Survey, names: list[str], wishes: Wishes
) -> None:
    """The numbers behind the images."""
    prototypes = [
        dict(
            prototype=k,
            usage=round(float(survey.usage[k]), 6),
            images=int(survey.images_k[k]),
            nearest=[
                dict(image=names[index], cosine=round(similarity, 4))
                for index, similarity in survey.nearest_to(k)
            ],
        )
        for k in range(len(survey.usage_k))
    ]
    head = dict(network=groups.origin, images=survey.images, options=wishes._asdict())
    write_json(path, head | dict(prototypes=prototypes))


def _names(paths: list[str]) -> list[str]:
    """What is shown for each image: its path from the folder that all have in common."""
    paths = [os.path.abspath(path) for path in paths]
    folder = os.path.commonpath([os.path.dirname(path) for path in paths])
    return [os.path.relpath(path, folder) for path in paths]


def _save(image: Figure | Image.Image, path: str | Path) -> None:
    file = io.BytesIO()
    if isinstance(image, Figure):
        image.savefig(file, dpi=110)
    else:
        image.save(file, "PNG")
    write_atomically(file.getvalue(), path)
