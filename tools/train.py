"""Pretrain with SlotCon, or train a detector or a segmentation network on what came out.

A config says what is trained; the options say how on this machine. Everything that is adjusted to
the machine (processes, precision, learning rate for the batch, workers) is printed at the start.
"""

import argparse
import os
import sys
from pathlib import Path

EXAMPLES = """
examples:
  one process, GPU or CPU:
    python tools/train.py configs/pretrain/slotcon_r18_demo.py \
        --cfg-options train_dataloader.dataset.source=/my/images
  the paper's pretraining on 8 GPUs:
    tools/dist_train.sh configs/pretrain/slotcon_r50_coco.py 8
  see what would happen, without training:
    python tools/train.py configs/pretrain/slotcon_r50_coco.py --dry-run
  go on after a crash, from the last good checkpoint in the work dir:
    python tools/train.py CONFIG --resume
  half the GPUs, the same global batch of 512 (2 iterations a step):
    tools/dist_train.sh CONFIG 4 --cfg-options +optim_wrapper.accumulative_counts=2
  Mask R-CNN and FCN from a pretraining's checkpoint (or tools/export.py's file; none; supervised):
    tools/dist_train.sh configs/det/mask_rcnn_r50_fpn_syncbn_1x_coco.py 8 --backbone epoch_800.pth
    tools/dist_train.sh configs/seg/fcn_r50_voc12aug.py 4 --backbone epoch_800.pth
  start from the weights of an earlier training, steps counted from 0:
    python tools/train.py CONFIG --cfg-options load_from=epoch_100.pth

environment: COCO_ROOT, IMAGENET_ROOT, DATA_ROOT (where the images are), SLOTCON_WORK_DIR (where
results go), CUDA_VISIBLE_DEVICES (an empty value trains on the CPU), VOC_ROOT, CITYSCAPES_ROOT,
ADE_ROOT (data of the transfers), SLOTCON_BACKBONE (their backbone, as --backbone).
"""


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("config", help="config file, e.g. configs/pretrain/slotcon_r18_demo.py")
    parser.add_argument("--work-dir", help="checkpoints and logs go here (default: the config's)")
    parser.add_argument(
        "--resume",
        nargs="?",
        const="auto",
        metavar="PATH",
        help="go on from this checkpoint, or from the last good one in the work dir; "
        "start anew if there is none",
    )
    parser.add_argument(
        "--backbone",
        metavar="FILE",
        help="fill the backbone from an exported file or a checkpoint of ours; 'supervised': "
        "torchvision's ImageNet weights; 'none': random",
    )
    parser.add_argument(
        "--amp",
        choices=("fp16", "bf16", "off"),
        help="mixed precision (default: the config's on a GPU, float32 on a CPU; "
        "bf16 works on both)",
    )
    parser.add_argument(
        "--auto-scale-lr",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="scale the learning rate with the global batch (default: as the config says; "
        "the pretraining configs do)",
    )
    parser.add_argument(
        "--seed", type=int, help="seed of weights, order and views (default: the config's)"
    )
    parser.add_argument(
        "--deterministic", action="store_true", help="bitwise repeatable kernels on a GPU; slower"
    )
    parser.add_argument(
        "--compile", action="store_true", help="torch.compile encoder and projector"
    )
    parser.add_argument(
        "--cfg-options",
        nargs="+",
        metavar="KEY=VALUE",
        help="replace entries of the config, e.g. train_cfg.max_epochs=100; "
        "+KEY=VALUE adds a new one",
    )
    parser.add_argument(
        "--launcher",
        choices=("none", "pytorch", "slurm", "mpi"),
        default="none",
        help="how the processes were started; the scripts in tools/ set it",
    )
    parser.add_argument("--local_rank", "--local-rank", type=int, default=0, help=argparse.SUPPRESS)
    parser.add_argument(
        "--dry-run", action="store_true", help="build model and data, print the plan, stop"
    )
    return parser.parse_args(argv)


def settle_config(args: argparse.Namespace, say):
    """The config with the command line in it, fitted to this machine."""
    from slotcon_plugin.runtime.config_options import check_optimizer, read_config
    from slotcon_plugin.runtime.launch import fit_to_machine, processes
    from slotcon_plugin.transfer.fit_transfer import fit_transfer

    cfg = read_config(args.config, args.cfg_options)
    check_optimizer(cfg)
    default = os.environ.get("SLOTCON_WORK_DIR", f"work_dirs/{Path(args.config).stem}")
    cfg.work_dir = args.work_dir or cfg.get("work_dir") or default
    cfg.randomness = {"seed": 0, **(cfg.get("randomness") or {})}
    if args.seed is not None:
        cfg.randomness.seed = args.seed
    if args.deterministic:
        cfg.randomness.deterministic = True
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS asks for it
    if args.compile:
        cfg.model.compile = True
    _, world_size = processes(args.launcher)
    for line in fit_transfer(cfg, world_size, args.amp, args.auto_scale_lr):
        say(line)
    for line in fit_to_machine(cfg, args.launcher, args.amp, args.auto_scale_lr):
        say(line)
    return cfg


def settle_start(cfg, args: argparse.Namespace, say) -> None:
    """Choose and check the checkpoint that training starts from."""
    from slotcon_plugin.runtime.resume_state import (
        find_last_good_checkpoint,
        load_training_state,
    )
    from slotcon_plugin.runtime.safe_loading import load_checkpoint_safely, use_safe_loader

    use_safe_loader()
    wanted = args.resume
    if wanted is None and cfg.get("resume"):  # as mmdet's and mmseg's configs ask for it
        wanted = cfg.get("load_from") or "auto"
    if wanted is None:
        if cfg.get("load_from"):
            load_checkpoint_safely(cfg.load_from)  # its error before the long set-up
        return
    cfg.resume = False
    if wanted == "auto":
        found = find_last_good_checkpoint(cfg.work_dir, warn=say)
        if found is None:
            say(f"nothing to resume from in {cfg.work_dir}: starting anew")
            return
        path, state = found
    else:
        path, state = Path(wanted), load_training_state(wanted)
    cfg.load_from, cfg.resume = str(path), True
    say(
        f"resuming from {path}, after epoch {state['meta']['epoch']}, iteration "
        f"{state['meta']['iter']:,}"
    )
    if args.seed is None and state["meta"].get("seed") is not None:
        # The same order and views as without the interruption.
        cfg.randomness.seed = state["meta"]["seed"]


def train(args: argparse.Namespace) -> None:
    """Train, or print the plan."""
    from mmengine.runner import Runner

    from slotcon_plugin.runtime.config_options import explain_build_error
    from slotcon_plugin.runtime.launch import leave_processes, processes
    from slotcon_plugin.runtime.scalars import note_images
    from slotcon_plugin.runtime.training_plan import check_enough_images, describe_plan
    from slotcon_plugin.transfer.data_layout import check_listed_files
    from slotcon_plugin.transfer.fit_transfer import is_transfer, name_backbone
    from slotcon_plugin.transfer.transfer_plan import describe_transfer

    rank, world_size = processes(args.launcher)

    def say(line: str) -> None:
        if rank == 0:
            print(f"[slotcon] {line}", flush=True)

    cfg = settle_config(args, say)
    settle_start(cfg, args, say)
    for line in name_backbone(cfg, args.backbone):
        say(line)
    try:
        if args.dry_run:
            describe = describe_transfer if is_transfer(cfg) else describe_plan
            plan = describe(cfg, world_size)
            if rank == 0:
                print(plan)
            return
        runner = Runner.from_cfg(cfg)
        if is_transfer(cfg):
            check_listed_files(runner.train_dataloader.dataset, cfg)
        check_enough_images(runner.train_dataloader)
        if rank == 0:
            note_images(cfg.work_dir, trained=len(runner.train_dataloader.dataset))
        runner.train()
    except (KeyError, TypeError, ValueError) as error:
        explained = explain_build_error(error)
        if explained is None:
            raise
        raise explained from error
    leave_processes()  # not after an error: others may be waiting, and must see this one exit
    say(f"done; results are in {cfg.work_dir}")


def main(argv: list[str] | None = None) -> int:
    """Run; turn the user's errors into one message. Returns the exit status."""
    args = parse_args(argv)
    from slotcon_plugin.errors import DataError, SlotConError, TrainingStopped
    from slotcon_plugin.runtime.launch import process_number

    try:
        train(args)
    except SlotConError as error:
        number = process_number(args.launcher)
        # All processes find the same fault, or all of one machine: the first one tells.
        teller = int(os.environ.get("LOCAL_RANK", 0)) if isinstance(error, DataError) else number
        if teller and not isinstance(error, TrainingStopped):
            return 1
        # Raised in a loading worker, the message arrives with the worker's traceback around it.
        message = str(error).rpartition(f"{type(error).__name__}: ")[2].strip()
        where = f"[process {number}] " * (number > 0)
        print(f"\n{where}error: {message}", file=sys.stderr, flush=True)
        return 1
    except KeyboardInterrupt:
        print(
            "\nstopped; --resume goes on from the last complete epoch", file=sys.stderr, flush=True
        )
        return 130
    return 0


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # works without installation too
    sys.exit(main())
