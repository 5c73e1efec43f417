"""Does a training by the published code lose as one by this package? Compares loss curves, draws.

    python benchmarks/published_curves.py --out curves.png \\
        --published runs/published_0 runs/published_1 --ours work_dirs/seed_0 work_dirs/seed_1

The published code (https://github.com/CVMI-Lab/SlotCon) is not part of this repository. Let its
training write a line {"step": 0, "loss": 6.64} for each step into the file metrics.json of a folder
for each seed. docs/results.md has the recipe and the options of `slotcon train` that equal it. A
folder after --ours is a work dir of a training with default_hooks.logger.interval=1. Steps are
compared in their order, and means of 20 consecutive steps.
"""

import argparse
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # runs without installation too

from benchmarks.precision_curves import WINDOW, draw, smooth
from slotcon_plugin.runtime.scalars import read_curves


def main(argv: list[str] | None = None) -> None:
    """Print the comparison, and draw it with --out."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    folders = dict(type=Path, nargs="+", metavar="FOLDER", required=True)
    parser.add_argument("--published", **folders, help="runs of the published code, two or more")
    parser.add_argument("--ours", **folders, help="work dirs of this package, two or more")
    parser.add_argument("--out", type=Path, help="draw the curves to this file")
    args = parser.parse_args(argv)
    if min(len(set(args.published)), len(set(args.ours))) < 2:
        parser.error("expected two folders or more on each side: one has no standard deviation")
    runs = {folder: losses(folder) for folder in (*args.published, *args.ours)}
    if len(set(map(len, runs.values()))) > 1 or len(runs[args.ours[0]]) < WINDOW:
        numbers = ", ".join(f"{folder}: {len(run)}" for folder, run in runs.items())
        parser.error(f"expected as many losses in all folders, at least {WINDOW}; {numbers}")
    groups = {"the published code": args.published, "this package": args.ours}
    curves = {
        name: np.stack([smooth(runs[folder], WINDOW) for folder in group])
        for name, group in groups.items()
    }
    compare(*curves.values())
    if args.out:
        draw(curves, WINDOW, args.out)
        print(f"drawn: {args.out}")


def losses(folder: Path) -> np.ndarray:
    """The losses that a run logged, in the order of steps."""
    return np.array([loss for _, loss in read_curves(folder).get("loss", [])])


def compare(published: np.ndarray, ours: np.ndarray) -> None:
    """Print how far the means of two groups of curves (seeds, steps) are from each other."""
    for name, group in (("published", published), ("ours", ours)):
        end = group[:, -1]
        print(f"{name:9}  loss at the end {end.mean():.4f} ± {end.std(ddof=1):.4f}")
    difference = np.abs(ours.mean(0) - published.mean(0))
    spread = np.sqrt((published.var(0, ddof=1) + ours.var(0, ddof=1)) / 2).mean()
    worst, mean = int(difference.argmax()), difference.mean()
    print(
        f"one standard deviation of the seeds, mean of all steps: {spread:.4f}\n"
        f"difference of the means: {mean:.4f} on average ({mean / spread:.2f} deviations), at most "
        f"{difference[worst]:.4f} ({difference[worst] / spread:.2f}) at step {worst + WINDOW}"
    )


if __name__ == "__main__":
    main()
