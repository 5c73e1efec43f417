"""Do bfloat16, float16 and torch.compile follow float32's loss curve? Trains, compares, draws.

    python tests/precision_curves.py --data /my/pictures --out curves.png
    python tests/precision_curves.py --quick

Short pretrainings by tools/train.py: float32 from several seeds, and every other way from the first
of them, so with the same weights, order and views. Rounding decides now and then which prototype
wins a pixel, and from there on a curve is as good as one of another seed. So a way passes if its
curve, averaged over some steps, is on average no further from the float32 curve of its seed than
two float32 seeds are from each other at most; in how many steps at the start the losses are alike
is printed too. Exit status 1 if one does not pass.

float16 is measured where there is a GPU. A processor without AVX-512 has no bfloat16 arithmetic
either: there its products are taken in float32 and rounded, as a GPU does (rounded_bfloat16.py),
and bfloat16 is not compiled.
"""

import argparse
import hashlib
import itertools
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
    parser.add_argument("--data", help="a folder of pictures (default: photographs of scikits)")
    parser.add_argument("--out", type=Path, help="draw the curves here")
    parser.add_argument("--folder", type=Path, default=Path("work_dirs/precision_curves"))
    parser.add_argument("--steps", type=int, default=200, help="default: %(default)s")
    parser.add_argument("--seeds", type=int, default=4, help="of float32 (%(default)s)")
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
    from slotcon_plugin.data.samples import sample_photographs
    from slotcon_plugin.data.sources import list_pictures
    from slotcon_plugin.engine.scalars import read_curves

    source = args.data or sample_photographs()
    pictures = len(list_pictures(source))
    rounds = max(1, -(-20 * BATCH // pictures))
    steps_an_epoch = rounds * pictures // BATCH
    epochs = -(-args.steps // steps_an_epoch)
    data = hashlib.sha256(str(source).encode()).hexdigest()[:8]
    name = f"{way.replace(', ', '_')}_{seed}_{args.size}px_{args.steps}steps_{data}"
    folder = args.folder / name
    how = WAYS[way]
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
        script = ROOT / "tests/rounded_bfloat16.py" if rounded(how) else ROOT / "tools/train.py"
        command = [sys.executable, script, CONFIG, "--amp", how.amp]
        command += ["--compile"] * how.compiled
        command += ["--seed", str(seed), "--work-dir", folder, "--cfg-options", *words]
        ended = subprocess.run(
            [str(word) for word in command],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
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


def draw(seeds: np.ndarray, others: dict[str, np.ndarray], window: int, path: Path) -> None:
    """All curves, and how far each is from float32's of the same seed."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 3.6), layout="constrained")
    whole, near = figure.subplots(1, 2)
    x = np.arange(seeds.shape[1]) + window
    spread = seeds.std(0, ddof=1)
    for curve in seeds[1:]:
        whole.plot(x, curve, color="#b8bec7", lw=1)
    whole.plot(x, seeds[0], color="black", lw=1.5, label="float32 (grey: other seeds)")
    near.fill_between(x, -spread, spread, color="#e4e7eb", label="± deviation of float32's seeds")
    for name, curve in others.items():
        whole.plot(x, curve, lw=1, label=name)
        near.plot(x, curve - seeds[0], lw=1, label=name)
    whole.set(xlabel="step", title=f"loss, mean of {window} steps")
    near.set(xlabel="step", title="difference from float32, same seed")
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
    runs = [("float32", seed) for seed in range(args.seeds)] + [(way, 0) for way in ways]
    with ThreadPoolExecutor(args.jobs) as pool:
        losses = list(pool.map(lambda run: train(*run, args), runs))
    curves = [smooth(one, window) for one in losses]
    seeds = np.stack(curves[: args.seeds])
    others = dict(zip(ways, curves[args.seeds :], strict=True))
    apart = [np.abs(one - other).mean() for one, other in itertools.combinations(seeds, 2)]
    print(
        f"\n{args.steps} steps, means of {window}. Two of {args.seeds} float32 seeds are "
        f"{min(apart):.4f} to {max(apart):.4f} apart, on average {np.mean(apart):.4f}\n\n"
        f"{'':33}  {'from float32':>12}  {'largest':>8}  {'first steps alike':>18}"
    )
    failed = 0
    for (name, curve), raw in zip(others.items(), losses[args.seeds :], strict=True):
        distance = np.abs(curve - seeds[0])
        within = distance.mean() <= max(apart)
        failed += not within
        alike = int(np.argmax(np.append(np.abs(raw - losses[0]) > ALIKE, True)))
        verdict = "within" if within else "NOT within"
        print(f"{name:33}  {distance.mean():12.4f}  {distance.max():8.4f}  {alike:18}  {verdict}")
    if args.out:
        draw(seeds, others, window, args.out)
        print(f"drawn: {args.out}")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
