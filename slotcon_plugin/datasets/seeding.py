"""Seeds of single draws: functions of the training's seed, the epoch and the image only.

So an image's views depend neither on the number of workers and processes nor on interruptions.
"""

import random
from typing import NamedTuple

import numpy as np
import torch
from torch.utils.data import get_worker_info

from ..functional.collectives import rank


class Draw(NamedTuple):
    """An index of `UnlabeledImages`: which image, and the seed of its views."""

    index: int
    seed: int


class SeededIndex(int):
    """An index of MMEngine's datasets, also of concatenated ones, with the seed of its draw."""

    seed: int

    def __new__(cls, index: int, seed: int) -> "SeededIndex":
        made = super().__new__(cls, index)
        made.seed = seed
        return made

    def __reduce__(self) -> tuple:
        return SeededIndex, (int(self), self.seed)  # workers receive it pickled

    def __sub__(self, offset: int) -> "SeededIndex":
        return SeededIndex(int(self) - int(offset), self.seed)

    def __mod__(self, length: int) -> "SeededIndex":
        return SeededIndex(int(self) % int(length), self.seed)


class SeedFromDraw:
    """The first transform of a pipeline: seeds the later ones with the draw of `EndlessSampler`."""

    def __call__(self, results: dict) -> dict:
        index = results.get("sample_idx")
        if isinstance(index, SeededIndex):
            seed_everything(index.seed)
        return results


def seed_everything(seed: int) -> None:
    """Seed the random numbers of Python, NumPy and torch (CPU and GPUs) with 0 to 2**63 - 1."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


def fresh_seed(index: int) -> int:
    """A new seed at every call, 0 to 2**63 - 1, from torch's random numbers in this process.

    MMEngine starts the workers of every epoch with the same random numbers, and processes often
    have the same seed: the DataLoader's seed of this worker, the process's rank and the image's
    index are mixed in.
    """
    worker = get_worker_info()
    number = int(torch.randint(2**63 - 1, (), device="cpu"))
    return int(draw_seeds(number ^ (worker.seed if worker else 0), rank(), index))


def draw_seeds(run_seed: int, epoch: int, indices: np.ndarray | list[int] | int) -> np.ndarray:
    """Seeds of draws, int64, 0 to 2**63 - 1, of the shape of `indices`; any integer is a seed."""
    state = _mix(np.array(run_seed % 2**64, np.uint64))
    state = _mix(state ^ np.uint64(epoch))
    return (_mix(state ^ np.asarray(indices).astype(np.uint64)) >> np.uint64(1)).astype(np.int64)


def _mix(state: np.ndarray) -> np.ndarray:
    """SplitMix64 (Steele, Lea and Flood 2014): neighboring inputs give unrelated outputs."""
    with np.errstate(over="ignore"):  # the arithmetic is modulo 2**64
        state = state + np.uint64(0x9E3779B97F4A7C15)
        state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return state ^ (state >> np.uint64(31))
