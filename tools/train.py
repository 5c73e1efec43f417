"""Pretrain with SlotCon, or train a detector or a segmentation network on a pretrained encoder.

The config describes the training. Its processes, precision, learning rate and workers are adapted
to this machine, and each change is printed at the start.
"""

import argparse
import sys

from command_line import (
    add_allow_missing,
    add_cfg_options,
    add_gpus,
    add_launcher,
    add_number,
    add_training,
    natural,
    new_parser,
    run_api,
    start_on_gpus,
)

EXAMPLES = """
examples:
  one process, GPU or CPU:
    slotcon train slotcon_r18_small --data /my/images
  the paper's pretraining on 8 GPUs:
    slotcon train slotcon_r50_coco --gpus 8
  check everything, take one step, print the plan, write nothing:
    slotcon train slotcon_r50_coco --dry-run
  resume after a crash from the last good checkpoint in the work dir:
    slotcon train CONFIG --resume
  half the GPUs, the same global batch of 512 (2 iterations per step):
    slotcon train CONFIG --gpus 4 --cfg-options +optim_wrapper.accumulative_counts=2
  Mask R-CNN and FCN from a pretraining's checkpoint or a file of slotcon export:
    slotcon train mask_rcnn_r50_fpn_syncbn_1x_coco --gpus 8 --backbone epoch_800.pth
    slotcon train fcn_r50_voc12aug --gpus 4 --backbone epoch_800.pth
  start from the weights of an earlier training, at step 0:
    slotcon train CONFIG --cfg-options load_from=epoch_100.pth

environment: COCO_ROOT, IMAGENET_ROOT, DATA_ROOT (folders of images), SLOTCON_WORK_DIR (folder of
results), CUDA_VISIBLE_DEVICES (empty: train on the CPU), VOC_ROOT, CITYSCAPES_ROOT, ADE_ROOT (data
of the transfers), SLOTCON_BACKBONE (their backbone, as --backbone), SLOTCON_MAX_MEGAPIXELS and
SLOTCON_READ_SECONDS (limits of an image, see docs/images.md).
"""


def parse_args() -> argparse.Namespace:
    """The command line."""
    parser = new_parser(__doc__, EXAMPLES)
    parser.add_argument("config", help="a path, or a name of slotcon list, e.g. slotcon_r18_demo")
    add_training(parser)
    parser.add_argument("--work-dir", help="folder of checkpoints and logs (default: the config's)")
    text = "resume from this checkpoint; without PATH from the last good one in the work dir, or "
    text += "start a new training if there is none"
    parser.add_argument("--resume", nargs="?", const="auto", metavar="PATH", help=text)
    text = "of --backbone's file: the decoder too, if it has one of the model's kind (all), or the "
    text += "encoder alone (default: the config's, all)"
    parser.add_argument("--parts", choices=("all", "encoder"), help=text)
    text = "seed of weights, order and views (default: the config's)"
    parser.add_argument("--seed", type=natural, help=text)
    text = "bitwise repeatable kernels on a GPU; slower"
    parser.add_argument("--deterministic", action="store_true", help=text)
    text = "use a work dir with checkpoints of an earlier training, which are moved into a folder"
    text += " in it"
    parser.add_argument("--overwrite", action="store_true", help=text)
    text = "where scalars and images go beside scalars.json (default: the config's, tensorboard); "
    text += "wandb and mlflow need slotcon_plugin[loggers]"
    names = dict(choices=("tensorboard", "wandb", "mlflow"), nargs="+", action="extend")
    parser.add_argument("--logger", **names, help=text)
    add_allow_missing(parser)
    text = "seconds without progress after which a process is reported as hanging and the training "
    text += "of several processes ended; 0: never"
    add_number(parser, "--hang-timeout", natural, 90, text)
    add_cfg_options(parser)
    add_gpus(parser)
    add_launcher(parser)
    text = "build everything, take one step on a batch (of 2 images on a CPU), print the plan and "
    text += "the losses, write nothing"
    parser.add_argument("--dry-run", action="store_true", help=text)
    text = "with --dry-run: take no step, for a machine that is too small"
    parser.add_argument("--no-step", dest="step", action="store_false", help=text)
    text = "a progress bar and warnings instead of log lines, which are then only in the log file"
    parser.add_argument("--progress", action="store_true", help=text)
    return parser.parse_args()


if __name__ == "__main__":
    args = parse_args()
    start_on_gpus(args)
    stopped = "stopped; --resume continues after the last complete epoch"
    sys.exit(run_api("train", args, args.launcher, stopped))
