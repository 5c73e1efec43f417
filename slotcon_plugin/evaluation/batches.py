"""Images in batches: every process its own, each image once, with progress."""

import os
from collections.abc import Callable, Iterator
from functools import cache
from typing import NamedTuple, Protocol

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Subset

from ..errors import ConfigError
from ..functional.collectives import rank, world_size


class Bar(Protocol):
    """Something that shows how far the work is, such as tqdm's; used in a `with`."""

    def __enter__(self): ...

    def __exit__(self, *error): ...

    def update(self, done: int) -> object:
        """So many more are done."""


class NoBar:
    """Shows nothing. Takes what opens a bar: how many there are, a title, the unit's name."""

    def __init__(self, total: int, title: str, unit: str = "image"):
        pass

    def __enter__(self):
        return self

    def __exit__(self, *error) -> None:
        pass

    def update(self, done: int) -> None:
        """Nothing."""


class Reading(NamedTuple):
    """How images are read and where they go."""

    device: str | torch.device = "cpu"  # where the network runs
    batch_size: int = 16
    workers: int = 0  # processes that read
    bar: Callable[[int, str, str], Bar] = NoBar  # `progress.ProgressBar` shows one


def check_enough(dataset: Dataset) -> None:
    """Every process must have an image.

    Raises:
        ConfigError: there are fewer images than processes.
    """
    if len(dataset) < world_size():
        raise ConfigError(
            f"{world_size()} processes for {len(dataset)} images: start at most as many."
        )


def check_apart(train: Dataset, test: Dataset, advice: str) -> None:
    """What is scored must not have been learned from.

    Folders that are links are followed, links to single images are not: ImageNet has a million.

    Args:
        train, test: data sets whose `items` begin with the image's path.
        advice: what to do about it.

    Raises:
        ConfigError: they share images.
    """
    real = cache(os.path.realpath)
    learned, scored = (
        {os.path.join(real(os.path.dirname(path)), os.path.basename(path)) for path, _ in one.items}
        for one in (train, test)
    )
    shared = learned & scored
    if shared:
        raise ConfigError(
            f"{len(shared)} of the {len(scored)} images that are scored would be learned from "
            f"too (first: {min(shared)}), and each would find itself. {advice}"
        )


def batches(dataset: Dataset, reading: Reading, title: str) -> Iterator[dict[str, Tensor]]:
    """Go once through this process's share of a data set, in order: every `world_size()`-th one.

    Args:
        dataset: gives dicts of tensors of one size.
        reading: batches and where they go.
        title: what the bar says, in front of images done and time left.

    Raises:
        ConfigError: there are fewer images than processes.
    """
    check_enough(dataset)
    mine = Subset(dataset, range(rank(), len(dataset), world_size()))
    # A generator of its own: otherwise the loader draws from the one that a training draws from.
    loader = DataLoader(
        mine, reading.batch_size, num_workers=reading.workers, generator=torch.Generator()
    )
    with reading.bar(len(mine), title, "image") as bar:
        for batch in loader:
            yield {name: value.to(reading.device) for name, value in batch.items()}
            bar.update(len(batch["inputs"]))


def encode(
    features: Callable[[Tensor], Tensor], dataset: Dataset, reading: Reading, title: str
) -> tuple[Tensor, Tensor]:
    """Features and labels of this process's share, in main memory that is allocated once.

    Args:
        features: from uint8 images (b, 3, h, w) to (b, ...).
        dataset, reading, title: as of `batches`.

    Returns:
        (n, ...) each, in the features' type and the labels', on the CPU.
    """
    kept, done = None, 0
    for batch in batches(dataset, reading, title):
        parts = features(batch["inputs"]), batch["labels"]
        if kept is None:
            mine = len(range(rank(), len(dataset), world_size()))
            kept = [torch.empty((mine, *part.shape[1:]), dtype=part.dtype) for part in parts]
        for whole, part in zip(kept, parts, strict=True):
            whole[done : done + len(part)] = part
        done += len(part)
    return tuple(kept)


def default_device() -> str:
    """A GPU where there is one; each process of a machine its own."""
    if not torch.cuda.is_available():
        return "cpu"
    return f"cuda:{int(os.environ.get('LOCAL_RANK', 0)) % torch.cuda.device_count()}"
