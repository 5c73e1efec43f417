"""Which images each process sees, in what order, and the seed of each one's views."""

from collections.abc import Iterator, Sized

import numpy as np
import torch
import torch.distributed as dist
from torch.utils.data import Sampler

from ..functional.collectives import rank, world_size
from .seeding import Draw, SeededIndex, draw_seeds


class ImageSampler(Sampler[Draw]):
    """Walk over a data set in an order drawn anew each epoch; every process takes each n-th draw.

    With n processes of batch b the images of one step are those that one process with batch n·b
    would see. As with MMEngine's `DefaultSampler`, the order is continued from its beginning until
    the processes share it evenly (`round_up`); or else the last n - 1 processes may see one
    image fewer. Incomplete batches are the DataLoader's affair (`drop_last`).

    Args:
        dataset: anything with a length.
        shuffle: draw the order of each epoch; else the data set's own order.
        seed: the run's seed, equal in all processes. None draws one and shares it.
        round_up: give every process the same number of images.
        rounds: how often an epoch goes over the data set, each time in a new order and with new
            views. For a handful of images, so that an epoch is more than a batch.

    Iterating gives `Draw(index, seed)`, both plain integers.
    """

    def __init__(
        self,
        dataset: Sized,
        shuffle: bool = True,
        seed: int | None = None,
        round_up: bool = True,
        rounds: int = 1,
    ):
        if len(dataset) == 0:
            raise ValueError("the data set is empty: there is nothing to sample")
        if rounds < 1:
            raise ValueError(f"rounds is {rounds}, expected at least one round over the data set")
        self.dataset = dataset
        self.shuffle = shuffle
        self.seed = _shared_seed() if seed is None else int(seed)
        self.round_up = round_up
        self.rounds = rounds
        self.epoch = 0
        self.rank, self.world_size = rank(), world_size()

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch, from 0, whose order and views the next iteration gives."""
        self.epoch = int(epoch)

    def __len__(self) -> int:
        """Number of images this process sees in an epoch."""
        images = self.rounds * len(self.dataset)
        if self.round_up:
            return -(-images // self.world_size)
        return len(range(self.rank, images, self.world_size))

    def __iter__(self) -> Iterator[Draw]:
        first = self.epoch * self.rounds
        draws = [self._round(number) for number in range(first, first + self.rounds)]
        indices, seeds = (np.concatenate(column) for column in zip(*draws, strict=True))
        if self.round_up:  # continues from the beginning
            indices, seeds = (np.resize(c, len(self) * self.world_size) for c in (indices, seeds))
        mine = slice(self.rank, None, self.world_size)
        return (Draw(int(i), int(s)) for i, s in zip(indices[mine], seeds[mine], strict=True))

    def _round(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        """All images in the order of this round, counted from the run's start, and the seeds."""
        order_seed = self.seed + number if self.shuffle else None  # as MMEngine's DefaultSampler
        return round_of_draws(len(self.dataset), self.seed, number, order_seed)


class EndlessSampler(Sampler):
    """Draws images without end, each with a seed, for trainings that count iterations.

    It takes the place of MMEngine's `InfiniteSampler`: round after round over the data set, each in
    an order of its own. What it adds is the seed, from which `SeedFromDraw` at the head of a
    pipeline takes all chance of the augmentation: so that depends neither on the number of workers
    nor on when a training was resumed.

    Args:
        dataset: anything with a length.
        shuffle: draw the order of each round; else the data set's own order.
        seed: the run's seed, equal in all processes. None draws one and shares it.

    Iterating gives `SeededIndex`; every process takes each n-th draw.
    """

    def __init__(self, dataset: Sized, shuffle: bool = True, seed: int | None = None):
        if len(dataset) == 0:
            raise ValueError("the data set is empty: there is nothing to sample")
        self.dataset = dataset
        self.shuffle = shuffle
        self.seed = _shared_seed() if seed is None else int(seed)
        self.skipped = 0
        self.rank, self.world_size = rank(), world_size()

    def skip(self, num_samples: int) -> None:
        """Begin behind the first `num_samples` draws of this process. MMEngine's loop calls it when
        it resumes."""
        self.skipped = num_samples

    def __len__(self) -> int:
        """Number of images in a round."""
        return len(self.dataset)

    def __iter__(self) -> Iterator[SeededIndex]:
        size = len(self.dataset)
        position, known = self.skipped * self.world_size + self.rank, None
        while True:
            number, place = divmod(position, size)
            if number != known:
                known = number
                # Not a sum: runs of neighboring seeds would share their orders
                (order_seed,) = draw_seeds(self.seed, number, np.array([size]))
                order_seed = int(order_seed) if self.shuffle else None
                order, seeds = round_of_draws(size, self.seed, number, order_seed)
            yield SeededIndex(int(order[place]), int(seeds[place]))
            position += self.world_size


def round_of_draws(
    size: int, seed: int, number: int, order_seed: int | None
) -> tuple[np.ndarray, np.ndarray]:
    """The order of one round over a data set, (size,) indices, and a seed for each.

    Args:
        size: of the data set.
        seed: the run's.
        number: the round's, from 0.
        order_seed: of the order; None keeps the data set's own.
    """
    order = np.arange(size)
    if order_seed is not None:
        generator = torch.Generator().manual_seed(order_seed % 2**63)
        order = torch.randperm(size, generator=generator).numpy()
    return order, draw_seeds(seed, number, order)


def _shared_seed() -> int:
    """A random seed, the first process's in all of them."""
    seed = [int(torch.randint(2**31, ()))]
    if world_size() > 1:
        dist.broadcast_object_list(seed, src=0)
    return seed[0]
