"""Train Mask R-CNN with detectron2's own trainer, from a backbone that SlotCon pretrained.

The config is detectron2's; what this adds are the data folders, a check that every weight of the
backbone was used, and clear errors. detectron2 must be installed: its own installation page says
how (https://detectron2.readthedocs.io/en/latest/tutorials/install.html).
"""

import argparse
import json
import sys
from pathlib import Path

EXAMPLES = """
examples:
  COCO_ROOT=/data/coco python tools/train_detectron2.py \\
      configs/det/detectron2/mask_rcnn_r50_fpn_syncbn_1x_coco.yaml \\
      --backbone epoch_800.pth --num-gpus 8
  evaluate:
  python tools/train_detectron2.py CONFIG --eval-only MODEL.WEIGHTS model_final.pth

environment: COCO_ROOT, SLOTCON_DATA (where the data are), SLOTCON_WORK_DIR (where results go).
"""


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("config", help="a detectron2 config, .yaml")
    parser.add_argument(
        "--backbone",
        metavar="FILE",
        help="a checkpoint of ours, or what tools/export.py wrote; 'supervised': torchvision's "
        "ImageNet weights; 'none': random",
    )
    parser.add_argument("--num-gpus", type=int, default=1, help="GPUs; on a CPU 0 or 1")
    parser.add_argument("--resume", action="store_true", help="go on from the work dir's last one")
    parser.add_argument("--eval-only", action="store_true", help="evaluate MODEL.WEIGHTS")
    parser.add_argument("--work-dir", help="checkpoints and logs go here")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write the metrics as JSON")
    parser.add_argument("options", nargs="*", metavar="KEY VALUE", help="detectron2's overrides")
    return parser.parse_intermixed_args(argv)  # options may follow the flags


def run(args: argparse.Namespace) -> dict:
    """What each process does: train and evaluate, or evaluate. Returns the metrics."""
    from detectron2.checkpoint import DetectionCheckpointer
    from detectron2.engine import default_setup

    from slotcon_plugin.transfer import detectron2_route as route

    cfg = route.read_yaml(args.config, args.options, args.work_dir)
    route.check_batch(cfg, args.num_gpus)
    route.register_data(cfg)
    if args.eval_only:
        route.check_weights(cfg.MODEL.WEIGHTS)
        cfg.freeze()
        default_setup(cfg, args)
        model = route.Trainer.build_model(cfg)
        DetectionCheckpointer(model, save_dir=cfg.OUTPUT_DIR).load(cfg.MODEL.WEIGHTS)
        return report(route.Trainer.test(cfg, model), args.out)
    source = route.use_backbone(cfg, args.backbone)
    cfg.freeze()
    default_setup(cfg, args)
    if args.resume:
        route.check_resume(cfg.OUTPUT_DIR)
    trainer = route.Trainer(cfg)
    trainer.resume_or_load(resume=args.resume)
    if trainer.start_iter == 0:
        print(
            f"[slotcon] {route.check_backbone(trainer.model, source, cfg.MODEL.RESNETS.DEPTH)}",
            flush=True,
        )
    return report(trainer.train(), args.out)


def report(metrics: dict | None, out: Path | None) -> dict | None:
    """Write the metrics, which the first process alone has, if they are wanted."""
    from slotcon_plugin.runtime.atomic_files import write_atomically

    if metrics and out:
        # NaN: COCO's mean over no object of a size or class
        text = json.dumps(metrics, indent=1, default=float).replace("NaN", "null")
        write_atomically(text.encode(), out)
    return metrics


def main(argv: list[str] | None = None) -> int:
    """Run; turn the user's errors into one message. Returns the exit status."""
    args = parse_args(argv)
    args.config_file = args.config  # detectron2's default_setup copies it into the work dir
    from slotcon_plugin.errors import ConfigError, SlotConError

    try:
        try:
            from detectron2.engine import launch
        except ImportError as error:
            raise ConfigError(
                f"detectron2 cannot be imported ({error}). Its installation page says how to get "
                "it: https://detectron2.readthedocs.io/en/latest/tutorials/install.html. Without "
                "it, configs/det/mask_rcnn_r50_fpn_syncbn_1x_coco.py trains mmdet's Mask R-CNN."
            ) from None
        launch(run, args.num_gpus, dist_url="auto", args=(args,))
    except SlotConError as error:
        print(f"\nerror: {error}", file=sys.stderr, flush=True)
        return 1
    return 0


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # works without installation too
    sys.exit(main())
