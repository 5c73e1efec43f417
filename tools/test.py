"""Evaluate a detector or segmentation network that slotcon train trained.

The config describes the data and the metrics; the checkpoint must fit its model exactly,
except for tensors that --allow-missing names.
"""

import argparse
import sys
from pathlib import Path

from command_line import (
    add_allow_missing,
    add_cfg_options,
    add_launcher,
    add_overwrite,
    new_parser,
    run_api,
)

EXAMPLES = """
examples:
  slotcon test mask_rcnn_r50_fpn_syncbn_1x_coco iter_90000.pth
  several GPUs:
    torchrun --nproc_per_node 8 -m slotcon_plugin test CONFIG CHECKPOINT --launcher pytorch

environment: COCO_ROOT, VOC_ROOT, CITYSCAPES_ROOT, ADE_ROOT (folders of the data), SLOTCON_WORK_DIR,
CUDA_VISIBLE_DEVICES (empty: evaluate on the CPU).
"""


def parse_args() -> argparse.Namespace:
    """The command line."""
    parser = new_parser(__doc__, EXAMPLES)
    parser.add_argument("config", help="a path, or a name of slotcon list, e.g. fcn_r50_voc12aug")
    parser.add_argument("checkpoint", help="of that config's model, or its work dir")
    text = "folder of images and labels, for configs with own_data (default: the config's)"
    parser.add_argument("--data", metavar="DIR", help=text)
    parser.add_argument("--work-dir", help="folder of the log (default: the config's)")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write the metrics as JSON")
    add_overwrite(parser)
    add_allow_missing(parser)
    add_cfg_options(parser)
    add_launcher(parser)
    return parser.parse_args()


if __name__ == "__main__":
    args = parse_args()
    sys.exit(run_api("test", args, args.launcher))
