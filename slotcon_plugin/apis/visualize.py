"""Images of what the prototypes of a checkpoint represent."""

from collections.abc import Sequence
from pathlib import Path

from ..datasets.sources import list_images
from ..evaluation.batches import LoaderOptions, choose_device
from ..evaluation.labeled_images import printable
from ..evaluation.networks import open_groups
from ..runtime.config_options import FRACTION, POSITIVE, check_value, whole
from ..visualization.album import PAGE, AlbumOptions, choose_images, draw_album


def visualize(
    checkpoint: str | Path,
    images: str | Path | Sequence[str | Path],
    out: str | Path,
    part: str = "teacher",
    limit: int | None = None,
    prototypes: Sequence[int] = (),
    most_used: int = 12,
    nearest: int = 8,
    least_share: float = 0.01,
    overlays: int = 24,
    size: int = 320,
    max_long_side: int = 4096,
    thumbnail: int = 192,
    temperature: float = 0.07,
    seed: int = 0,
    workers: int = 0,
    device: str | None = None,
    quiet: bool = False,
) -> Path:
    """Write a page, figures and a summary of what prototypes select in images, and print a summary.

    docs/evaluation.md describes them.

    Args:
        checkpoint: a full checkpoint, ours or a published one.
        images: folders, globs or list files.
        out: the folder of the results; files of an earlier visualization in it are removed.
        part: "teacher" or "student".
        limit: use at most so many random images.
        prototypes: those of the gallery; none: the most used ones.
        most_used: without `prototypes`, their number.
        nearest: images of each prototype in the gallery.
        least_share: images in which the group has a smaller share come last in the gallery, 0-1.
        overlays: the number of images whose groups are written as PNG files.
        size: short side of the network's input in pixels.
        max_long_side: images that would then have a longer side are left out, which bounds the
            memory.
        thumbnail: short side of the page's images in pixels.
        temperature: of the attention.
        seed: of `limit` and of the map.
        workers: loader processes.
        device: where the network runs; None: a GPU if there is one.
        quiet: no progress bars.

    Returns:
        The page.

    Raises:
        SlotConError: an option, the checkpoint, the folder or the images cannot be used.
    """
    numbers = dict(most_used=most_used, nearest=nearest, thumbnail=thumbnail)
    for name, value in numbers.items():
        check_value(f"--{name.replace('_', '-')}", value, whole(1))
    check_value("--size", size, whole(32))  # a smaller image has no cell at stride 32
    check_value("--max-long-side", max_long_side, whole(size))
    check_value("--least-share", least_share, FRACTION)
    check_value("--temperature", temperature, POSITIVE)
    device = choose_device(device)
    loader = LoaderOptions(device, workers=workers, progress=not quiet)
    network = open_groups(checkpoint, part).to(device)
    paths = choose_images(list_images(images), limit, seed)
    options = AlbumOptions(
        prototypes=tuple(prototypes),
        most_used=most_used,
        nearest=nearest,
        least_share=least_share,
        overlays=overlays,
        size=size,
        max_long_side=max_long_side,
        thumbnail=thumbnail,
        temperature=temperature,
        seed=seed,
    )
    survey, left_out = draw_album(network, paths, Path(out), options, loader)
    page = Path(out) / PAGE
    used = survey.most_used()
    lines = [f"network:  {network.origin}", f"images:   {survey.images}"]
    if left_out:
        lines.append(f"left out: {len(left_out)}; first: {left_out[0]}")
    lines.append(f"used:     {len(used)} of {len(survey.usage)} prototypes; most: {used[:8]}")
    if unused := [k for k in prototypes if k not in used]:
        lines.append(f"unused:   prototypes {unused} have no pixel in these images")
    lines.append(f"page:     {page} ({page.stat().st_size / 2**20:.1f} MiB)")
    print(printable("\n".join(lines)))
    return page
