"""Time some steps of a training on this machine and print what the whole training takes.

Hours, images per second, waiting for data, memory, disk, and the use of the GPU's arithmetic.
Nothing is trained, and nothing is written.
"""

import argparse
import sys

from command_line import (
    add_cfg_options,
    add_number,
    add_overwrite,
    add_training,
    new_parser,
    positive,
    positive_real,
    run_api,
)

EXAMPLES = """
examples:
  the paper's pretraining on 8 GPUs, planned on one of them:
    slotcon plan configs/pretrain/slotcon_r50_coco.py --gpus 8
  a pretraining on own images:
    slotcon plan configs/pretrain/slotcon_r18_small.py --data /my/images --epochs 100
  a transfer, from random weights:
    slotcon plan configs/seg/fcn_r50_voc12aug.py --gpus 4 --backbone none
"""


def parse_args() -> argparse.Namespace:
    """The command line."""
    parser = new_parser(__doc__, EXAMPLES)
    parser.add_argument("config", help="a path, or a name of slotcon list")
    text = "GPUs of the training that is planned; steps are timed on one (1)"
    parser.add_argument("--gpus", type=positive, metavar="N", help=text)
    add_training(parser)
    add_number(parser, "--steps", positive, 10, "timed steps")
    text = "for all steps; smaller batches are timed if they would take longer"
    add_number(parser, "--max-minutes", positive_real, 5, text)
    add_overwrite(parser)
    add_cfg_options(parser)
    parser.add_argument("--out", metavar="FILE", help="also write the numbers, as JSON")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(run_api("plan", parse_args(), stopped="stopped before a step was timed"))
