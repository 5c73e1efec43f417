"""The training loop with its data loader, as `tools/train.py` runs it and in plain torch."""

import gc
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import psutil
import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.registry import MODELS
from mmengine.runner import Runner

from benchmarks.measuring import spread
from benchmarks.plain_training import PlainTrainer
from benchmarks.plain_training import train as train_plainly
from benchmarks.processes import CONFIGS
from slotcon_plugin.datasets.transforms import TwoViews
from slotcon_plugin.functional.alignment import ViewGeometry
from slotcon_plugin.optim.lars import SlotConLARS
from slotcon_plugin.runtime.config_options import read_config
from slotcon_plugin.runtime.fit_machine import fit_to_machine

SHARED = Path("/dev/shm")
PREFETCH = 1  # batches that a worker prepares in advance: few, to be used up soon


class BlockClock:
    """Times blocks of steps, for both sides in the same way.

    The clock synchronizes with the device at the end of a block only. Waiting is the host's time
    from the end of a step to the arrival of the next batch.

    Attributes:
        took: seconds of each block.
        spent: CPU seconds of it, of this process and the loader's workers.
        waited: seconds of it that the loop waited for data.
        peaks: bytes, on a GPU (a logger that resets the peak affects one block only).
    """

    def __init__(self, device: str, block: int) -> None:
        self.device, self.block = device, block
        self.took: list[float] = []
        self.spent: list[float] = []
        self.waited: list[float] = []
        self.peaks: list[int] = []
        self.steps, self.wait = 0, 0.0
        self.start = self.last = time.perf_counter()
        self.process, self.start_cpu = psutil.Process(), 0.0

    def data_arrived(self) -> None:
        """Call when a batch has arrived."""
        self.wait += time.perf_counter() - self.last

    def step_done(self) -> None:
        """Call at the end of a step."""
        self.steps += 1
        if self.steps % self.block == 0:
            if self.device == "cuda":
                torch.cuda.synchronize()
                self.peaks.append(torch.cuda.max_memory_allocated())
                torch.cuda.reset_peak_memory_stats()
            now, cpu = time.perf_counter(), self._cpu_time()
            self.took.append(now - self.start)
            self.spent.append(cpu - self.start_cpu)
            self.waited.append(self.wait)
            self.start, self.start_cpu, self.wait = now, cpu, 0.0
        self.last = time.perf_counter()

    def summary(self, batch: int, warm_up: int, blocks: int) -> "Loop":
        """What was measured after `warm_up` steps of `batch` images."""
        skipped = warm_up // self.block
        counted = slice(skipped, skipped + blocks)
        took, waited = self.took[counted], self.waited[counted]
        images = len(took) * self.block * batch
        return Loop(
            speed=images / sum(took),
            speed_a_core=images / sum(self.spent[counted]),
            spread=spread(took),
            wait=sum(waited) / sum(took),
            peak=max(self.peaks[counted], default=None),
        )

    def _cpu_time(self) -> float:
        everyone = [self.process, *self.process.children(recursive=True)]
        return sum(sum(one.cpu_times()[:2]) for one in everyone)


class Loop(NamedTuple):
    """Measurements of a training loop; without arguments, of one that failed."""

    speed: float | None = None  # images per second
    speed_a_core: float | None = None  # images per CPU second, of all processes
    spread: float = 0.0  # of the blocks' times, see `measuring.spread`
    wait: float | None = None  # fraction of the time spent waiting for data
    peak: int | None = None  # bytes, on a GPU


class DataArrived(Hook):
    """Reads the clock before every other hook."""

    def __init__(self, clock: BlockClock) -> None:
        self.clock = clock

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        self.clock.data_arrived()


class StepDone(Hook):
    """Reads the clock after every other hook."""

    def __init__(self, clock: BlockClock) -> None:
        self.clock = clock

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self.clock.step_done()


def check_shared_memory(workers: int, batch: int, bytes_a_image: int) -> None:
    """Check that the batches which the workers prepare fit into shared memory.

    Raises:
        RuntimeError: they do not; the workers would end with "Bus error".
    """
    batches = workers * PREFETCH + 2 if workers else 0  # prepared, and in use by the loop
    needed = batches * batch * bytes_a_image
    free = shutil.disk_usage(SHARED).free if SHARED.is_dir() else needed
    if needed > free:
        raise RuntimeError(
            f"{workers} workers prepare {needed / 2**20:,.0f} MiB, but {SHARED} has "
            f"{free / 2**20:,.0f} MiB free: enlarge it (docker run --shm-size), or take fewer with "
            "--workers"
        )


def loop_config(
    paths: list[str],
    device: str,
    batch: int,
    steps: int,
    workers: int,
    quick: bool = False,
    compiled: bool = True,
) -> Config:
    """On a GPU the ResNet-50 config for COCO, made fast; else, or if quick, the demo's config."""
    recipe = device == "cuda" and not quick
    options = ["train_dataloader.dataset.views.size=64"] if quick else []
    cfg = read_config(CONFIGS / f"slotcon_{'r50_coco' if recipe else 'r18_demo'}.py", options)
    one_epoch(cfg, batch, workers)
    loader = cfg.train_dataloader
    loader.dataset.source, loader.dataset.preset = paths, None
    loader.sampler.rounds = -(-batch * steps // len(paths))
    cfg.param_scheduler = dict(type="WarmupCosineLR", warmup=steps, by_epoch=False)
    cfg.model.channels_last, cfg.model.compile = recipe, recipe and compiled
    return cfg


def one_epoch(cfg: Config, batch: int, workers: int) -> None:
    """Train one epoch, with these sizes of the loader, and write nothing."""
    loader = cfg.train_dataloader
    loader.batch_size, loader.num_workers = batch, workers
    loader.persistent_workers = workers > 0
    if workers:
        loader.prefetch_factor = PREFETCH
    cfg.train_cfg.max_epochs = 1
    cfg.default_hooks.checkpoint = None
    cfg.visualizer = None
    cfg.log_level = "ERROR"


def run_ours(cfg: Config, clock: BlockClock, precision: str | None = None) -> None:
    """Train with MMEngine's runner.

    `precision` is for `fit_precision`; None is bfloat16 with channels last, the fastest combination
    on a GPU, else the config's.

    Raises:
        FloatingPointError: the weights are not finite: what was timed was no training.
    """
    if precision is None and cfg.model.channels_last:
        precision = "bf16"
    with tempfile.TemporaryDirectory() as folder:
        cfg.work_dir = folder
        fit_to_machine(cfg, "none", precision)
        runner = Runner.from_cfg(cfg)
        runner.register_hook(DataArrived(clock), "HIGHEST")
        runner.register_hook(StepDone(clock), "LOWEST")
        runner.train()
    if not all(p.isfinite().all() for p in runner.model.parameters()):
        raise FloatingPointError("weights are not finite after the loop")


def run_plainly(cfg: Config, clock: BlockClock, paths: list[str], device: str, steps: int) -> None:
    """Train the same networks with the same sizes in plain torch."""
    model = MODELS.build({**cfg.model, "compile": False, "channels_last": False})
    model.init_weights()
    views = dict(cfg.train_dataloader.dataset.get("views") or {})
    views.pop("type", None)
    loader = cfg.train_dataloader
    trainer, draws = PlainTrainer(model, device), TwoViews(**views)
    size = loader.batch_size, steps, loader.num_workers
    train_plainly(trainer, clock, paths, draws, *size, PREFETCH)


def largest_batch(cfg: Config, start: int, report: Callable[[str], None], most: int = 8192) -> int:
    """The largest batch size of `start`, 2 `start`, 4 `start`, ... that fits into GPU memory.

    Tried with two steps on noise, without torch.compile, which needs slightly less. Near the limit
    cuDNN may fail with another message than torch's; the message that ended the search is reported.

    Raises:
        RuntimeError: the first try failed.
    """
    fits = 0
    while 2 * fits <= most:
        try:
            _two_steps(cfg, batch := 2 * fits or start)
        except RuntimeError as error:  # OutOfMemoryError is one
            if not fits:
                raise
            report(f"largest: {batch} failed: {str(error).partition(chr(10))[0]}")
            break
        finally:
            gc.collect()
            torch.cuda.empty_cache()
        fits = batch
    return fits


def _two_steps(cfg: Config, batch: int) -> None:
    model = MODELS.build({**cfg.model, "compile": False}).cuda().train()
    model.init_weights()
    model.expect_teacher_moves()
    optimizer = SlotConLARS([p for p in model.parameters() if p.requires_grad], lr=0.1)
    views = list(torch.randn(2, batch, 3, 224, 224, device="cuda"))
    boxes = torch.tensor([0.0, 0.0, 1.0, 1.0], device="cuda").expand(2, batch, 4)
    geometry = ViewGeometry(boxes, torch.zeros(2, batch, dtype=torch.bool, device="cuda"))
    for _ in range(2):
        with torch.autocast("cuda", torch.bfloat16):
            losses = model(views, geometry, mode="loss")
        (losses["loss_group"] + losses["loss_slot"]).backward()
        optimizer.step()
        optimizer.zero_grad()
