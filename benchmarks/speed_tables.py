"""The tables of `benchmarks/speed.py`: what is measured and which ratio is wanted."""

import gc
import time
from pathlib import Path

import torch
from mmengine.registry import MODELS

from benchmarks.measuring import peak_bytes, race
from benchmarks.processes import CONFIGS
from benchmarks.speed_data import SIZES, device_pair, worker_pair, write_jpegs
from benchmarks.speed_decoder import level_pair
from benchmarks.speed_exchange import exchange
from benchmarks.speed_loop import (
    BlockClock,
    Loop,
    check_shared_memory,
    largest_batch,
    loop_config,
    run_ours,
    run_plainly,
)
from benchmarks.speed_methods import method_rows
from benchmarks.speed_networks import network_pairs, step_pair
from benchmarks.speed_report import Row, timed_row
from benchmarks.speed_settings import Report, Rows, Settings, clock
from benchmarks.speed_step import Step, Updates
from slotcon_plugin.datasets.transforms import TwoViews
from slotcon_plugin.runtime.config_options import read_config

STEP_GOALS = {256: 2.0, 2048: 5.0}
MEMORY_GOALS = {2048: 2.0}
EXCHANGE_GOALS = {256: 5.0, 2048: 20.0}


def data_rows(settings: Settings, folder: Path, report: Report) -> Rows:
    """The data pipeline: the part in a loader's worker for two image sizes, and the device part."""
    draws = TwoViews(size=64 if settings.quick else 224)
    threads = torch.get_num_threads()
    on_cpu = settings.device == "cpu"
    for width, height in SIZES[: 1 if settings.quick else 2]:
        report(f"data: {width} x {height}")
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


def step_rows(settings: Settings, folder: Path, report: Report) -> Rows:
    """Forward and backward pass of each part, teacher and optimizer, and their sum."""

    def timed(pair):
        return race(*pair, settings.rounds, settings.device, clock(settings))

    model = read_config(CONFIGS / recipe(settings)).model
    if settings.device == "cuda":
        size = 64 if settings.quick else 224
        for name, pair in network_pairs(model, settings.batch, size, "cuda").items():
            report(f"step: {name}")
            yield timed_row("step", f"{name} (ours bf16, plain fp16)", timed(pair))
        del pair
        torch.cuda.empty_cache()
    networks = None
    for name, pair in Updates(*recipe_parameters(model, settings.device)).pairs().items():
        report(f"step: {name}, all networks")
        times = timed(pair)
        yield timed_row("step", f"{name}, all networks", times)
        networks = times if networks is None else added(networks, times)
    gc.collect()
    for k in settings.num_prototypes:
        step = Step(k, settings.batch, device=settings.device)
        parts = {}
        for name, pair in step.pairs().items():
            report(f"step: K = {k}, {name}")
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


def encoder_rows(settings: Settings, folder: Path, report: Report) -> Rows:
    """A step of the configs with timm's encoders, without its data."""
    on_cpu = settings.device == "cpu"
    batch = max(settings.batch // 8, 1) if on_cpu else min(settings.batch, 128)
    size = 64 if settings.quick else 128 if on_cpu else 224
    for name in ("vit_small", "convnext_tiny"):
        title = f"a step of slotcon_{name}_coco, {batch} images of {size} pixels"
        report(f"encoders: {title}")
        options = [f"model.backbone.name=test_{name.partition('_')[0]}"] if settings.quick else []
        cfg = read_config(CONFIGS / f"slotcon_{name}_coco.py", options)
        pair = step_pair(cfg, batch, size, settings.device)
        times = race(*pair, min(settings.rounds, 5), settings.device, clock(settings))
        yield timed_row("encoders", title, times)
        del pair
        gc.collect()


def memory_rows(settings: Settings, folder: Path, report: Report) -> Rows:
    """Peak memory of forward and backward pass, without the networks."""
    for k in settings.num_prototypes:
        report(f"memory: K = {k}")
        sides = Step(k, settings.batch, device=settings.device).losses()
        ours, plain = (peak_bytes(side, settings.device) for side in sides)
        goal = settings.goal(MEMORY_GOALS, k)
        yield Row("memory", f"K {k}: peak", "bytes", ours, plain, goal=goal)


def exchange_rows(settings: Settings, folder: Path, report: Report) -> Rows:
    """Bytes that one of two gloo processes sends in a step, gradients excluded."""
    report("exchange: two processes on the CPU")
    batch = min(settings.batch, 16)
    for k, result in exchange(list(settings.num_prototypes), batch).items():
        name, goal = f"K {k}: a process sends, batch {batch}", EXCHANGE_GOALS.get(k)
        yield Row("exchange", name, "traffic", result["ours"], result["plain"], goal=goal)


def decoder_rows(settings: Settings, folder: Path, report: Report) -> Rows:
    """The finest level of a decoder, 56 × 56: time and peak memory of a step; bytes sent.

    On a CPU all widths and K are a quarter of the recipe's: the ratios of the maps' sizes are the
    same, in a sixteenth of the time.
    """
    on_cpu, size = settings.device == "cpu", 8 if settings.quick else 56
    dim, batch = 16 if settings.quick else 64 if on_cpu else 256, max(settings.batch // 8, 1)
    name = f"level of {size}×{size}, {batch} images, projector {16 * dim} wide, K {dim}"
    report(f"decoder: {name}")
    pair = level_pair(batch, size, 16 * dim, dim, dim, settings.device)
    times = race(*pair, min(settings.rounds, 3), settings.device, clock(settings))
    yield timed_row("decoder", name, times)
    ours, plain = (peak_bytes(side, settings.device) for side in pair)
    yield Row("decoder", f"{name}: peak", "bytes", ours, plain, goal=4.0)
    result = exchange([256], min(batch, 2), size)[256]
    yield Row(
        "decoder",
        "a process sends, every prototype active",
        "traffic",
        result["ours"],
        result["plain"],
    )


def all_rows(settings: Settings, folder: Path, report: Report) -> Rows:
    """The training loop with the real data loader, one side after the other.

    The first blocks are not timed: they use up what the workers prepared before, and compile. The
    speed is that of all timed steps together, because waiting times are irregular.
    """
    on_gpu, batch = settings.device == "cuda", settings.loop_batch
    recipe = on_gpu and not settings.quick
    paths = write_jpegs(folder / "loop", *SIZES[0], copies=1 if settings.quick else 16)
    name = f"training loop of {batch}, {'R50 for COCO, 224' if recipe else 'R18, small'} pixels"

    def measure(side: str, compiled: bool = False) -> Loop:
        try:
            loop = _loop(side, settings, paths, report, compiled)
        except Exception as error:
            report(f"all: {side} failed, {type(error).__name__}: {error}")
            return Loop()
        report(f"all: {side}, {loop.speed:,.0f} images/s, {loop.wait:.1%} of the time waiting")
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


def _loop(
    name: str, settings: Settings, paths: list[str], report: Report, compiled: bool = False
) -> Loop:
    gc.collect()  # release what an earlier loop, even a failed one, allocated
    torch.cuda.empty_cache()
    device, batch = settings.device, settings.loop_batch
    blocks = settings.loop_blocks if name == "ours" else settings.plain_blocks
    steps, warm_up = settings.loop_steps(blocks)
    report(f"all: {name}, {steps} steps of {batch}, {warm_up} of them to warm up")
    arguments = paths, device, batch, steps, settings.workers, settings.quick, compiled
    cfg, stopwatch = loop_config(*arguments), BlockClock(device, settings.block)
    size = cfg.train_dataloader.dataset.get("views", {}).get("size", 224)
    bytes_a_view = 3 * size**2 * (1 if name == "ours" else 4)  # 8-bit; float32
    check_shared_memory(settings.workers, batch, 2 * bytes_a_view)
    if name == "ours":
        run_ours(cfg, stopwatch)
    else:
        run_plainly(cfg, stopwatch, paths, device, steps)
    return stopwatch.summary(batch, warm_up, blocks)


def largest_rows(settings: Settings, folder: Path, report: Report) -> Rows:
    """The largest batch size that fits a GPU."""
    if settings.device != "cuda":
        raise ValueError("the largest batch size is measured on a GPU only: --device cuda")
    report(f"largest: from {settings.loop_batch}")
    paths = write_jpegs(folder / "largest", *SIZES[0])
    cfg = loop_config(paths, "cuda", settings.loop_batch, 1, 0, settings.quick)
    most = largest_batch(cfg, settings.loop_batch, report)
    yield Row("largest", "batch, by doubling", "images", most, None)


TABLES = {
    "data": data_rows,
    "step": step_rows,
    "memory": memory_rows,
    "exchange": exchange_rows,
    "decoder": decoder_rows,
    "encoders": encoder_rows,
    "methods": method_rows,
    "all": all_rows,
    "largest": largest_rows,
}


def recipe(settings: Settings) -> str:
    """The config whose networks are measured: ResNet-50 for COCO, with --quick the demo's."""
    return "slotcon_r18_demo.py" if settings.quick else "slotcon_r50_coco.py"


def recipe_parameters(config: dict, device: str) -> tuple[list[torch.Tensor], int]:
    """Parameters of a model, and the number of those that the teacher has too, which are first."""
    model = MODELS.build(config).to(device)
    followed = [p for part in model.student for p in part.parameters()]
    return [*followed, *model.head.predictor.parameters()], len(followed)


def added(times, more):
    """Times of two consecutive parts."""
    return type(times)(
        *([a + b for a, b in zip(*sides, strict=True)] for sides in zip(times, more, strict=True))
    )
