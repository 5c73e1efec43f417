"""Evaluate a detector or segmentation network that tools/train.py trained.

The config says on which data and by which metrics; the checkpoint must fit the model exactly.
"""

import argparse
import json
import math
import os
import sys
from pathlib import Path

EXAMPLES = """
examples:
  python tools/test.py configs/det/mask_rcnn_r50_fpn_syncbn_1x_coco.py iter_90000.pth
  several GPUs:
    torchrun --nproc_per_node 8 tools/test.py CONFIG CHECKPOINT --launcher pytorch

environment: COCO_ROOT, VOC_ROOT, CITYSCAPES_ROOT, ADE_ROOT (where the data are), SLOTCON_WORK_DIR,
CUDA_VISIBLE_DEVICES (an empty value evaluates on the CPU).
"""


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("config", help="config file, e.g. configs/seg/fcn_r50_voc12aug.py")
    parser.add_argument("checkpoint", help="a checkpoint of that config's model")
    parser.add_argument("--work-dir", help="the log goes here (default: the config's)")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write the metrics as JSON")
    parser.add_argument(
        "--cfg-options",
        nargs="+",
        metavar="KEY=VALUE",
        help="replace entries of the config; +KEY=VALUE adds a new one",
    )
    parser.add_argument(
        "--launcher",
        choices=("none", "pytorch", "slurm", "mpi"),
        default="none",
        help="how the processes were started",
    )
    parser.add_argument("--local_rank", "--local-rank", type=int, default=0, help=argparse.SUPPRESS)
    return parser.parse_args(argv)


def evaluate(args: argparse.Namespace) -> dict[str, float]:
    """Evaluate; the metrics by name, as the log has them."""
    from mmengine.runner import Runner

    from slotcon_plugin.runtime.config_options import explain_build_error, read_config
    from slotcon_plugin.runtime.launch import (
        fit_loggers,
        fit_to_processes,
        fit_workers,
        leave_processes,
        process_number,
    )
    from slotcon_plugin.runtime.safe_loading import load_checkpoint_safely, use_safe_loader
    from slotcon_plugin.runtime.scalars import note_images
    from slotcon_plugin.transfer.data_layout import check_layout
    from slotcon_plugin.transfer.fit_transfer import fit_batch_norm
    from slotcon_plugin.transfer.test_setup import check_weights, keep_only_test

    use_safe_loader()
    weights = load_checkpoint_safely(args.checkpoint)
    cfg = read_config(args.config, args.cfg_options)
    default = os.environ.get("SLOTCON_WORK_DIR", f"work_dirs/{Path(args.config).stem}")
    cfg.work_dir = args.work_dir or cfg.get("work_dir") or default
    cfg.load_from, cfg.resume = args.checkpoint, False
    said = [
        *fit_to_processes(cfg, args.launcher),
        *fit_batch_norm(cfg),
        *fit_workers(cfg),
        *fit_loggers(cfg),
    ]
    keep_only_test(cfg, args.config)
    check_layout(cfg)
    if process_number(args.launcher) == 0:
        print(*(f"[slotcon] {line}" for line in said), sep="\n", flush=True)
    try:
        runner = Runner.from_cfg(cfg)
        check_weights(runner.model, weights, args.checkpoint)
        metrics = runner.test()
        if process_number(args.launcher) == 0:
            note_images(cfg.work_dir, evaluated=len(runner.test_dataloader.dataset))
    except (KeyError, TypeError, ValueError) as error:
        explained = explain_build_error(error)
        if explained is None:
            raise
        raise explained from error
    leave_processes()
    return metrics


def main(argv: list[str] | None = None) -> int:
    """Run; turn the user's errors into one message. Returns the exit status."""
    args = parse_args(argv)
    from slotcon_plugin.errors import SlotConError
    from slotcon_plugin.runtime.atomic_files import write_atomically
    from slotcon_plugin.runtime.launch import process_number

    try:
        metrics = evaluate(args)
    except SlotConError as error:
        if process_number(args.launcher) == 0:
            print(f"\nerror: {error}", file=sys.stderr, flush=True)
        return 1
    if process_number(args.launcher) == 0:
        print("\n".join(f"{name}: {value:.4g}" for name, value in metrics.items()))
        if args.out:
            numbers = {k: float(v) if math.isfinite(v) else None for k, v in metrics.items()}
            write_atomically(json.dumps(numbers, indent=1).encode(), args.out)
    return 0


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # works without installation too
    sys.exit(main())
