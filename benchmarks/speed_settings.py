"""Sizes and repetitions of `benchmarks/speed.py`, for all of its tables."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch

from benchmarks.speed_loop import PREFETCH
from benchmarks.speed_report import Row


@dataclass
class Settings:
    """Sizes and numbers of repetitions."""

    num_prototypes: tuple[int, ...] = (256, 2048)
    batch: int = 64
    device: str = "cpu"
    rounds: int = 7
    quick: bool = False
    loop_batch: int = 16
    loop_blocks: int = 4  # timed blocks of our loop
    plain_blocks: int = 4  # and of the plain loop
    block: int = 3  # steps in a block
    workers: int = 2
    compiled: bool = True  # torch.compile in the loop on a GPU

    def goal(self, goals: dict[int, float], k: int) -> float | None:
        """The wanted ratio, on a CPU only."""
        return goals.get(k) if self.device == "cpu" else None

    def loop_steps(self, blocks: int) -> tuple[int, int]:
        """Steps of a loop with so many timed blocks, and those of them that are not timed.

        The first blocks use up what the workers prepared before, and compile.
        """
        warm_up = (-(-self.workers * PREFETCH // self.block) + 1) * self.block
        return warm_up + blocks * self.block, warm_up


Report = Callable[[str], None]  # prints a line of progress
Rows = Iterator[Row]


def clock(settings: Settings) -> Callable[[], float]:
    """CPU time with one thread on the CPU, which other programs disturb less; else wall time."""
    alone = settings.device == "cpu" and torch.get_num_threads() == 1
    return time.process_time if alone else time.perf_counter
