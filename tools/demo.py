"""SlotCon in a few minutes: pretrain a small ResNet on photographs and look at its groups.

Without --data it trains on eight photographs that scikit-image and scikit-learn carry. It writes
groups.png (photographs, their groups before and after training, how much each prototype is used),
losses.png and the usual logs and checkpoints into the work dir.
"""

import argparse
import random
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
CONFIG = ROOT / "configs" / "pretrain" / "slotcon_r18_demo.py"
STEPS_AN_EPOCH = 10


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--data", metavar="PATH", help="a folder of images, searched to any depth; or a glob"
    )
    parser.add_argument(
        "--work-dir", default="work_dirs/demo", help="where results go (default: %(default)s)"
    )
    parser.add_argument("--steps", type=int, default=200, help="default: %(default)s")
    parser.add_argument("--seed", type=int, default=0, help="default: %(default)s")
    return parser.parse_args(argv)


def demo_config(args: argparse.Namespace, source: str | list[str], images: int):
    """The demo's config, fitted to the images and to this machine."""
    from slotcon_plugin.runtime.config_options import read_config
    from slotcon_plugin.runtime.launch import fit_to_machine

    cfg = read_config(CONFIG)
    cfg.work_dir = args.work_dir
    cfg.randomness.seed = args.seed
    cfg.log_level = "WARNING"  # the bar stands in for the log lines
    cfg.train_dataloader.dataset.source = source
    # An epoch is as many rounds over the images as make STEPS_AN_EPOCH batches, or one round.
    wanted = STEPS_AN_EPOCH * cfg.train_dataloader.batch_size
    rounds = max(1, -(-wanted // images))
    cfg.train_dataloader.sampler.rounds = rounds
    steps_an_epoch = rounds * images // cfg.train_dataloader.batch_size
    cfg.train_cfg.max_epochs = max(1, round(args.steps / steps_an_epoch))
    cfg.param_scheduler = dict(
        type="WarmupCosineLR", warmup=max(1, args.steps // 4), by_epoch=False
    )
    for line in fit_to_machine(cfg, "none"):
        print(f"[slotcon] {line}")
    return cfg


def run(args: argparse.Namespace) -> None:
    """Train and draw."""
    from mmengine.runner import Runner

    from slotcon_plugin.datasets.decode import read_image
    from slotcon_plugin.datasets.sample_images import sample_photographs
    from slotcon_plugin.datasets.sources import list_images
    from slotcon_plugin.hooks.progress_bar_hook import ProgressBarHook
    from slotcon_plugin.runtime.scalars import read_curves
    from slotcon_plugin.visualization.curves import draw_losses
    from slotcon_plugin.visualization.groups import draw_groups, group_photographs

    source = args.data or sample_photographs()
    paths = list_images(source)
    most = STEPS_AN_EPOCH * 16  # images an epoch can show; a larger folder is sampled
    if len(paths) > most:
        print(f"[slotcon] {len(paths)} images found, {most} of them are used")
        paths = sorted(random.Random(args.seed).sample(paths, most))
    work_dir = Path(args.work_dir)
    print(f"[slotcon] {len(paths)} images; about {args.steps} steps; results in {work_dir}")

    runner = Runner.from_cfg(demo_config(args, paths, len(paths)))
    runner.register_hook(ProgressBarHook())
    shown = [read_image(path) for path in paths if "motorcycle" not in path][:6]
    before = group_photographs(runner.model, shown)
    started = time.monotonic()
    runner.train()
    minutes = (time.monotonic() - started) / 60
    after = group_photographs(runner.model, shown)

    rows = {"before training": before, "after training": after}
    groups, losses = work_dir / "groups.png", work_dir / "losses.png"
    draw_groups(rows, runner.model.num_prototypes).savefig(groups, dpi=110)
    draw_losses(read_curves(Path(runner.log_dir))).savefig(losses, dpi=110)
    print(f"[slotcon] trained {runner.iter} steps in {minutes:.1f} min; look at {groups}, {losses}")


def main(argv: list[str] | None = None) -> int:
    """Run; turn the user's errors into one message. Returns the exit status."""
    args = parse_args(argv)
    from slotcon_plugin.errors import SlotConError

    try:
        run(args)
    except SlotConError as error:
        print(f"\nerror: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nstopped", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))  # works without installation too
    sys.exit(main())
