"""Do bfloat16, float16 and torch.compile follow float32's loss curve? Trains, compares, draws.

    python benchmarks/precision_curves.py --data /my/images --out curves.png
    python benchmarks/precision_curves.py --quick

Short pretrainings by tools/train.py, every way from the same seeds, so with the same weights, order
and views. Rounding decides now and then which prototype wins a pixel, and from there on a curve is
as good as one of another seed: so means over seeds are compared. A way passes if its mean curve is,
on average over the steps, no further from float32's than one standard deviation of float32's seeds;
two equal ways are 0.6 of that apart with four seeds. In how many steps at the start the losses of
seed 0 are alike is printed too. Exit status 1 if a way does not pass.

float16 is measured where there is a GPU. A processor without AVX-512 has no bfloat16 arithmetic
either: there its products are taken in float32 and rounded, as a GPU does (rounded_bfloat16.py),
and bfloat16 is not compiled.
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

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # works without installation too

CONFIG = ROOT / "configs" / "pretrain" / "slotcon_r18_demo.py"
BATCH = 8
WINDOW = 20  # steps that are averaged
ALIKE = 1e-4  # losses that are the same but for rounding


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
    parser.add_argument("--data", help="a folder of images (default: photographs of scikits)")
    parser.add_argument("--out", type=Path, help="draw the curves here")
    parser.add_argument("--folder", type=Path, default=Path("work_dirs/precision_curves"))
    parser.add_argument("--steps", type=int, default=200, help="default: %(default)s")
    parser.add_argument("--seeds", type=int, default=4, help="of every way (%(default)s)")
    parser.add_argument("--size", type=int, default=96, help="of a view, pixels (%(default)s)")
    parser.add_argument(
        "--ways",
        nargs="+",
        metavar="WAY",
        choices=list(WAYS)[1:],
        help=f"{'; '.join(list(WAYS)[1:])} (default: all that this machine can)",
    )
    parser.add_argument("--jobs", type=int, default=1, help="trainings at a time (%(default)s)")
    parser.add_argument("--quick", action="store_true", help="a few steps: only to see it work")
    args = parser.parse_args(argv)
    if args.seeds < 2:
        parser.error(f"--seeds is {args.seeds}, expected 2 or more: one has no spread")
    return args


def rounded(way: Way) -> bool:
    """Whether its bfloat16 products are float32's, rounded."""
    import torch

    arithmetic = torch.cuda.is_available() or "AVX512" in torch.backends.cpu.get_cpu_capability()
    return way.amp == "bf16" and not arithmetic


def possible(way: Way) -> bool:
    """Whether it can be measured on this machine."""
    import torch

    on_gpu = torch.cuda.is_available()
    return on_gpu if way.amp == "fp16" else not (rounded(way) and way.compiled)


def train(way: str, seed: int, args: argparse.Namespace) -> np.ndarray:
    """The losses of a training, (steps,). One that was finished before is read only."""
    import torch

    from slotcon_plugin.datasets.sample_images import sample_photographs
    from slotcon_plugin.datasets.sources import list_images
    from slotcon_plugin.runtime.scalars import read_curves

    source = args.data or sample_photographs()
    images = len(list_images(source))
    rounds = max(1, -(-20 * BATCH // images))
    steps_an_epoch = rounds * images // BATCH
    epochs = -(-args.steps // steps_an_epoch)
    data = hashlib.sha256(str(source).encode()).hexdigest()[:8]
    how = WAYS[way]
    where = "cuda" if torch.cuda.is_available() else "rounded" if rounded(how) else "cpu"
    way_name = way.replace(", ", "_").replace(" ", "_")
    name = f"{way_name}_{where}_{seed}_{args.size}px_{args.steps}steps_{data}"
    folder = args.folder / name
    options = {
        "model.channels_last": how.channels_last,
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
        words = [f"{key}={value}" for key, value in options.items()]
        script = (
            ROOT / "benchmarks/rounded_bfloat16.py" if rounded(how) else ROOT / "tools/train.py"
        )
        command = [sys.executable, ROOT / script, CONFIG, "--amp", how.amp]
        command += ["--compile"] * how.compiled
        command += ["--seed", str(seed), "--work-dir", folder, "--cfg-options", *words]
        ended = subprocess.run(
            [str(word) for word in command],
            # On a GPU float32 is to mean float32, not TF32.
            env={**os.environ, "PYTHONPATH": str(ROOT), "NVIDIA_TF32_OVERRIDE": "0"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        if ended.returncode:
            raise SystemExit(f"{way}, seed {seed} failed:\n{ended.stdout[-3000:]}")
    losses = dict(read_curves(folder)["loss"])
    print(f"{way}, seed {seed}: {len(losses)} steps, last loss {losses[max(losses)]:.4f}")
    return np.array([losses[step] for step in sorted(losses)])[: args.steps]


def smooth(losses: np.ndarray, window: int) -> np.ndarray:
    """The mean of each `window` losses that follow each other."""
    return np.convolve(losses, np.ones(window) / window, "valid")


def draw(curves: dict[str, np.ndarray], window: int, path: Path) -> None:
    """All curves (seeds, steps), and how far each way's mean is from float32's."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 3.6), layout="constrained")
    whole, near = figure.subplots(1, 2)
    reference = curves["float32"]
    x = np.arange(reference.shape[1]) + window
    spread = reference.std(0, ddof=1)
    near.fill_between(x, -spread, spread, color="#e4e7eb", label="± deviation of float32's seeds")
    colors = ("black", "#1f77b4", "#ff7f0e", "#2ca02c", "#d62728", "#9467bd", "#8c564b")
    for (name, seeds), color in zip(curves.items(), colors, strict=False):
        whole.plot(x, seeds.T, color=color, lw=0.7, alpha=0.5)
        whole.plot(x, seeds.mean(0), color=color, lw=1.8, label=name)
        near.plot(x, seeds.mean(0) - reference.mean(0), color=color, lw=1.5, label=name)
    whole.set(xlabel="step", title=f"loss, mean of {window} steps: seeds, and their mean")
    near.set(xlabel="step", title="means' difference from float32")
    for axis in (whole, near):
        axis.legend(fontsize=8)
        axis.grid(alpha=0.3)
    figure.savefig(path, dpi=90)


def main(argv: list[str] | None = None) -> int:
    """Train what is missing and compare. Returns the exit status."""
    args = parse_args(argv)
    if not args.quick:
        return compare(args)
    args.steps, args.seeds, args.size = 24, 2, 64
    with tempfile.TemporaryDirectory() as folder:
        args.folder = Path(folder)
        return compare(args)


def compare(args: argparse.Namespace) -> int:
    """The curves of all ways beside float32's. Returns the exit status."""
    window = min(WINDOW, args.steps // 4)
    wanted = args.ways or list(WAYS)[1:]
    ways = [way for way in wanted if possible(WAYS[way])]
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
        f"\n{args.steps} steps, means of {window} and of {args.seeds} seeds. One standard "
        f"deviation of float32's seeds is {spread:.4f}\n\n"
        f"{'':33}  {'from float32':>12}  {'last':>8}  {'first steps alike':>18}"
    )
    failed = 0
    for way in ways:
        apart = curves[way].mean(0) - reference.mean(0)
        distance = np.abs(apart).mean()
        failed += distance > spread
        unlike = np.abs(found[way][0] - found["float32"][0]) > ALIKE
        alike = int(np.argmax(np.append(unlike, True)))
        verdict = "within" if distance <= spread else "NOT within"
        print(f"{way:33}  {distance:12.4f}  {apart[-1]:+8.4f}  {alike:18}  {verdict}")
    if args.out:
        draw(curves, window, args.out)
        print(f"drawn: {args.out}")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
