"""Do bfloat16, float16 and torch.compile follow float32's loss curve? Trains, compares, draws.

    python benchmarks/precision_curves.py --data /my/images --out curves.png
    python benchmarks/precision_curves.py --quick

Every way of computing trains with tools/train.py from the same seeds, so with the same weights,
order and views. Rounding sometimes changes which prototype has the highest score of a pixel; from
there on a curve differs like one of another seed. Therefore means over seeds are compared: a way
passes if its mean curve is, on average over the steps, at most one standard deviation of float32's
seeds away from float32's mean. (The expected distance of two equal ways with four seeds is 0.6
standard deviations.) The number of first steps with equal losses of seed 0 is printed too. The exit
status is 1 if a way does not pass.

float16 needs a GPU. A CPU without AVX-512 has no bfloat16 arithmetic: there its products are
computed in float32 and rounded, as a GPU does (rounded_bfloat16.py), and bfloat16 is not compiled.
"""

import argparse
import hashlib
import os
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # runs without installation too

BATCH = 8
WINDOW = 20  # steps of the moving average
EQUAL = 1e-4  # losses with a smaller difference are equal up to rounding


class Way(NamedTuple):
    """How a training computes."""

    amp: str
    compiled: bool = False
    channels_last: bool = False


WAYS = {
    "float32": Way("off"),
    "float32, channels last": Way("off", channels_last=True),
    "float32, compiled": Way("off", compiled=True),
    "bfloat16": Way("bf16"),
    "bfloat16, channels last": Way("bf16", channels_last=True),
    "bfloat16, compiled, channels last": Way("bf16", compiled=True, channels_last=True),
    "float16": Way("fp16"),
}


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add, ways = parser.add_argument, list(WAYS)[1:]
    add("--data", help="a folder of images (default: photographs of scikit-image, scikit-learn)")
    add("--out", type=Path, help="draw the curves to this file")
    add("--folder", type=Path, default=Path("work_dirs/precision_curves"))
    add("--steps", type=int, default=200, help="default: %(default)s")
    add("--seeds", type=int, default=4, help="number of seeds for every way (%(default)s)")
    add("--size", type=int, default=96, help="height and width of a view, pixels (%(default)s)")
    names = f"{'; '.join(ways)} (default: all that this machine can compute)"
    add("--ways", nargs="+", metavar="WAY", choices=ways, help=names)
    add("--jobs", type=int, default=1, help="trainings at a time (%(default)s)")
    add("--quick", action="store_true", help="a few steps, as a test")
    args = parser.parse_args(argv)
    if args.seeds < 2:
        parser.error(f"--seeds is {args.seeds}, expected 2 or more: one has no standard deviation")
    return args


def rounded(way: Way) -> bool:
    """Whether its bfloat16 products are computed in float32 and rounded."""
    import torch

    arithmetic = torch.cuda.is_available() or "AVX512" in torch.backends.cpu.get_cpu_capability()
    return way.amp == "bf16" and not arithmetic


def possible(way: Way) -> bool:
    """Whether this machine can compute it."""
    import torch

    on_gpu = torch.cuda.is_available()
    return on_gpu if way.amp == "fp16" else not (rounded(way) and way.compiled)


def train(name: str, seed: int, args: argparse.Namespace) -> np.ndarray:
    """The losses of a training, (steps,). A training that is complete is only read."""
    import torch

    from benchmarks.processes import DEMO, ROOT
    from slotcon_plugin.datasets.sample_images import sample_photographs
    from slotcon_plugin.datasets.sources import list_images
    from slotcon_plugin.runtime.scalars import read_curves

    source = args.data or sample_photographs()
    images = len(list_images(source))
    rounds = max(1, -(-20 * BATCH // images))
    epochs = -(-args.steps // (rounds * images // BATCH))
    way = WAYS[name]
    device = "cuda" if torch.cuda.is_available() else "rounded" if rounded(way) else "cpu"
    data = hashlib.sha256(str(source).encode()).hexdigest()[:8]
    parts = name.replace(", ", "_").replace(" ", "_"), device, seed, f"{args.size}px"
    folder = args.folder / "_".join(map(str, (*parts, f"{args.steps}steps", data)))
    options = {
        "model.channels_last": way.channels_last,
        "train_dataloader.dataset.source": repr(source) if args.data is None else source,
        "train_dataloader.batch_size": BATCH,
        "train_dataloader.num_workers": 0,
        "+train_dataloader.sampler.rounds": rounds,
        "train_dataloader.dataset.views.size": args.size,
        "train_cfg.max_epochs": epochs,
        "param_scheduler.warmup": 1,
        "default_hooks.logger.interval": 1,
        "default_hooks.checkpoint.interval": epochs,
    }
    if not (folder / f"epoch_{epochs}.pth").exists():
        script = "benchmarks/rounded_bfloat16.py" if rounded(way) else "tools/train.py"
        command = [sys.executable, ROOT / script, DEMO, "--amp", way.amp]
        command += ["--compile"] * way.compiled
        command += ["--seed", seed, "--work-dir", folder, "--cfg-options"]
        command += [f"{key}={value}" for key, value in options.items()]
        done = subprocess.run(
            [str(word) for word in command],
            # On a GPU float32 must not be TF32.
            env={**os.environ, "PYTHONPATH": str(ROOT), "NVIDIA_TF32_OVERRIDE": "0"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        if done.returncode:
            raise SystemExit(f"{name}, seed {seed} failed:\n{done.stdout[-3000:]}")
    losses = dict(read_curves(folder)["loss"])
    print(f"{name}, seed {seed}: {len(losses)} steps, last loss {losses[max(losses)]:.4f}")
    return np.array([losses[step] for step in sorted(losses)])[: args.steps]


def smooth(losses: np.ndarray, window: int) -> np.ndarray:
    """The mean of every `window` consecutive losses."""
    return np.convolve(losses, np.ones(window) / window, "valid")


def draw(curves: dict[str, np.ndarray], window: int, path: Path) -> None:
    """Draw all curves (seeds, steps), and the difference of each mean from the first one's."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 3.6), layout="constrained")
    whole, difference = figure.subplots(1, 2)
    first, reference = next(iter(curves.items()))
    x = np.arange(reference.shape[1]) + window
    spread = reference.std(0, ddof=1)
    difference.fill_between(
        x, -spread, spread, color="#e4e7eb", label=f"± standard deviation of {first}'s seeds"
    )
    colors = ("black", "#1f77b4", "#ff7f0e", "#2ca02c", "#d62728", "#9467bd", "#8c564b")
    styles = ("-", "-", "-", "--", ":", "-.", "--")  # where color-blind eyes see one color
    for (name, seeds), color, style in zip(curves.items(), colors, styles, strict=False):
        whole.plot(x, seeds.T, color=color, lw=0.7, alpha=0.5)
        whole.plot(x, seeds.mean(0), style, color=color, lw=1.8, label=name)
        away = seeds.mean(0) - reference.mean(0)
        difference.plot(x, away, style, color=color, lw=1.5, label=name)
    whole.set(xlabel="step", title=f"loss, mean of {window} steps; thin: single seeds")
    difference.set(xlabel="step", title=f"difference of the means from {first}")
    for axis in (whole, difference):
        axis.legend(fontsize=8)
        axis.grid(alpha=0.3)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=90)


def main(argv: list[str] | None = None) -> int:
    """Compare in the folder, or with --quick in a temporary one. Returns the exit status."""
    args = parse_args(argv)
    if not args.quick:
        return compare(args)
    args.steps, args.seeds, args.size = 24, 2, 64
    with tempfile.TemporaryDirectory() as folder:
        args.folder = Path(folder)
        return compare(args)


def compare(args: argparse.Namespace) -> int:
    """Train, and compare the curves of all ways with float32's. Returns the exit status."""
    window = min(WINDOW, args.steps // 4)
    wanted = args.ways or list(WAYS)[1:]
    ways = [way for way in wanted if possible(WAYS[way])]
    for way in set(wanted) - set(ways):
        print(f"{way}: not possible on this machine")
    runs = [(way, seed) for way in ("float32", *ways) for seed in range(args.seeds)]
    with ThreadPoolExecutor(args.jobs) as pool:
        losses = list(pool.map(lambda run: train(*run, args), runs))
    found = {way: [] for way, _ in runs}
    for (way, _), curve in zip(runs, losses, strict=True):
        found[way].append(curve)
    curves = {way: np.stack([smooth(one, window) for one in found[way]]) for way in found}
    reference = curves["float32"]
    spread = reference.std(0, ddof=1).mean()
    print(
        f"\n{args.steps} steps, means of {window} steps and of {args.seeds} seeds; one standard "
        f"deviation of float32's seeds is {spread:.4f}\n\n"
        f"{'':33}  {'from float32':>12}  {'at the end':>10}  {'equal steps':>11}"
    )
    failed = 0
    for way in ways:
        difference = curves[way].mean(0) - reference.mean(0)
        distance = np.abs(difference).mean()
        failed += distance > spread
        unequal = np.abs(found[way][0] - found["float32"][0]) > EQUAL
        equal = int(np.argmax(np.append(unequal, True)))
        verdict = "within" if distance <= spread else "NOT within"
        print(f"{way:33}  {distance:12.4f}  {difference[-1]:+10.4f}  {equal:11}  {verdict}")
    if args.out:
        draw(curves, window, args.out)
        print(f"drawn: {args.out}")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
