"""Which images each process loads, in what order, and the seed of each one's views."""

import math
from collections.abc import Iterator, Sized

import numpy as np
import torch
from mmengine.dist import sync_random_seed
from torch.utils.data import Sampler

from ..functional.checks import check_flags, check_integers
from ..functional.collectives import rank, world_size
from .seeding import Draw, SeededIndex, draw_seeds


class SeededSampler(Sampler):
    """What `ImageSampler` and `EndlessSampler` share; n processes take every n-th draw.

    Args:
        dataset: anything with a length.
        shuffle: draw a new order for each pass over the dataset; otherwise keep its own.
        seed: seed of the training, the same in all processes. None draws one and shares it.
    """

    def __init__(self, dataset: Sized, shuffle: bool = True, seed: int | None = None):
        if len(dataset) == 0:
            raise ValueError("the dataset is empty: there is nothing to sample")
        check_flags(shuffle=shuffle)
        if seed is not None:
            check_integers(-math.inf, seed=seed)
        self.dataset = dataset  # mmdet's batch sampler by aspect ratio reads it
        self.size, self.shuffle = len(dataset), shuffle
        self.seed = sync_random_seed() if seed is None else int(seed)
        self.rank, self.world_size = rank(), world_size()

    def draws(self, number: int, order_seed: int) -> tuple[np.ndarray, np.ndarray]:
        """Indices and seeds, each (size,), of pass `number` over the dataset, from 0."""
        indices = np.arange(self.size)
        if self.shuffle:
            generator = torch.Generator().manual_seed(order_seed % 2**63)
            indices = torch.randperm(self.size, generator=generator).numpy()
        return indices, draw_seeds(self.seed, number, indices)


class ImageSampler(SeededSampler):
    """Sample a dataset once in each epoch; iterating gives a `Draw` of two integers for each image.

    The images of one step of n processes with batch size b are those of one process with n·b.

    Args:
        dataset, shuffle, seed: see `SeededSampler`.
        round_up: repeat the first draws until all processes have the same number, as MMEngine's
            `DefaultSampler` does; otherwise the last processes may have one image less.
        rounds: passes over the dataset in one epoch, each with a new order and new views, for
            datasets of few images.
    """

    def __init__(
        self,
        dataset: Sized,
        shuffle: bool = True,
        seed: int | None = None,
        round_up: bool = True,
        rounds: int = 1,
    ):
        super().__init__(dataset, shuffle, seed)
        check_integers(1, rounds=rounds)
        check_flags(round_up=round_up)
        self.round_up, self.rounds, self.epoch = round_up, rounds, 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch, from 0, whose order and views the next iteration gives."""
        self.epoch = int(epoch)

    def __len__(self) -> int:  # the images of this process in an epoch
        images = self.rounds * self.size
        if self.round_up:
            return -(-images // self.world_size)
        return len(range(self.rank, images, self.world_size))

    def __iter__(self) -> Iterator[Draw]:
        first = self.epoch * self.rounds
        # The order's seed is that of MMEngine's DefaultSampler.
        draws = [self.draws(n, self.seed + n) for n in range(first, first + self.rounds)]
        indices, seeds = (np.concatenate(column) for column in zip(*draws, strict=True))
        if self.round_up:
            indices, seeds = (np.resize(c, len(self) * self.world_size) for c in (indices, seeds))
        own = slice(self.rank, None, self.world_size)
        return map(Draw, indices[own].tolist(), seeds[own].tolist())


class EndlessSampler(SeededSampler):
    """Sample a dataset without end; iterating gives a `SeededIndex` for each image.

    For trainings that count iterations, like MMEngine's `InfiniteSampler`, but with a seed for each
    image, from which a pipeline that begins with `SeedFromDraw` takes its random numbers.
    """

    skipped = 0

    def skip(self, num_samples: int) -> None:
        """Start after this process's first `num_samples` draws; MMEngine calls it on resume."""
        self.skipped = num_samples

    def __len__(self) -> int:
        return self.size

    def __iter__(self) -> Iterator[SeededIndex]:
        position, current = self.skipped * self.world_size + self.rank, None
        while True:
            number, offset = divmod(position, self.size)
            if number != current:
                current = number
                # Not a sum: trainings with neighboring seeds would share orders.
                indices, seeds = self.draws(number, int(draw_seeds(self.seed, number, self.size)))
            yield SeededIndex(int(indices[offset]), int(seeds[offset]))
            position += self.world_size
