"""Pictures in batches: every process its own, each picture once, with progress."""

import os
from collections.abc import Callable, Iterator
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

    def __init__(self, total: int, title: str, unit: str = "picture"):
        pass

    def __enter__(self):
        return self

    def __exit__(self, *error) -> None:
        pass

    def update(self, done: int) -> None:
        """Nothing."""


class Reading(NamedTuple):
    """How pictures are read and where they go."""

    device: str | torch.device = "cpu"  # where the network runs
    batch_size: int = 16
    workers: int = 0  # processes that read
    bar: Callable[[int, str, str], Bar] = NoBar  # `progress.ProgressBar` shows one


def check_enough(dataset: Dataset) -> None:
    """Every process must have a picture.

    Raises:
        ConfigError: there are fewer pictures than processes.
    """
    if len(dataset) < world_size():
        raise ConfigError(
            f"{world_size()} processes for {len(dataset)} pictures: start at most as many."
        )


def batches(dataset: Dataset, reading: Reading, title: str) -> Iterator[dict[str, Tensor]]:
    """Go once through this process's share of a data set, in order: every `world_size()`-th one.

    Args:
        dataset: gives dicts of tensors of one size.
        reading: batches and where they go.
        title: what the bar says, in front of pictures done and time left.

    Raises:
        ConfigError: there are fewer pictures than processes.
    """
    check_enough(dataset)
    mine = Subset(dataset, range(rank(), len(dataset), world_size()))
    # A generator of its own: otherwise the loader draws from the one that a training draws from.
    loader = DataLoader(
        mine, reading.batch_size, num_workers=reading.workers, generator=torch.Generator()
    )
    with reading.bar(len(mine), title, "picture") as bar:
        for batch in loader:
            yield {name: value.to(reading.device) for name, value in batch.items()}
            bar.update(len(batch["inputs"]))


def default_device() -> str:
    """A GPU where there is one; each process of a machine its own."""
    if not torch.cuda.is_available():
        return "cpu"
    return f"cuda:{int(os.environ.get('LOCAL_RANK', 0)) % torch.cuda.device_count()}"
