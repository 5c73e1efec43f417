"""The tables of `benchmarks/speed.py`: what is measured, beside what, against which goal."""

import gc
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from mmengine.registry import MODELS

from benchmarks.machine_report import Row, timed_row
from benchmarks.peak_memory import peak_bytes
from benchmarks.speed_data import SIZES, device_pair, worker_pair, write_jpegs
from benchmarks.speed_exchange import exchange
from benchmarks.speed_loop import (
    CONFIGS,
    PREFETCH,
    BlockClock,
    check_shared_memory,
    largest_batch,
    loop_config,
    run_ours,
    run_plainly,
)
from benchmarks.speed_networks import network_pairs
from benchmarks.speed_step import Step, Updates
from benchmarks.timing import race, spread
from slotcon_plugin.datasets.transforms import TwoViews
from slotcon_plugin.runtime.config_options import read_config

STEP_GOALS = {256: 2.0, 2048: 5.0}
MEMORY_GOALS = {2048: 2.0}
EXCHANGE_GOALS = {256: 5.0, 2048: 20.0}


@dataclass
class Settings:
    """How much is measured."""

    num_prototypes: tuple[int, ...] = (256, 2048)
    batch: int = 64
    device: str = "cpu"
    rounds: int = 7
    quick: bool = False
    loop_batch: int = 16
    loop_blocks: int = 4  # that count, of ours
    plain_blocks: int = 4
    block: int = 3  # steps
    workers: int = 2
    compiled: bool = True  # the loop on a GPU

    def goal(self, goals: dict[int, float], k: int) -> float | None:
        """A ratio that is aimed at on a CPU."""
        return goals.get(k) if self.device == "cpu" else None


Say = Callable[[str], None]
Rows = Iterator[Row]


def clock(settings: Settings) -> Callable[[], float]:
    """With one thread on the CPU the processor's time, which other programs disturb less."""
    alone = settings.device == "cpu" and torch.get_num_threads() == 1
    return time.process_time if alone else time.perf_counter


def data_rows(settings: Settings, folder: Path, say: Say) -> Rows:
    """The worker part and the device part of the pipeline, at two sizes."""
    draws = TwoViews(size=64 if settings.quick else 224)
    threads = torch.get_num_threads()
    on_cpu = settings.device == "cpu"
    for width, height in SIZES[: 1 if settings.quick else 2]:
        say(f"data: {width} x {height}")
        paths = write_jpegs(folder / f"{width}x{height}", width, height)
        torch.set_num_threads(1)  # as in a worker
        pair = worker_pair(paths, draws)
        times = race(*pair, rounds=settings.rounds, clock=time.process_time)
        name, unit = f"worker part, {width}×{height}", "images/s/core"
        yield timed_row("data", name, times, 4.0 if on_cpu else None, len(paths), unit)
    items = pair[0]() * (1 if settings.quick else max(settings.batch // len(paths), 1))
    torch.set_num_threads(1 if on_cpu else threads)
    pair = device_pair(items, settings.device)
    rounds = settings.rounds if on_cpu else min(settings.rounds, 3)  # PIL takes many seconds
    times = race(*pair, rounds, settings.device, clock(settings))
    name = f"device part of {len(items)} (plain: PIL on one core)"
    unit = "images/s/core" if on_cpu else "images/s"
    yield timed_row("data", name, times, None, len(items), unit)
    torch.set_num_threads(threads)


def step_rows(settings: Settings, folder: Path, say: Say) -> Rows:
    """Forward and backward of each part, teacher and optimizer, and their sum."""

    def timed(pair):
        return race(*pair, settings.rounds, settings.device, clock(settings))

    model = read_config(CONFIGS / recipe(settings)).model
    if settings.device == "cuda":
        size = 64 if settings.quick else 224
        for name, pair in network_pairs(model, settings.batch, size, "cuda").items():
            say(f"step: {name}")
            yield timed_row("step", f"{name} (ours bf16, plain fp16)", timed(pair))
        del pair
        torch.cuda.empty_cache()
    networks = None
    for name, pair in Updates(*recipe_parameters(model, settings.device)).pairs().items():
        say(f"step: {name}, all networks")
        times = timed(pair)
        yield timed_row("step", f"{name}, all networks", times)
        networks = times if networks is None else added(networks, times)
    gc.collect()
    for k in settings.num_prototypes:
        step = Step(k, settings.batch, device=settings.device)
        parts = {}
        for name, pair in step.pairs().items():
            say(f"step: K = {k}, {name}")
            parts[name] = timed(pair)
            yield timed_row("step", f"K {k}: {name}", parts[name])
        whole = parts["all of these"]
        for name, pair in Updates([step.model.head.prototypes.weight], 1).pairs().items():
            times = timed(pair)
            yield timed_row("step", f"K {k}: {name}, prototypes", times)
            whole = added(whole, times)
        goal = settings.goal(STEP_GOALS, k)
        yield timed_row("step", f"K {k}: the whole part", whole, goal)
        yield timed_row("step", f"K {k}: and the networks' updates", added(whole, networks))
        del step, pair
        gc.collect()


def memory_rows(settings: Settings, folder: Path, say: Say) -> Rows:
    """Peak of forward and backward, without the networks."""
    for k in settings.num_prototypes:
        say(f"memory: K = {k}")
        sides = Step(k, settings.batch, device=settings.device).losses()
        ours, plain = (peak_bytes(side, settings.device) for side in sides)
        goal = settings.goal(MEMORY_GOALS, k)
        yield Row("memory", f"K {k}: peak", "bytes", ours, plain, goal=goal)


def exchange_rows(settings: Settings, folder: Path, say: Say) -> Rows:
    """Bytes that one of two gloo processes sends in a step, without the gradients."""
    say("exchange: two processes on the CPU")
    batch = min(settings.batch, 16)
    for k, result in exchange(list(settings.num_prototypes), batch).items():
        name, goal = f"K {k}: a process sends, batch {batch}", EXCHANGE_GOALS.get(k)
        yield Row("exchange", name, "traffic", result["ours"], result["plain"], goal=goal)


def all_rows(settings: Settings, folder: Path, say: Say) -> Rows:
    """The training loop with the real loader, one side after the other.

    What the workers have prepared meanwhile is used up, and everything compiled, before blocks
    count. Speeds are those of all counted steps together: waiting comes in bursts.
    """
    on_gpu, batch = settings.device == "cuda", settings.loop_batch
    recipe = on_gpu and not settings.quick
    paths = write_jpegs(folder / "loop", *SIZES[0], copies=1 if settings.quick else 16)
    name = f"training loop of {batch}, {'R50 for COCO, 224' if recipe else 'R18, small'} pixels"

    def measure(side: str, compiled: bool = False) -> Loop:
        try:
            loop = _loop(side, settings, paths, say, compiled)
        except Exception as error:
            say(f"all: {side} failed, {type(error).__name__}: {error}")
            return Loop()
        say(f"all: {side}, {loop.speed:,.0f} images/s, {loop.wait:.1%} of the time waiting")
        return loop

    ours = measure("ours", settings.compiled)
    if ours.speed is None and recipe and settings.compiled:
        name += ", ours not compiled"
        ours = measure("ours")
    plain = measure("plain")
    if plain.speed is None:
        yield Row("all", "plain training loop", "images/s", None, None)
    goals = dict(goal=2.0, value_goal=1640.0) if recipe else {}
    yield Row(
        *("all", name, "images/s", ours.speed, plain.speed, ours.spread, plain.spread), **goals
    )
    goal = 0.05 if recipe else None
    yield Row("all", "waiting for data", "share", ours.wait, plain.wait, value_goal=goal)
    if on_gpu:
        yield Row("all", "peak of the loop", "bytes", ours.peak, plain.peak)


class Loop(NamedTuple):
    """What was measured of a training loop; without arguments, of one that failed."""

    speed: float | None = None  # images a second
    spread: float = 0.0  # of the blocks' times, as a share
    wait: float | None = None  # share of the time that went by waiting for data
    peak: int | None = None  # bytes, on a GPU


def _loop(
    name: str, settings: Settings, paths: list[str], say: Say, compiled: bool = False
) -> Loop:
    gc.collect()  # what a loop before this one held, be it that it failed
    torch.cuda.empty_cache()
    device, batch, block = settings.device, settings.loop_batch, settings.block
    blocks = settings.loop_blocks if name == "ours" else settings.plain_blocks
    skipped = -(-settings.workers * PREFETCH // block) + 1
    steps = (skipped + blocks) * block
    say(f"all: {name}, {steps} steps of {batch}, {skipped * block} of them to warm up")
    arguments = paths, device, batch, steps, settings.workers, settings.quick, compiled
    cfg, stopwatch = loop_config(*arguments), BlockClock(device, block)
    size = cfg.train_dataloader.dataset.get("views", {}).get("size", 224)
    bytes_a_view = 3 * size**2 * (1 if name == "ours" else 4)  # 8-bit; float32
    check_shared_memory(settings.workers, batch, 2 * bytes_a_view)
    if name == "ours":
        run_ours(cfg, stopwatch)
    else:
        run_plainly(cfg, stopwatch, paths, device, steps)
    counted = slice(skipped, skipped + blocks)
    took, waited = stopwatch.took[counted], stopwatch.waited[counted]
    return Loop(
        speed=len(took) * block * batch / sum(took),
        spread=spread(took),
        wait=sum(waited) / sum(took),
        peak=max(stopwatch.peaks[counted], default=None),
    )


def largest_rows(settings: Settings, folder: Path, say: Say) -> Rows:
    """The largest batch that fits a GPU."""
    if settings.device != "cuda":
        raise ValueError("the largest batch is that of a GPU: --device cuda")
    say(f"largest: from {settings.loop_batch}")
    paths = write_jpegs(folder / "largest", *SIZES[0])
    cfg = loop_config(paths, "cuda", settings.loop_batch, 1, 0, settings.quick)
    most = largest_batch(cfg, settings.loop_batch, say)
    yield Row("largest", "batch, by doubling", "images", most, None)


TABLES = {
    "data": data_rows,
    "step": step_rows,
    "memory": memory_rows,
    "exchange": exchange_rows,
    "all": all_rows,
    "largest": largest_rows,
}


def recipe(settings: Settings) -> str:
    """Whose networks are measured: the R50 recipe's for COCO, quickly the demo's."""
    return "slotcon_r18_demo.py" if settings.quick else "slotcon_r50_coco.py"


def recipe_parameters(config: dict, device: str) -> tuple[list[torch.Tensor], int]:
    """Parameters of a model, and how many of the first of them the teacher has."""
    model = MODELS.build(config).to(device)
    followed = [p for part in model.student for p in part.parameters()]
    return [*followed, *model.head.predictor.parameters()], len(followed)


def added(times, more):
    """The times of two things that follow each other."""
    return type(times)(
        *([a + b for a, b in zip(*sides, strict=True)] for sides in zip(times, more, strict=True))
    )


def growth(settings: Settings, say: Say) -> dict[str, dict[str, list]]:
    """How time, memory and traffic grow with K, batch and processes.

    Returns:
        A curve each: {name: {"x": [..], "ours": [..], "plain": [..]}}; seconds and bytes.
    """
    many = (16, 64) if settings.quick else (256, 1024, 4096, 16384)
    batches = (2, 4) if settings.quick else (4, 16, 64)
    processes = (2,) if settings.quick else (2, 3, 4)
    curves = {}

    def add(name: str, x: int, ours: float, plain: float) -> None:
        curve = curves.setdefault(name, {"x": [], "ours": [], "plain": []})
        for key, value in zip(curve, (x, ours, plain), strict=True):
            curve[key].append(value)

    for axis, points in (
        ("K", [(k, 4) for k in many]),
        ("batch", [(many[0], batch) for batch in batches]),
    ):
        for k, batch in points:
            say(f"growth: K = {k}, batch = {batch}")
            step = Step(k, batch, device=settings.device)
            x, sides = (k if axis == "K" else batch), step.losses()
            times = race(*sides, max(settings.rounds // 2, 1), settings.device, clock(settings))
            add(f"time, {axis}", x, *map(statistics.median, times))
            add(f"memory, {axis}", x, *(peak_bytes(side, settings.device) for side in sides))
    for k, result in exchange(list(many), 4).items():
        add("bytes, K", k, result["ours"], result["plain"])
    for number in processes:
        say(f"growth: {number} processes")
        # What arrives at a process is what the others send.
        result = exchange([many[0]], 4, processes=number)[many[0]]
        sent = (result[side] * (number - 1) for side in ("ours", "plain"))
        add("bytes, processes", number, *sent)
    return curves
