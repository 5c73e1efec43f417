"""Write a vector for each image: the mean of a frozen encoder's map.

For search, clustering, or a classifier of one's own. Images that cannot be read are left out and
counted. No labels are read and nothing is trained.
"""

import argparse
import sys

from command_line import (
    add_level,
    add_loading,
    add_number,
    add_overwrite,
    new_parser,
    positive,
    run_api,
)

EXAMPLES = """
networks:
  work_dirs/slotcon_r18_small    a work dir: its last good checkpoint
  epoch_800.pth                  a checkpoint of ours or a published one: the teacher's encoder
  resnet50.pth, .pkl, …          an exported encoder, or torchvision's weights
  zoo:NAME                       a trained network of the package, see slotcon list
  random:resnet50, supervised:resnet50   random or torchvision's ImageNet weights

examples:
  vectors and paths in one file, read with numpy.load("vectors.npz"):
    slotcon embed epoch_800.pth --data coco/val2017 --out vectors.npz
  vectors.npy, and the paths in vectors.txt:
    slotcon embed epoch_800.pth --data photos "more/*.jpg" --out vectors.npy --workers 4
"""


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = new_parser(__doc__, EXAMPLES)
    parser.add_argument("checkpoint", metavar="NETWORK", help="see below")
    text = "folders, globs, list files or images"
    parser.add_argument("--data", nargs="+", required=True, metavar="PATH", help=text)
    text = "a new file: .npz with vectors and paths, or .npy with vectors and .txt with paths"
    parser.add_argument("--out", required=True, metavar="FILE", help=text)
    text = "of a full checkpoint (teacher)"
    parser.add_argument("--part", choices=("teacher", "student"), help=text)
    add_level(parser, "encoder")
    text = "the projector's features, of a full checkpoint"
    parser.add_argument("--projected", action="store_true", help=text)
    add_number(parser, "--size", positive, 320, "short side of the network's input, pixels")
    add_number(parser, "--batch-size", positive, 16, "images of one size that are encoded together")
    add_overwrite(parser)
    add_loading(parser)
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(run_api("embed", parse_args(), stopped="stopped; no file was written"))
