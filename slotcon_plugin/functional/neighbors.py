"""Predictions by nearest neighbors."""

import torch
from torch import Tensor

from .checks import check_numbers, check_shapes


def nearest(
    queries_qd: Tensor, memory_nd: Tensor, count: int, chunk: int = 32768
) -> tuple[Tensor, Tensor]:
    """The `count` largest inner products of each query with the rows of a memory, and the rows.

    Both are (q, count), the products descending. Needs memory for q x chunk products.
    """
    check_shapes(queries_qd=queries_qd, memory_nd=memory_nd)
    if not 1 <= count <= len(memory_nd):
        raise ValueError(f"count is {count}, expected 1 to {len(memory_nd)}, the memory's rows.")
    best = queries_qd.new_empty((len(queries_qd), 0))
    rows = torch.empty((len(queries_qd), 0), dtype=torch.int64, device=queries_qd.device)
    for start in range(0, len(memory_nd), chunk):
        part_nd = memory_nd[start : start + chunk].to(queries_qd)
        value, index = (queries_qd @ part_nd.T).topk(min(count, len(part_nd)), dim=1)
        best = torch.cat([best, value], dim=1)
        rows = torch.cat([rows, index + start], dim=1)
        best, kept = best.topk(min(count, best.shape[1]), dim=1)
        rows = rows.gather(1, kept)
    return best, rows


def weighted_vote(similarity_qn: Tensor, answers_qnl: Tensor, temperature: float) -> Tensor:
    """Mean of the neighbors' classes, weighted by `softmax_n(similarity / τ)`.

    The result is (q, l), from shares of l classes, or one-hot. As Balažević et al. (NeurIPS 2023,
    arXiv 2306.01667, eq. 1 and 2); the weights `exp(similarity / τ)` of Wu et al. (CVPR 2018) give
    the classes the same order.
    """
    check_shapes(similarity_qn=similarity_qn, answers_qnl=answers_qnl)
    check_numbers("(0, inf)", temperature=temperature)
    return torch.einsum("qn,qnl->ql", (similarity_qn / temperature).softmax(dim=1), answers_qnl)
