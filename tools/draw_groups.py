"""Draw the prototype of each pixel of some photographs, before and after pretraining."""

import argparse
import sys

from command_line import (
    add_cfg_options,
    add_level,
    add_number,
    add_overwrite,
    new_parser,
    positive,
    run_api,
)

EXAMPLES = """
example:
  slotcon draw_groups slotcon_r50_coco epoch_800.pth --out groups.png

Without --images the first images of the config's training set are drawn.
"""


def parse_args() -> argparse.Namespace:
    """The command line."""
    parser = new_parser(__doc__, EXAMPLES)
    parser.add_argument("config", help="the pretraining's config")
    parser.add_argument("checkpoint", help="of that pretraining, its work dir, or zoo:NAME")
    parser.add_argument("--out", required=True, metavar="FILE", help="the figure, .png")
    parser.add_argument(
        "--images",
        metavar="PATH",
        help="a folder, a glob, a list file, an archive or a data set (default: the config's)",
    )
    add_level(parser, "0")
    add_number(parser, "--count", positive, 6, "number of photographs")
    text = "draw no images with a longer side at a short side of 256 pixels"
    add_number(parser, "--max-long-side", positive, 4096, text)
    add_overwrite(parser)
    add_cfg_options(parser)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(run_api("draw_groups", parse_args()))
