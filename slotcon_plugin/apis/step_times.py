"""Steps of a training, timed before it starts."""

import statistics
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from mmengine.config import Config
from mmengine.hooks import CheckpointHook
from mmengine.logging import MMLogger
from mmengine.runner import Runner

from ..functional.collectives import mean_over_processes, world_size
from ..runtime.fit_machine import global_batch
from .training_plan import rehearsal

WARM_UP = 2  # steps at least that are not timed: kernels are chosen, memory is requested


class StepTimes(NamedTuple):
    """Times of optimizer steps, means over the processes; a step has all accumulated iterations."""

    seconds: list[float]  # of each step, without waiting for data; wall time
    waiting: list[float]  # for the data of each step, seconds
    images: int  # of a step, of all processes

    @property
    def step(self) -> float:
        """Seconds of a step: the median, and the mean of the waiting, which comes in bursts."""
        return statistics.median(self.seconds) + statistics.fmean(self.waiting)

    @property
    def images_per_second(self) -> float:
        """Of all processes together."""
        return self.images / self.step

    @property
    def data_wait(self) -> float:
        """The share of the time that is spent waiting for data, 0-1."""
        return statistics.fmean(self.waiting) / self.step

    @property
    def spread(self) -> float | None:
        """Half the distance between the quartiles of the steps' seconds, over their median; None
        of a single step."""
        if len(self.seconds) < 2:
            return None
        low, middle, high = statistics.quantiles(self.seconds, n=4, method="inclusive")
        return (high - low) / 2 / middle


def time_steps(
    cfg: Config,
    start: dict | None = None,
    steps: int = 10,
    max_seconds: float = float("inf"),
    watch: Callable[[StepTimes, int], object] = lambda times, left: None,
) -> StepTimes:
    """Time the first steps of a training, with its data loader, hooks and batch size.

    The Runner is the training's, but works in a temporary folder and writes no checkpoint. The
    batches that the loading workers prepare in advance are used up before a step is timed. The
    numbers of the training do not change: seeds are set when its own Runner is built. In a training
    of several processes each must call this, and each gets the same times.

    Args:
        cfg: adapted to the machine; it is not changed.
        start: the content of the checkpoint that the training starts from, if any.
        steps: number of timed optimizer steps; there are at least as many as loading workers.
        max_seconds: after these the times so far are returned: of at least one step, however long
            it takes. The preparation of images and model is not counted.
        watch: is called after each step, those of the warm-up too, with the times so far and the
            number of steps that are left.

    Raises ConfigError, DataError or CheckpointError for what cannot be trained, and TrainingStopped
    after losses that are not finite.
    """
    times = StepTimes([], [], global_batch(cfg, world_size()))
    with rehearsal(cfg, start) as runner:

        def run() -> None:
            MMLogger.get_current_instance().setLevel("ERROR")  # the training will warn
            for left in _take_steps(runner, times, steps, max_seconds):
                watch(times, left)

        runner.train_loop.run = run
        runner.train()
    return times


def _take_steps(runner: Runner, times: StepTimes, steps: int, max_seconds: float) -> Iterator[int]:
    """Append to `times`; the number of steps that are left, after each."""
    loader, accumulated = runner.train_dataloader, runner.cfg.optim_wrapper
    accumulated = accumulated.get("accumulative_counts", 1)
    warm_up = max(WARM_UP, loader.num_workers * (loader.prefetch_factor or 0))
    timed = max(steps, loader.num_workers)
    device = next(runner.model.parameters()).device
    runner._hooks = [hook for hook in runner.hooks if not isinstance(hook, CheckpointHook)]
    runner.call_hook("before_train")
    runner.model.train()
    batches, end = _batches(runner), time.monotonic() + max_seconds
    late = False
    while timed and not (late and times.seconds):
        busy = waiting = 0.0
        for _ in range(accumulated):
            asked = time.monotonic()
            index, batch = next(batches)
            given = time.monotonic()
            _iterate(runner, index, batch)
            if device.type == "cuda":
                torch.cuda.synchronize()
            waiting += given - asked
            busy += time.monotonic() - given
        row = [busy, waiting, float(time.monotonic() > end)]
        row = torch.tensor(row, dtype=torch.float64, device=device)
        busy, waiting, late = mean_over_processes(row).tolist()  # late: of any process
        if warm_up:
            warm_up = 0 if late else warm_up - 1
        else:
            times.seconds.append(busy)
            times.waiting.append(waiting)
            timed -= 1
        yield warm_up + timed


def _batches(runner: Runner) -> Iterator[tuple[int, dict]]:
    """The training's batches with their numbers in the epoch, one epoch after the other."""
    while True:
        runner.call_hook("before_train_epoch")
        yield from enumerate(runner.train_dataloader)
        runner.train_loop._epoch += 1


def _iterate(runner: Runner, index: int, batch: dict) -> None:
    """One iteration, as MMEngine's loops take it; the last one is repeated, not left behind."""
    runner.call_hook("before_train_iter", batch_idx=index, data_batch=batch)
    outputs = runner.model.train_step(batch, optim_wrapper=runner.optim_wrapper)
    runner.call_hook("after_train_iter", batch_idx=index, data_batch=batch, outputs=outputs)
    runner.train_loop._iter = min(runner.train_loop._iter + 1, runner.max_iters - 1)
