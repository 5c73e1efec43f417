"""Exchanges between processes. On one process every function here is the identity."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.distributed as dist
from torch import Tensor

from ..errors import TrainingStopped

MAX_COUNT = 2**40
_alone = False  # see `as_one_process`


def world_size() -> int:
    """Number of processes: 1 when torch.distributed is not initialized."""
    return dist.get_world_size() if _connected() else 1


def rank() -> int:
    """This process's number, from 0."""
    return dist.get_rank() if _connected() else 0


def _connected() -> bool:
    return not _alone and dist.is_available() and dist.is_initialized()


@contextmanager
def as_one_process() -> Iterator[None]:
    """Within it nothing is exchanged, as on one process: for tensors without values."""
    global _alone
    before, _alone = _alone, True
    try:
        yield
    finally:
        _alone = before


def sum_over_processes(tensor: Tensor) -> Tensor:
    """Sum of a tensor of the same shape on every process; no gradient."""
    if world_size() == 1:
        return tensor
    total = tensor.detach().clone()
    dist.all_reduce(total)
    return total


def mean_over_processes(tensor: Tensor) -> Tensor:
    """Mean of a tensor of the same shape on every process; no gradient."""
    return tensor if world_size() == 1 else sum_over_processes(tensor) / world_size()


def any_process(mask: Tensor) -> Tensor:
    """Where a mask of the same shape on every process is true on at least one of them."""
    if world_size() == 1:
        return mask
    anywhere = mask.to(torch.uint8)
    dist.all_reduce(anywhere, op=dist.ReduceOp.MAX)
    return anywhere.bool()


def share_counts(counts_c: Tensor) -> list[list[int]]:
    """The counts (c,) int64 of every process, one list per rank. Waits for the device.

    Raises a TrainingStopped for what cannot be a count: it came from another collective.
    """
    if world_size() == 1:
        return [counts_c.tolist()]
    everyone = counts_c.new_empty(world_size() * len(counts_c))
    dist.all_gather_into_tensor(everyone, counts_c)
    counts = everyone.view(world_size(), -1).tolist()
    if not all(0 <= count < MAX_COUNT for row in counts for count in row):
        raise TrainingStopped(
            "The processes are not at the same step: what one sent as counts, another received as "
            "something else. Give all the same images, batch size, config and code, then continue "
            "with --resume."
        )
    return counts


def gather_rows(rows_nd: Tensor, rows_per_rank: list[int]) -> Tensor:
    """Concatenate the rows (n, d) of all processes, in the order of ranks; no gradient.

    n is `rows_per_rank[rank()]` and may be 0. Rows are padded to the largest n: one collective.
    """
    if world_size() == 1:
        return rows_nd
    widest = max(rows_per_rank)
    padded = rows_nd.new_zeros((widest, rows_nd.shape[1]))
    padded[: len(rows_nd)] = rows_nd.detach()
    everyone = rows_nd.new_empty((world_size() * widest, rows_nd.shape[1]))
    dist.all_gather_into_tensor(everyone, padded)
    blocks = everyone.view(world_size(), widest, rows_nd.shape[1])
    return torch.cat([block[:n] for block, n in zip(blocks, rows_per_rank, strict=True)])


def gather_in_order(rows_nd: Tensor, order_n: Tensor) -> Tensor:
    """Concatenate the rows (n, d) of all processes, sorted by keys (n,) int64; n may differ.

    The keys are on the rows' device. Rows with equal keys must be on one process; they keep their
    order, so that the result does not depend on the number of processes.
    """
    counts = share_counts(torch.tensor([len(rows_nd)], device=rows_nd.device))
    rows_per_rank = [count for (count,) in counts]
    order_n = gather_rows(order_n[:, None], rows_per_rank)[:, 0]
    return gather_rows(rows_nd, rows_per_rank)[order_n.argsort(stable=True)]
