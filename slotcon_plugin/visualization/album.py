"""All that slotcon visualize draws of one checkpoint: figures, overlays and one page."""

import os
import random
import re
from functools import partial
from pathlib import Path
from tempfile import TemporaryFile
from typing import NamedTuple

import numpy as np
from PIL import Image

from ..errors import ConfigError
from ..evaluation.batches import LoaderOptions
from ..evaluation.evaluation_report import write_json
from ..evaluation.networks import PixelGroups
from ..runtime.regular_files import printable
from . import figures
from .embedding import closest, positions
from .figures import save_png
from .page import write_card, write_page
from .painting import heat, mark, overlay
from .survey import ScoredImages, Survey, attention, find_groups, read_whole, scaled

PAGE = "index.html"
MOST_ROWS = 12  # of prototypes.png
LONGEST_STEM = 150  # bytes of an image's name in the name of its overlay
# What is written, by the path in the folder.
OWN_FILES = re.compile(
    r"index\.html|summary\.json|(prototypes|map|histograms)\.png"
    r"|prototypes/\d{4,}(_attention)?\.png|groups/\d{5,}_.*\.png",
    re.DOTALL,
)


class AlbumOptions(NamedTuple):
    """What is drawn, and its size."""

    prototypes: tuple[int, ...] = ()  # in the gallery; empty: the most used ones
    most_used: int = 12  # their number
    nearest: int = 8  # images of each prototype in the gallery
    least_share: float = 0.01  # images with a smaller share of the group come last in it, 0-1
    overlays: int = 24  # images whose groups are written as PNG files
    size: int = 320  # short side of the network's input and of the PNG files, pixels
    max_long_side: int = 4096  # images that would then have a longer side are left out
    thumbnail: int = 192  # short side of the images in the page, pixels
    temperature: float = 0.07  # of the attention: the paper's τ_t
    seed: int = 0  # of the map


def choose_images(paths: list[str], limit: int | None, seed: int = 0) -> list[str]:
    """All paths, or `limit` random ones in their order."""
    if limit is None or limit >= len(paths):
        return paths
    return [paths[i] for i in sorted(random.Random(seed).sample(range(len(paths)), limit))]


def draw_album(
    network: PixelGroups, paths: list[str], out: Path, options: AlbumOptions, loader: LoaderOptions
) -> tuple[Survey, list[str]]:
    """Score every image once, and write the page, the figures and the summary into a folder.

    Files of an earlier album in the folder are removed first, and no others. Memory contains one
    image at a time, counts for each prototype, and the images of the gallery's page.

    Returns the counts, and the reason for each image that was left out.
    """
    count = len(network.prototypes_kd)
    if beyond := [k for k in options.prototypes if not 0 <= k < count]:
        raise ConfigError(
            f"--prototypes {' '.join(map(str, beyond))}: the checkpoint has 0 to {count - 1}."
        )
    _prepare(out, paths)
    names = _names(paths)
    survey = Survey(count, options.nearest, options.least_share)
    read = partial(read_whole, size=options.size, max_long_side=options.max_long_side)
    scored = ScoredImages(paths, read, network, loader)
    overlaid = set(np.linspace(0, len(paths) - 1, min(options.overlays, len(paths)), dtype=int))
    with TemporaryFile("w+", encoding="utf-8", dir=out) as cards:
        for index, pixels, scores_khw in scored:
            small = _thumbnail(pixels, options)
            groups = find_groups(scores_khw, *small.shape[:2])
            survey.add(index, groups)
            write_card(cards, names[index], small, groups)
            if index in overlaid:
                painted = overlay(pixels, find_groups(scores_khw, *pixels.shape[:2]).assignment)
                stem = Path(names[index]).stem.encode()[:LONGEST_STEM].decode(errors="ignore")
                save_png(Image.fromarray(painted), out / "groups" / f"{index:05}_{stem}.png")
        gallery = _draw_gallery(scored, names, survey, out, options)
        prototypes_kd = network.prototypes_kd.cpu().numpy()
        points_k2, method = positions(prototypes_kd, options.seed)
        other_k, cosine_k = closest(prototypes_kd)
        save_png(figures.draw_map(points_k2, survey.usage, other_k, method), out / "map.png")
        save_png(figures.draw_histograms(survey), out / "histograms.png")
        cards.seek(0)
        plane = dict(points=points_k2, method=method, other=other_k, cosine=cosine_k)
        shown = dict(origin=network.origin, options=options, gallery=gallery)
        write_page(out / PAGE, cards, survey, **shown, **plane)
    head = dict(network=network.origin, images=survey.images, options=options._asdict())
    write_json(out / "summary.json", head | dict(prototypes=_summary(survey, names)))
    return survey, scored.left_out


def _prepare(out: Path, paths: list[str]) -> None:
    """Make the folder, without the files of an earlier album, which may be another network's."""
    folders = (out, out / "groups", out / "prototypes")
    try:
        for folder in folders:
            folder.mkdir(parents=True, exist_ok=True)
        files = [file for folder in folders for file in folder.iterdir()]
        old = [f for f in files if OWN_FILES.fullmatch(f.relative_to(out).as_posix())]
        if drawn := set(map(os.path.realpath, paths)) & set(map(os.path.realpath, old)):
            raise ConfigError(
                f"--out {out} has images that are to be drawn where its own files belong (first: "
                f"{min(drawn)}): give another folder."
            )
        for file in old:
            file.unlink()
    except OSError as error:
        raise ConfigError(f"--out {out} cannot be made: {error.strerror}.") from error


def _draw_gallery(
    scored: ScoredImages, names: list[str], survey: Survey, out: Path, options: AlbumOptions
) -> list[dict]:
    """Draw figures of the chosen prototypes; returns the rows of the page's gallery.

    The most similar images are read again, so that not those of all prototypes are kept.
    """
    chosen = options.prototypes or survey.most_used(options.most_used)
    rows, first_rows = [], {}
    with scored.loader.progress_bar(len(chosen), "gallery", "prototype") as bar:
        for k in chosen:
            entries, drawn = [], []
            for index, similarity in survey.nearest_to(k):
                if (found := scored.again(index)) is None:
                    continue
                pixels, scores_khw = found
                shape = pixels.shape[:2]
                marked = mark(pixels, find_groups(scores_khw, *shape).assignment, k)
                drawn.append((pixels, marked, attention(scores_khw, k, shape, options.temperature)))
                entries.append(dict(name=names[index], similarity=similarity))
            # Of hundreds of prototypes each has a small share: its largest one is light.
            highest = max((float(share_hw.max()) for *_, share_hw in drawn), default=1.0) or 1.0
            drawn = [(pixels, m, heat(pixels, hw / highest)) for pixels, m, hw in drawn]
            for entry, (_, marked, heated) in zip(entries, drawn, strict=True):
                entry |= dict(
                    marked=_thumbnail(marked, options), heated=_thumbnail(heated, options)
                )
            rows.append(dict(prototype=k, images=entries, highest=highest))
            if drawn:
                photographs, marked, heated = zip(*drawn)
                stem = out / "prototypes" / f"{k:04}"
                save_png(figures.draw_gallery({k: marked}, survey.usage), f"{stem}.png")
                figure = figures.draw_attention(
                    k, photographs, heated, options.temperature, highest
                )
                save_png(figure, f"{stem}_attention.png")
                if len(first_rows) < MOST_ROWS:
                    first_rows[k] = marked
            bar.update(1)
    if first_rows:
        save_png(figures.draw_gallery(first_rows, survey.usage), out / "prototypes.png")
    return rows


def _thumbnail(pixels: np.ndarray, options: AlbumOptions) -> np.ndarray:
    return np.asarray(scaled(Image.fromarray(pixels), options.thumbnail))


def _summary(survey: Survey, names: list[str]) -> list[dict]:
    """The numbers behind the images, for each prototype."""
    return [
        dict(
            prototype=k,
            usage=round(float(survey.usage[k]), 6),
            images=int(survey.images_k[k]),
            nearest=[
                dict(image=names[i], cosine=round(cosine, 4)) for i, cosine in survey.nearest_to(k)
            ],
        )
        for k in range(len(survey.usage))
    ]


def _names(paths: list[str]) -> list[str]:
    """The text that is shown for each image: its path in the folder that all have in common."""
    paths = [os.path.abspath(path) for path in paths]
    folder = os.path.commonpath([os.path.dirname(path) for path in paths])
    return [printable(os.path.relpath(path, folder)) for path in paths]
