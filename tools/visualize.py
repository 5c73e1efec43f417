"""Show what the prototypes of a checkpoint represent, in images.

Writes into the folder --out:
  index.html             one page with everything in it: gallery, usage, map, and all images with
                         their groups, to filter by prototype, sort and enlarge. It needs no
                         network and no other file
  prototypes.png         the most used prototypes, or those of --prototypes, with their images
  prototypes/0017*.png   one prototype: the most similar images, and its attention in them
  groups/*.png           the groups painted over some images, evenly spaced among all
  map.png                the prototypes in a plane; similar ones are neighbors (t-SNE)
  histograms.png         usage of the prototypes, size of groups, groups in an image
  summary.json           the numbers: usage, images and most similar images of each prototype

A prototype has the same color in all of them, and in those of every other checkpoint.
"""

import argparse
import sys

from command_line import (
    add_level,
    add_loading,
    add_number,
    add_overwrite,
    natural,
    new_parser,
    positive,
    positive_real,
    run_api,
    share,
)

EXAMPLES = """
examples:
  500 random images:
    slotcon visualize work_dirs/slotcon_r50_coco/epoch_800.pth \\
        --images coco/val2017 --limit 500 --out prototypes
  two prototypes, with more of their images:
    slotcon visualize epoch_800.pth --images coco/val2017 --out prototypes \\
        --prototypes 3 17 --nearest 16
  a published checkpoint and a list of images, with four loader processes:
    slotcon visualize slotcon_coco_800ep.pth --images val.txt --out prototypes --workers 4
"""


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = new_parser(__doc__, EXAMPLES)
    path = dict(required=True, metavar="PATH")
    text = "a full one, ours or published; a work dir: its last one; or zoo:NAME"
    parser.add_argument("checkpoint", metavar="CHECKPOINT", help=text)
    parser.add_argument(
        "--images", nargs="+", **path, help="folders, globs, list files, archives or data sets"
    )
    parser.add_argument("--out", **path, help="folder of the results, a new or empty one")
    parts = ("teacher", "student")
    parser.add_argument("--part", choices=parts, default="teacher", help="default: teacher")
    add_level(parser, "0")
    parser.add_argument("--limit", type=positive, metavar="N", help="use at most N random images")
    text = "those of the gallery, from 0 (default: the most used)"
    parser.add_argument("--prototypes", type=natural, nargs="+", default=(), metavar="K", help=text)
    add_number(parser, "--most-used", positive, 12, "without --prototypes: their number")
    add_number(parser, "--nearest", positive, 8, "images of each prototype")
    text = "images with a smaller share of the group come last, 0-1"
    add_number(parser, "--least-share", share, 0.01, text)
    add_number(parser, "--overlays", natural, 24, "number of files in groups/")
    add_number(parser, "--size", positive, 320, "short side of the network's input, pixels")
    text = "images with a longer side are left out, pixels"
    add_number(parser, "--max-long-side", positive, 4096, text)
    add_number(parser, "--thumbnail", positive, 192, "short side of the page's images, pixels")
    add_number(parser, "--temperature", positive_real, 0.07, "of the attention")
    add_number(parser, "--seed", natural, 0, "of --limit and the map")
    text = "use a folder that is not empty; files of an earlier visualization are removed"
    add_overwrite(parser, text)
    add_loading(parser)
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(run_api("visualize", parse_args(), stopped="stopped; no unfinished file is left"))
