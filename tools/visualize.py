"""See what the prototypes of a checkpoint gather in images.

Writes into the folder --out:
  index.html             one page with everything in it: gallery, usage, map, and every image with
                         its groups; to filter by prototype, sort, and look at closely. It needs no
                         network and no other file: send it, keep it beside the checkpoint
  prototypes.png         the most used prototypes, or those of --prototypes, with their images
  prototypes/0017*.png   one prototype: its nearest images, and its attention in them
  groups/*.png           the groups painted over some images, evenly from all
  map.png                the prototypes in a plane; similar ones are neighbors (t-SNE)
  histograms.png         usage of the prototypes, size of groups, groups in an image
  summary.json           the numbers: usage, images and nearest images of each prototype

A prototype has the same color in all of them, and in those of every other checkpoint.
"""

import argparse
import sys
from pathlib import Path

from argument_types import natural, positive, positive_real, share

EXAMPLES = """
examples:
  a first look, at 500 images by chance:
    python tools/visualize.py work_dirs/slotcon_r50_coco/epoch_800.pth \\
        --images coco/val2017 --limit 500 --out look
  two prototypes, with more of their images:
    python tools/visualize.py epoch_800.pth --images coco/val2017 --out look \\
        --prototypes 3 17 --nearest 16
  a published checkpoint, a list of images, on a GPU that four processes read for:
    python tools/visualize.py slotcon_coco_800ep.pth --images val.txt --out look --workers 4
"""


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("checkpoint", metavar="CHECKPOINT", help="a full one, ours or published")
    parser.add_argument(
        "--images", required=True, nargs="+", metavar="PATH", help="folders, globs or list files"
    )
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="is made")
    parser.add_argument("--part", choices=("teacher", "student"), default="teacher")
    number = dict(type=positive, metavar="N")
    parser.add_argument("--limit", **number, help="at most so many images, chosen by chance")

    shown = parser.add_argument_group("what is shown")
    shown.add_argument(
        "--prototypes",
        type=natural,
        nargs="+",
        default=(),
        metavar="K",
        help="of the gallery, from 0",
    )
    shown.add_argument(
        "--most-used", **number, default=12, help="without --prototypes: how many (%(default)s)"
    )
    shown.add_argument("--nearest", **number, default=8, help="images of each (%(default)s)")
    shown.add_argument(
        "--least-share",
        type=share,
        default=0.01,
        metavar="S",
        help="images of which the group has less come last, 0-1 (%(default)s)",
    )
    shown.add_argument(
        "--overlays", type=natural, default=24, metavar="N", help="files in groups/ (%(default)s)"
    )
    shown.add_argument(
        "--size", **number, default=320, help="short side that the network sees (%(default)s)"
    )
    shown.add_argument(
        "--thumbnail",
        **number,
        default=192,
        help="short side of images in the page, which decides its size (%(default)s)",
    )
    shown.add_argument(
        "--temperature",
        type=positive_real,
        default=0.07,
        help="of the attention maps (%(default)s)",
    )
    number = dict(type=natural, default=0)
    parser.add_argument("--seed", **number, help="of --limit and the map (%(default)s)")
    parser.add_argument("--workers", **number, help="processes that read (%(default)s)")
    parser.add_argument("--device", help="default: a GPU where there is one")
    parser.add_argument("--quiet", action="store_true", help="no progress bars")
    return parser.parse_args(argv)


def visualize(args: argparse.Namespace) -> None:
    """Open the network, find the images, draw, and say what there is to see."""
    from slotcon_plugin.datasets.sources import list_images
    from slotcon_plugin.evaluation.batches import LoaderOptions, choose_device
    from slotcon_plugin.evaluation.networks import open_groups
    from slotcon_plugin.visualization.album import PAGE, Wishes, choose_images, draw_album

    device = choose_device(args.device)
    reading = LoaderOptions(device, workers=args.workers, progress=not args.quiet)
    groups = open_groups(args.checkpoint, args.part).to(device)
    paths = choose_images(list_images(args.images), args.limit, args.seed)
    options = vars(args) | dict(prototypes=tuple(args.prototypes))
    wishes = Wishes(**{name: options[name] for name in Wishes._fields})
    survey, unreadable = draw_album(groups, paths, args.out, wishes, reading)

    used = survey.most_used(len(survey.usage_k))
    print(f"network:   {groups.origin}")
    print(f"images:  {survey.images}")
    if unreadable:
        print(f"left out:  {len(unreadable)} that cannot be read; first: {unreadable[0]}")
    print(f"used:      {len(used)} of {len(survey.usage_k)} prototypes; most: {used[:8]}")
    idle = [k for k in args.prototypes if k not in used]
    if idle:
        print(f"no pixel:  prototypes {idle} have none in these images")
    size = (args.out / PAGE).stat().st_size / 2**20
    print(f"look at:   {args.out / PAGE} ({size:.1f} MiB)")


def main(argv: list[str] | None = None) -> int:
    """Run; turn the user's errors into one message. Returns the exit status."""
    args = parse_args(argv)
    from slotcon_plugin.errors import SlotConError

    try:
        visualize(args)
    except SlotConError as error:
        print(f"\nerror: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nstopped; nothing half-written is left", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # works without installation too
    sys.exit(main())
