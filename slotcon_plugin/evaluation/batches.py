"""Pictures in batches: every process its own, each picture once, with progress."""

import os
import sys
from collections.abc import Iterator
from typing import NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Subset
from tqdm import tqdm

from ..errors import ConfigError
from ..functional.collectives import rank, world_size


class Reading(NamedTuple):
    """How pictures are read and where they go."""

    device: str = "cpu"  # where the network runs
    batch_size: int = 16
    workers: int = 0  # processes that read
    quiet: bool = False  # no progress bar


def batches(dataset: Dataset, reading: Reading, title: str) -> Iterator[dict[str, Tensor]]:
    """Go once through this process's share of a data set, in order, with a progress bar.

    Args:
        dataset: gives dicts of tensors of one size.
        reading: batches and where they go.
        title: what the bar says, in front of pictures done and time left; a line every half minute
            where the output is no terminal.

    Raises:
        ConfigError: there are fewer pictures than processes.
    """
    if len(dataset) < world_size():
        raise ConfigError(
            f"{world_size()} processes for {len(dataset)} pictures: start at most as many."
        )
    mine = Subset(dataset, range(rank(), len(dataset), world_size()))
    loader = DataLoader(mine, reading.batch_size, num_workers=reading.workers)
    with tqdm(
        total=len(mine),
        desc=title,
        unit="picture",
        mininterval=0.5 if sys.stderr.isatty() else 30,
        disable=reading.quiet or rank() != 0,
    ) as bar:
        for batch in loader:
            yield {name: value.to(reading.device) for name, value in batch.items()}
            bar.update(len(batch["inputs"]))


def default_device() -> str:
    """A GPU where there is one; each process of a machine its own."""
    if not torch.cuda.is_available():
        return "cpu"
    return f"cuda:{int(os.environ.get('LOCAL_RANK', 0)) % torch.cuda.device_count()}"


def join_processes() -> bool:
    """Meet the other processes, if torchrun started this one. NCCL where there are GPUs for all."""
    if int(os.environ.get("WORLD_SIZE", 1)) == 1:
        return False
    gpus = torch.cuda.device_count() >= int(os.environ.get("LOCAL_WORLD_SIZE", 1))
    if gpus:
        torch.cuda.set_device(default_device())
    dist.init_process_group("nccl" if gpus else "gloo")
    return True


def leave_processes() -> None:
    """Leave the others."""
    dist.destroy_process_group()
