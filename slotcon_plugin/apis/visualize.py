"""Images of what the prototypes of a checkpoint represent."""

from collections.abc import Sequence
from math import inf
from pathlib import Path

from ..checkpoints.named_networks import last_of_work_dir
from ..datasets.sources import list_images
from ..evaluation.batches import LoaderOptions, choose_device
from ..evaluation.networks import open_groups
from ..runtime.config_rules import FRACTION, POSITIVE, check_value, whole
from ..runtime.launch import announce
from ..runtime.regular_files import printable
from ..runtime.work_dir import check_writable
from ..visualization.album import PAGE, AlbumOptions, choose_images, draw_album
from ..visualization.page import LONGEST_WEBP


def visualize(
    checkpoint: str | Path,
    images: str | Path | Sequence[str | Path],
    out: str | Path,
    part: str = "teacher",
    level: str | int | None = None,
    limit: int | None = None,
    prototypes: Sequence[int] = (),
    workers: int = 0,
    device: str | None = None,
    quiet: bool = False,
    overwrite: bool = False,
    **options,
) -> Path:
    """Write a page, figures and a summary of what prototypes select in images, and print a summary.

    docs/evaluation.md describes them. Returns the path of the page.

    Args:
        checkpoint: a full checkpoint, ours or a published one; a work dir, of which the last good
            checkpoint is read; or "zoo:NAME".
        images: folders, globs, list files or other sources of docs/images.md.
        out: the folder of the results.
        part: "teacher" or "student".
        level: of a pretraining with a decoder, "encoder" or the number of a decoder's level; None:
            0, the finest.
        limit: use at most so many random images.
        prototypes: those of the gallery; none: the most used ones.
        workers: loader processes, at most one for each core.
        device: where the network runs; None: a GPU if there is one.
        quiet: no progress bars.
        overwrite: use a folder that is not empty: files of an earlier visualization in it are
            removed. Otherwise this is an error.
        options: the other fields of `AlbumOptions`, which has the defaults; its `seed` is also that
            of `limit`.
    """
    options = AlbumOptions(tuple(prototypes), **options)
    for name, most in (("most_used", inf), ("nearest", inf), ("thumbnail", LONGEST_WEBP)):
        check_value(f"--{name.replace('_', '-')}", getattr(options, name), whole(1, most))
    check_value("--size", options.size, whole(32))  # a smaller image has no cell at stride 32
    longest = options.size * LONGEST_WEBP // options.thumbnail  # its thumbnail is a WebP image
    check_value("--max-long-side", options.max_long_side, whole(options.size, longest))
    check_value("--least-share", options.least_share, FRACTION)
    check_value("--temperature", options.temperature, POSITIVE)
    check_writable(out, "--out", folder=True, overwrite=overwrite)
    device = choose_device(device)
    loader = LoaderOptions(device, workers=workers, progress=not quiet)
    checkpoint = last_of_work_dir(checkpoint, announce)
    network = open_groups(checkpoint, part, level).to(device)
    paths = choose_images(list_images(images), limit, options.seed)
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
