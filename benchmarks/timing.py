"""Two ways to do one thing, timed in turns so that a busy machine slows both."""

import statistics
import time
from collections.abc import Callable
from typing import NamedTuple

import torch


class Timed(NamedTuple):
    """Times of one run each, in seconds."""

    ours: list[float]
    plain: list[float]


def race(
    ours: Callable[[], object],
    plain: Callable[[], object],
    rounds: int,
    device: str = "cpu",
    clock: Callable[[], float] = time.perf_counter,
) -> Timed:
    """Run both in turns, after one round that does not count.

    Args:
        ours, plain: what is timed.
        rounds: how often; who is first alternates.
        device: "cuda" waits for the device before the clock is read.
        clock: `time.process_time` counts the processor's time of this process instead of the
            wall's; only for what runs in this process on the CPU.
    """
    times = Timed([], [])
    for number in range(rounds + 1):
        sides = [(ours, times.ours), (plain, times.plain)]
        for run, record in sides if number % 2 else reversed(sides):
            _wait(device)
            start = clock()
            run()
            _wait(device)
            if number:
                record.append(clock() - start)
    return times


def spread(values: list[float]) -> float:
    """Half the distance between the quartiles, as a share of the median."""
    if len(values) < 4:
        return (max(values) - min(values)) / 2 / max(statistics.median(values), 1e-30)
    low, middle, high = statistics.quantiles(values, n=4)
    return (high - low) / 2 / middle


def _wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()
