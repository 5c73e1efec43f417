"""One seed for each draw: a function of the run's seed, the epoch and the picture only.

So a picture's views depend neither on the number of workers and processes, nor on when a run was
resumed.
"""

from typing import NamedTuple

import numpy as np


class Draw(NamedTuple):
    """What the sampler asks of the data set: this picture, with views drawn from this seed."""

    index: int
    seed: int


def draw_seeds(run_seed: int, epoch: int, indices: np.ndarray) -> np.ndarray:
    """Seeds of many draws.

    Args:
        run_seed: the run's seed, any integer.
        epoch: from 0.
        indices: (n,) integers, which pictures.

    Returns:
        (n,) int64, 0 to 2**63 - 1.
    """
    state = _mix(np.array(run_seed % 2**64, np.uint64))
    state = _mix(state ^ np.uint64(epoch))
    return (_mix(state ^ np.asarray(indices).astype(np.uint64)) >> np.uint64(1)).astype(np.int64)


def _mix(state: np.ndarray) -> np.ndarray:
    """SplitMix64 (Steele, Lea and Flood 2014): neighbouring inputs give unrelated outputs."""
    with np.errstate(over="ignore"):  # the arithmetic is modulo 2**64
        state = state + np.uint64(0x9E3779B97F4A7C15)
        state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return state ^ (state >> np.uint64(31))
