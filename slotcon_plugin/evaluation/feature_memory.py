"""Search among the rows of a memory: an interface, and plain torch behind it."""

from typing import Protocol

from torch import Tensor

from ..functional.neighbors import nearest


class Neighbors(Protocol):
    """Exact search by inner product."""

    def search(self, queries_qd: Tensor, count: int) -> tuple[Tensor, Tensor]:
        """The largest inner products (q, count), descending, and their rows (q, count) int64."""


class TorchNeighbors:
    """In parts of the memory, on the queries' device: the memory may stay on the CPU."""

    def __init__(self, memory_nd: Tensor):
        self.memory_nd = memory_nd

    def search(self, queries_qd: Tensor, count: int) -> tuple[Tensor, Tensor]:
        """See `Neighbors`."""
        return nearest(queries_qd, self.memory_nd, count)
