"""All that tools/visualize.py draws of one checkpoint: figures, overlays and one page."""

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
from ..evaluation.labeled_images import printable
from ..evaluation.networks import PixelGroups
from ..runtime.atomic_files import write_atomically
from . import figures
from .embedding import closest, positions
from .page import PageWriter
from .painting import heat, mark, overlay
from .survey import (
    Survey,
    WholeImages,
    attention,
    find_groups,
    scaled,
    score_image,
    score_images,
)

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
    most_used: int = 12
    nearest: int = 8  # images of each prototype
    least_share: float = 0.01  # of an image, see `Survey`
    overlays: int = 24  # images whose groups are written as PNG files
    size: int = 320  # short side of the network's input and of the PNG files
    max_long_side: int = 4096  # see `WholeImages`
    thumbnail: int = 192  # short side of the images in the page
    temperature: float = 0.07  # of the attention: the paper's τ_t
    seed: int = 0  # of the map


class GalleryImage(NamedTuple):
    """One of the most similar images of a prototype. Pixels are uint8 (h, w, 3)."""

    name: str
    similarity: float
    photograph: np.ndarray
    marked: np.ndarray  # the group as it is, the rest dark
    heated: np.ndarray  # attention as heat


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

    Args:
        network: the network, on the loader's device.
        paths: the images.
        out: the folder; it is made if it is missing.
        options: what to draw.
        loader: how images are loaded.

    Returns:
        The counts, and the reason for each image that was left out.

    Raises:
        ConfigError: a prototype that the network does not have, or a folder that cannot be made or
            that has images where the album's files belong.
        DataError: no image can be used.
    """
    count = len(network.prototypes_kd)
    if beyond := [k for k in options.prototypes if not 0 <= k < count]:
        raise ConfigError(
            f"--prototypes {' '.join(map(str, beyond))}: the checkpoint has the prototypes 0 to "
            f"{count - 1}."
        )
    _prepare(out, paths)
    names, left_out = _names(paths), []
    survey = Survey(count, options.nearest, options.least_share)
    images = WholeImages(paths, options.size, options.max_long_side)
    overlaid = set(np.linspace(0, len(paths) - 1, min(options.overlays, len(paths)), dtype=int))
    with PageWriter(out / PAGE, count) as page:
        for image in score_images(images, network, loader, left_out):
            small = _thumbnail(image.pixels, options.thumbnail)
            groups = find_groups(image.scores_khw, *small.shape[:2])
            survey.add(image.index, groups)
            page.add(names[image.index], small, groups)
            if image.index in overlaid:
                large = find_groups(image.scores_khw, *image.pixels.shape[:2])
                painted = Image.fromarray(overlay(image.pixels, large.assignment))
                stem = Path(names[image.index]).stem.encode()[:LONGEST_STEM].decode(errors="ignore")
                _save(painted, out / "groups" / f"{image.index:05}_{stem}.png")
        gallery = _draw_gallery(network, images, names, survey, out, options, loader, left_out)
        prototypes_kd = network.prototypes_kd.cpu().numpy()
        points_k2, method = positions(prototypes_kd, options.seed)
        other_k, cosine_k = closest(prototypes_kd)
        _save(figures.draw_map(points_k2, survey.usage, other_k, method), out / "map.png")
        _save(figures.draw_histograms(survey), out / "histograms.png")
        page.finish(
            survey,
            title="What the prototypes represent",
            origin=network.origin,
            options=options,
            gallery=gallery,
            method=method,
            points=(40 + 720 * points_k2.astype(float)).round(1).tolist(),
            other=other_k,
            cosine=cosine_k,
        )
    _write_summary(out / "summary.json", network, survey, names, options)
    return survey, left_out


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
                f"--out {out} has images that are to be drawn where its own files belong (first: "
                f"{min(drawn)}): give another folder."
            )
        for file in old:
            file.unlink()
    except OSError as error:
        raise ConfigError(f"--out {out} cannot be made: {error.strerror}.") from error


def _draw_gallery(
    network: PixelGroups,
    images: WholeImages,
    names: list[str],
    survey: Survey,
    out: Path,
    options: AlbumOptions,
    loader: LoaderOptions,
    left_out: list[str],
) -> list[dict]:
    """Draw figures of the chosen prototypes; returns the rows of the page's gallery.

    The most similar images are read again, so that not those of all prototypes are kept.
    """
    chosen = options.prototypes or survey.most_used(options.most_used)
    rows, shown = [], {}
    with loader.progress_bar(len(chosen), "gallery", "prototype") as bar:
        for k in chosen:
            row = []
            for index, similarity in survey.nearest_to(k):
                image = images[index]
                if isinstance(image, str):  # it was removed or changed after the first pass
                    left_out.append(image)
                    continue
                _, pixels, scores_khw = score_image(index, image, network, loader)
                shape = pixels.shape[:2]
                marked = mark(pixels, find_groups(scores_khw, *shape).assignment, k)
                heated = heat(pixels, attention(scores_khw, k, shape, options.temperature))
                row.append(GalleryImage(names[index], similarity, pixels, marked, heated))
            small = [[_thumbnail(p, options.thumbnail) for p in image[2:]] for image in row]
            small = [GalleryImage(*image[:2], *pixels) for image, pixels in zip(row, small)]
            rows.append(dict(prototype=k, images=small))
            if row:
                _, _, photographs, marked, heated = map(list, zip(*row))
                stem = out / "prototypes" / f"{k:04}"
                _save(figures.draw_gallery({k: marked}, survey.usage), f"{stem}.png")
                figure = figures.draw_attention(k, photographs, heated, options.temperature)
                _save(figure, f"{stem}_attention.png")
                if len(shown) < MOST_ROWS:
                    shown[k] = marked
            bar.update(1)
    if shown:
        _save(figures.draw_gallery(shown, survey.usage), out / "prototypes.png")
    return rows


def _thumbnail(pixels: np.ndarray, short_side: int) -> np.ndarray:
    return np.asarray(scaled(Image.fromarray(pixels), short_side))


def _write_summary(
    path: Path, network: PixelGroups, survey: Survey, names: list[str], options: AlbumOptions
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
        for k in range(len(survey.usage))
    ]
    head = dict(network=network.origin, images=survey.images, options=options._asdict())
    write_json(path, head | dict(prototypes=prototypes))


def _names(paths: list[str]) -> list[str]:
    """The text that is shown for each image: its path in the folder that all have in common."""
    paths = [os.path.abspath(path) for path in paths]
    folder = os.path.commonpath([os.path.dirname(path) for path in paths])
    return [printable(os.path.relpath(path, folder)) for path in paths]


def _save(image: Figure | Image.Image, path: str | Path) -> None:
    file = io.BytesIO()
    if isinstance(image, Figure):
        image.savefig(file, dpi=110)
    else:
        image.save(file, "PNG")
    write_atomically(file.getvalue(), path)
