"""The tables of `tools/speed.py`: what is measured, beside what, against which goal on a CPU."""

import gc
import os
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from mmengine.registry import MODELS
from speed_data import SIZES, device_pair, worker_pair, write_jpegs
from speed_exchange import exchange
from speed_loop import CONFIGS, loop_config, run_ours, run_plainly
from speed_step import Step, Updates

from slotcon_plugin.benchmark.memory import peak_bytes
from slotcon_plugin.benchmark.report import Row, timed_row
from slotcon_plugin.benchmark.timing import race
from slotcon_plugin.data.views import TwoViews
from slotcon_plugin.engine.options import read_config

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
    loop_steps: int = 12
    loop_batch: int = 16
    workers: int = 2


Say = Callable[[str], None]


def clock(settings: Settings) -> Callable[[], float]:
    """With one thread on the CPU the processor's time, which other programs disturb less."""
    alone = settings.device == "cpu" and torch.get_num_threads() == 1
    return time.process_time if alone else time.perf_counter


def data_rows(settings: Settings, folder: Path, say: Say) -> list[Row]:
    """The worker part and the device part of the pipeline, at two sizes."""
    rows = []
    draws = TwoViews(size=64 if settings.quick else 224)
    threads = torch.get_num_threads()
    for width, height in SIZES[: 1 if settings.quick else 2]:
        say(f"data: {width} x {height}")
        paths = write_jpegs(folder / f"{width}x{height}", width, height)
        torch.set_num_threads(1)  # as in a worker
        pair = worker_pair(paths, draws)
        times = race(*pair, rounds=settings.rounds, clock=time.process_time)
        name, unit = f"worker part, {width}×{height}", "pictures/s/core"
        rows.append(timed_row("data", name, times, 4.0, len(paths), unit))
    items = pair[0]() * (1 if settings.quick else max(settings.batch // len(paths), 1))
    torch.set_num_threads(1 if settings.device == "cpu" else threads)
    times = race(
        *device_pair(items, settings.device), settings.rounds, settings.device, clock(settings)
    )
    unit = "pictures/s/core" if settings.device == "cpu" else "pictures/s"
    rows.append(timed_row("data", "device part", times, None, len(items), unit))
    torch.set_num_threads(threads)
    return rows


def step_rows(settings: Settings, folder: Path, say: Say) -> list[Row]:
    """Forward and backward of each part, teacher and optimiser, and their sum."""
    rows = []
    networks = None
    for name, pair in Updates(*recipe_parameters(settings)).pairs().items():
        say(f"step: {name}, all networks")
        times = race(*pair, settings.rounds, settings.device, clock(settings))
        rows.append(timed_row("step", f"{name}, all networks", times))
        networks = times if networks is None else added(networks, times)
    gc.collect()
    for k in settings.num_prototypes:
        step = Step(k, settings.batch, device=settings.device)
        weights = [step.model.head.prototypes.weight]
        small = Updates([weights[0].expand(k, -1)], 1).pairs()
        whole = None
        for name, pair in step.pairs().items():
            say(f"step: K = {k}, {name}")
            times = whole = race(*pair, settings.rounds, settings.device, clock(settings))
            rows.append(timed_row("step", f"K {k}: {name}", times))
        for name, pair in small.items():
            times = race(*pair, settings.rounds, settings.device, clock(settings))
            whole = added(whole, times)
            rows.append(timed_row("step", f"K {k}: {name}, prototypes", times))
        goal = STEP_GOALS.get(k)
        rows.append(timed_row("step", f"K {k}: the whole part", whole, goal))
        whole = added(whole, networks)
        rows.append(timed_row("step", f"K {k}: and the networks' updates", whole))
        del step, small
        gc.collect()
    return rows


def memory_rows(settings: Settings, folder: Path, say: Say) -> list[Row]:
    """Peak of forward and backward, without the networks."""
    rows = []
    for k in settings.num_prototypes:
        say(f"memory: K = {k}")
        sides = Step(k, settings.batch, device=settings.device).losses()
        ours, plain = (peak_bytes(side, settings.device) for side in sides)
        rows.append(Row("memory", f"K {k}: peak", "bytes", ours, plain, goal=MEMORY_GOALS.get(k)))
    return rows


def exchange_rows(settings: Settings, folder: Path, say: Say) -> list[Row]:
    """Bytes that one of two gloo processes sends in a step, without the gradients."""
    say("exchange: two processes on the CPU")
    batch = min(settings.batch, 16)
    found = exchange(list(settings.num_prototypes), batch)
    return [
        Row(
            "exchange",
            f"K {k}: a process sends",
            "traffic",
            result["ours"],
            result["plain"],
            goal=EXCHANGE_GOALS.get(k),
        )
        for k, result in found.items()
    ]


def all_rows(settings: Settings, folder: Path, say: Say) -> list[Row]:
    """The training loop with the real loader; the first quarter of the steps does not count."""
    copies = 1 if settings.quick else 16
    paths = write_jpegs(folder / "loop", *SIZES[0], copies)
    options = ["train_dataloader.dataset.views.size=64"] if settings.quick else []
    steps, batch = settings.loop_steps, settings.loop_batch
    arguments = (paths, settings.device, batch, steps, settings.workers, options)
    say(f"all: {steps} plain steps of {batch}")
    try:
        plain = run_plainly(loop_config(*arguments), paths, settings.device, steps)
    except torch.OutOfMemoryError:
        say("all: the plain loop does not fit into this device's memory")
        plain = None
    gc.collect()
    torch.cuda.empty_cache()
    say(f"all: {steps} steps of ours")
    ours = run_ours(loop_config(*arguments))
    speeds, waits = [], []
    for side in (ours, plain):
        took, waited = (times[len(times) // 4 :] for times in side) if side else ([], [])
        speeds.append(batch * len(took) / sum(took) if took else None)
        waits.append(sum(waited) / sum(took) if took else None)
    encoder = "R50 recipe, COCO" if settings.device == "cuda" else "R18, 128 pixels"
    return [
        Row("all", f"training loop, {encoder}", "pictures/s", *speeds),
        Row("all", "waiting for data", "share", *waits),
    ]


TABLES = {
    "data": data_rows,
    "step": step_rows,
    "memory": memory_rows,
    "exchange": exchange_rows,
    "all": all_rows,
}


def recipe_parameters(settings: Settings) -> tuple[list[torch.Tensor], int]:
    """Parameters of the R50 recipe (quick: of the demo's), and how many of them the teacher has."""
    name = "slotcon_r18_demo.py" if settings.quick else "slotcon_r50_coco.py"
    model = MODELS.build(read_config(CONFIGS / name).model).to(settings.device)
    followed = [p for part in model.student for p in part.parameters()]
    return [*followed, *model.head.predictor.parameters()], len(followed)


def added(times, more):
    """The times of two things that follow each other."""
    return type(times)(
        *([a + b for a, b in zip(*sides, strict=True)] for sides in zip(times, more, strict=True))
    )


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if os.name == "posix" else os.cpu_count() or 1


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
