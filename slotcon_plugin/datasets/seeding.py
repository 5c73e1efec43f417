"""One seed for each draw: a function of the run's seed, the epoch and the image only.

So an image's views depend neither on the number of workers and processes, nor on when a run was
resumed.
"""

import random
from typing import NamedTuple

import numpy as np
import torch
from torch.utils.data import get_worker_info

from ..functional.collectives import rank


class Draw(NamedTuple):
    """What the sampler asks of the data set: this image, with views drawn from this seed."""

    index: int
    seed: int


class SeededIndex(int):
    """An index that carries its draw's seed through the data sets of MMEngine.

    They hand an index on to the samples they are made of by subtracting an offset or taking a
    remainder, and put it into the sample as `sample_idx`.
    """

    seed: int

    def __new__(cls, index: int, seed: int) -> "SeededIndex":
        """An index from 0, with the seed of this draw."""
        made = super().__new__(cls, index)
        made.seed = seed
        return made

    def __reduce__(self) -> tuple:
        """Loading workers get it pickled."""
        return SeededIndex, (int(self), self.seed)

    def __sub__(self, offset: int) -> "SeededIndex":
        return SeededIndex(int(self) - int(offset), self.seed)

    def __mod__(self, length: int) -> "SeededIndex":
        return SeededIndex(int(self) % int(length), self.seed)


class SeedFromDraw:
    """The first transform of a pipeline: all later ones draw from this image's own seed.

    Nothing happens to a sample that `EndlessSampler` did not draw.
    """

    def __call__(self, results: dict) -> dict:
        """Seed Python's, numpy's and torch's random numbers of this process."""
        index = results.get("sample_idx")
        if isinstance(index, SeededIndex):
            seed_everything(index.seed)
        return results


def seed_everything(seed: int) -> None:
    """Begin Python's, numpy's and torch's (CPU and GPUs) random numbers anew.

    Args:
        seed: 0 to 2**63 - 1.
    """
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


def fresh_seed(index: int) -> int:
    """A new seed at every call, 0 to 2**63 - 1, from torch's random numbers in this process.

    The same seed of torch and the same number of workers give the same seeds again. MMEngine starts
    the workers of every epoch with the same random numbers, and processes often have the same seed:
    the DataLoader's seed of this worker, the process's rank and the image's index are mixed in.
    """
    worker = get_worker_info()
    loader_seed = 0 if worker is None else worker.seed
    number = int(torch.randint(2**63 - 1, (), device="cpu"))
    return int(draw_seeds(number ^ loader_seed, rank(), np.array(index)))


def draw_seeds(run_seed: int, epoch: int, indices: np.ndarray) -> np.ndarray:
    """Seeds of many draws.

    Args:
        run_seed: the run's seed, any integer.
        epoch: from 0.
        indices: (n,) integers, which images.

    Returns:
        (n,) int64, 0 to 2**63 - 1.
    """
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
