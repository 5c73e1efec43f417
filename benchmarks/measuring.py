"""Measure two ways to compute the same: their times, peak memory and bytes communicated."""

import statistics
import time
from collections import Counter
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile
from torch.utils._python_dispatch import TorchDispatchMode

Pair = tuple[Callable[[], object], Callable[[], object]]  # (ours, plain)

# The position of each collective's input among its arguments.
INPUTS = {
    "allreduce_": 0,
    "allgather_": 1,
    "_allgather_base_": 1,
    "broadcast_": 0,
    "reduce_scatter_": 1,
    "_reduce_scatter_base_": 1,
    "barrier": None,
}


class Timed(NamedTuple):
    """Times of single runs, in seconds."""

    ours: list[float]
    plain: list[float]


def race(
    ours: Callable[[], object],
    plain: Callable[[], object],
    rounds: int,
    device: str = "cpu",
    clock: Callable[[], float] = time.perf_counter,
) -> Timed:
    """Run both alternately, so that a busy machine slows both, after one round of warm-up.

    Args:
        ours, plain: what is timed.
        rounds: number of rounds; which side runs first alternates.
        device: "cuda" waits for the device before the clock is read.
        clock: `time.process_time` counts the CPU time of this process instead of wall time; only
            for work that this process does on the CPU.
    """
    times = Timed([], [])
    for number in range(rounds + 1):
        sides = [(ours, times.ours), (plain, times.plain)]
        for run, record in sides if number % 2 else reversed(sides):
            _synchronize(device)
            start = clock()
            run()
            _synchronize(device)
            if number:
                record.append(clock() - start)
    return times


def spread(values: list[float]) -> float:
    """Half the distance between the quartiles, as a fraction of the median."""
    if len(values) < 4:
        return (max(values) - min(values)) / 2 / max(statistics.median(values), 1e-30)
    low, middle, high = statistics.quantiles(values, n=4)
    return (high - low) / 2 / middle


def _synchronize(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def peak_bytes(run: Callable[[], object], device: str = "cpu") -> int:
    """The largest number of bytes that `run` allocates at a time, after one run of warm-up.

    On a CUDA device the caching allocator counts. On the CPU every allocation and release of
    torch's CPU allocator that its profiler reports is added up in the order of time: temporary
    tensors inside operators are counted, memory of the libraries below torch (MKL, oneDNN) is not.
    """
    run()
    if device == "cuda":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        run()
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() - before
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as record:
        run()
    changes = [
        (event.start_ns(), event.nbytes())
        for event in record.profiler.kineto_results.events()
        if event.name() == "[memory]"
    ]
    allocated = peak = 0
    for _, change in sorted(changes, key=lambda pair: pair[0]):
        allocated += change
        peak = max(peak, allocated)
    return peak


class CountTraffic(TorchDispatchMode):
    """Context manager that counts the bytes of the tensors given to torch.distributed.

    It sees every collective, whichever Python function called it. How a backend splits a tensor
    (ring, tree) is not counted.

    Attributes:
        sent: bytes by the collective's name.
    """

    def __init__(self) -> None:
        super().__init__()
        self.sent: Counter = Counter()

    @property
    def total(self) -> int:
        """Bytes of all collectives."""
        return self.sent.total()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        """Count the input's bytes and run the function."""
        namespace, name = function._schema.name.split("::")
        if namespace == "c10d":
            if name not in INPUTS:
                raise NotImplementedError(
                    f"{name} is not in benchmarks.measuring.INPUTS: add the position of its input"
                )
            if INPUTS[name] is not None:
                tensors = args[INPUTS[name]]
                for tensor in [tensors] if isinstance(tensors, Tensor) else tensors:
                    self.sent[name] += tensor.numel() * tensor.element_size()
        return function(*args, **(kwargs or {}))
