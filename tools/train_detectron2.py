"""Train Mask R-CNN with detectron2's own trainer, from a backbone that SlotCon pretrained.

The config is detectron2's. This command finds the data folders, checks that every weight of the
backbone was loaded, and reports errors clearly. detectron2 must be installed, as described on
https://detectron2.readthedocs.io/en/latest/tutorials/install.html
"""

import argparse
import sys
from pathlib import Path

from command_line import add_number, natural, new_parser, run_api

EXAMPLES = """
examples:
  COCO_ROOT=/data/coco slotcon train_detectron2 \\
      detectron2/mask_rcnn_r50_fpn_syncbn_1x_coco \\
      --backbone epoch_800.pth --num-gpus 8
  evaluate:
    slotcon train_detectron2 CONFIG --eval-only MODEL.WEIGHTS model_final.pth

environment: COCO_ROOT, SLOTCON_DATA (folders of the data), SLOTCON_WORK_DIR (folder for results).
"""


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = new_parser(__doc__, EXAMPLES)
    parser.add_argument("config", help="a detectron2 config, .yaml")
    text = "a file of slotcon export or a checkpoint of slotcon train; 'supervised': torchvision's "
    text += "ImageNet weights; 'none': random weights"
    parser.add_argument("--backbone", metavar="FILE", help=text)
    text = "of --backbone's file: a pretrained FPN too (all, the default), or the encoder alone"
    parser.add_argument("--parts", choices=("all", "encoder"), default="all", help=text)
    add_number(parser, "--num-gpus", natural, 1, "number of GPUs")
    parser.add_argument("--resume", action="store_true", help="continue the work dir's training")
    text = (
        "use a work dir that has checkpoints of an earlier training; they are moved into a folder "
    )
    text += "in it"
    parser.add_argument("--overwrite", action="store_true", help=text)
    parser.add_argument("--eval-only", action="store_true", help="evaluate MODEL.WEIGHTS")
    parser.add_argument("--work-dir", help="folder for checkpoints and logs")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write the metrics as JSON")
    parser.add_argument("options", nargs="*", metavar="KEY VALUE", help="replace config entries")
    return parser.parse_intermixed_args(argv)  # options may come after flags


if __name__ == "__main__":
    sys.exit(run_api("train_detectron2", parse_args()))
