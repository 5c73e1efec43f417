"""SlotCon in a few minutes: pretrain a small ResNet on photographs and draw its groups.

Without --data it trains on eight photographs that scikit-image and scikit-learn contain. It writes
groups.png (photographs, their groups before and after training, the use of each prototype),
losses.png, logs and a checkpoint into the work dir.
"""

import argparse
import sys

from command_line import add_number, natural, new_parser, positive, run_api


def parse_args() -> argparse.Namespace:
    """The command line."""
    parser = new_parser(__doc__)
    text = "a folder of images, searched to any depth; or another source of docs/images.md"
    parser.add_argument("--data", metavar="PATH", help=text)
    text = "folder of the results (%(default)s)"
    parser.add_argument("--work-dir", default="work_dirs/demo", help=text)
    add_number(parser, "--steps", positive, 200, "training steps of 16 images")
    add_number(parser, "--seed", natural, 0, "of weights, order, views and the choice of images")
    text = "draw no images with a longer side at a short side of 256 pixels"
    add_number(parser, "--max-long-side", positive, 4096, text)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(run_api("demo", parse_args()))
