"""Search among the rows of a memory by faiss, where it is installed."""

import numpy as np
import torch
from torch import Tensor

from ..errors import ConfigError
from .feature_memory import TorchNeighbors


class FaissNeighbors:
    """faiss's flat index, on the CPU: the same neighbors."""

    def __init__(self, memory_nd: Tensor):
        try:
            import faiss
        except ImportError:
            raise ConfigError(
                "--search faiss needs the package faiss: pip install faiss-cpu, or take --search "
                "torch, which finds the same neighbors."
            ) from None
        self.index = faiss.IndexFlatIP(memory_nd.shape[1])
        self.index.add(_array(memory_nd))

    def search(self, queries_qd: Tensor, count: int) -> tuple[Tensor, Tensor]:
        """See `Neighbors`."""
        similarity, rows = self.index.search(_array(queries_qd), count)
        device = queries_qd.device
        return torch.from_numpy(similarity).to(device), torch.from_numpy(rows).to(device)


def _array(rows_nd: Tensor) -> np.ndarray:
    return np.ascontiguousarray(rows_nd.cpu().float().numpy())


SEARCHES = {"torch": TorchNeighbors, "faiss": FaissNeighbors}
