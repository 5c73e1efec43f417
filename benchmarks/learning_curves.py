"""What a pretraining's features can do while it learns: retrieval of every checkpoint, and curves.

    python benchmarks/learning_curves.py WORK_DIR --images camvid/images --labels camvid/labels \\
        --labels-format index:11 --train-list camvid/train.txt --list camvid/val.txt \\
        --out curves.png

WORK_DIR is that of a pretraining of one process. Dense retrieval (docs/evaluation.md) scores each
of its checkpoints, and the same network with random weights. The figure has the loss, the share of
prototypes in use, RankMe and the retrieval's mIoU; beside it, as .json, are the scores.
"""

import argparse
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # runs without installation too

from slotcon_plugin.errors import ConfigError
from slotcon_plugin.runtime.run_command import run_command
from slotcon_plugin.runtime.scalars import read_curves

PANELS = {
    "loss": "loss",
    "prototypes_used_running": "prototypes in use, share",
    "rankme": "RankMe",
}


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("work_dir", metavar="WORK_DIR", type=Path)
    for name in ("images", "labels", "train-list", "list"):
        parser.add_argument(f"--{name}", required=True, metavar="PATH")
    parser.add_argument("--labels-format", default="voc", help="as of slotcon evaluate")
    parser.add_argument("--size", type=int, default=320, help="side of the square, pixels (320)")
    parser.add_argument("--every", type=int, default=1, help="score each N-th checkpoint (1)")
    parser.add_argument("--out", type=Path, required=True, help="the figure: .png, .svg, …")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    """Score, write the scores and draw."""
    args = parse_args(argv)
    from slotcon_plugin import evaluate

    checkpoints = sorted(args.work_dir.glob("epoch_*.pth"), key=_epoch)[:: -args.every][::-1]
    configs, curves = sorted(args.work_dir.glob("*.py")), read_curves(args.work_dir)
    if not (checkpoints and configs and curves.keys() >= PANELS.keys()):
        raise ConfigError(
            f"{args.work_dir} is not the work dir of a pretraining: expected a config, "
            f"epoch_N.pth and a log with {', '.join(PANELS)}."
        )
    data = dict(labels=args.labels, labels_format=args.labels_format, size=args.size)
    data |= dict(train_list=args.train_list, list=args.list)
    sources = [f"random:{configs[0]}", *map(str, checkpoints)]
    found = evaluate("retrieval", sources, args.images, **data)
    scores = [network["results"]["miou"] for network in found["networks"]]
    epochs = [0, *map(_epoch, checkpoints)]
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.with_suffix(".json").write_text(json.dumps(dict(epoch=epochs, miou=scores), indent=1))
    _draw(curves, epochs, scores).savefig(args.out, dpi=110)


def _epoch(path: Path) -> int:
    return int(path.stem.removeprefix("epoch_"))


def _draw(curves: dict, epochs: list[int], scores: list[float]):
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 2.6), layout="constrained")
    axes = figure.subplots(1, 4)
    last = max(step for step, _ in curves["loss"])
    for axis, (name, title) in zip(axes, PANELS.items()):
        axis.plot(*zip(*curves[name], strict=True), lw=1.2, color="black")
        axis.set_title(title, fontsize=10)
    steps = [epoch * last / epochs[-1] for epoch in epochs]
    axes[3].axhline(scores[0], ls="--", lw=1, color="0.4", label="random weights")
    axes[3].plot(steps, scores, marker="o", ms=3, lw=1.2, color="black", label="this pretraining")
    axes[3].legend(frameon=False, fontsize=8)
    axes[3].set_title("retrieval, mIoU in percent", fontsize=10)
    for axis in axes:
        axis.set(xlabel="step")
        axis.spines[["top", "right"]].set_visible(False)
        axis.tick_params(labelsize=8)
    return figure


if __name__ == "__main__":
    sys.exit(run_command(main))
