"""Spherical k-means: clusters of directions by cosine (Dhillon & Modha, 2001)."""

import torch
import torch.nn.functional as F
from torch import Tensor

from .shapes import check_shapes

CHUNK = 16384  # directions that are compared with all centers at a time


def fit_centers(directions_nd: Tensor, num_clusters: int, steps: int = 30, seed: int = 0) -> Tensor:
    """Cluster directions.

    Centers start as in k-means++ (Arthur & Vassilvitskii, 2007), one minus the cosine standing in
    for the squared distance. A center that loses all directions moves to the one that is farthest
    from its own.

    Args:
        directions_nd: (n, d) of unit length.
        num_clusters: k, at most n.
        steps: of Lloyd's algorithm, at most; it ends when no direction changes its cluster.
        seed: of the start.

    Returns:
        (k, d) centers of unit length.
    """
    check_shapes(directions_nd=directions_nd)
    if not 1 <= num_clusters <= len(directions_nd):
        raise ValueError(
            f"num_clusters is {num_clusters}, expected 1 to {len(directions_nd)}, the number of "
            "directions. Take fewer clusters, or more directions an image."
        )
    centers_kd = _start(directions_nd, num_clusters, seed)
    before_n = None
    for _ in range(steps):
        cosine_n, cluster_n = assign(directions_nd, centers_kd)
        if before_n is not None and torch.equal(cluster_n, before_n):
            break
        before_n = cluster_n
        sums_kd = torch.zeros_like(centers_kd).index_add_(0, cluster_n, directions_nd)
        empty_k = torch.bincount(cluster_n, minlength=num_clusters) == 0
        centers_kd = F.normalize(sums_kd, dim=1)
        if empty_k.any():
            farthest = cosine_n.topk(int(empty_k.sum()), largest=False).indices
            centers_kd[empty_k] = directions_nd[farthest]
    return centers_kd


def assign(directions_nd: Tensor, centers_kd: Tensor) -> tuple[Tensor, Tensor]:
    """The nearest center of each direction: cosine (n,) and cluster (n,) int64."""
    check_shapes(directions_nd=directions_nd, centers_kd=centers_kd)
    parts = [(part @ centers_kd.T).max(dim=1) for part in directions_nd.split(CHUNK)]
    return torch.cat([part.values for part in parts]), torch.cat([part.indices for part in parts])


def _start(directions_nd: Tensor, num_clusters: int, seed: int) -> Tensor:
    """Centers drawn one after another, with probability proportional to 1 - cosine."""
    generator = torch.Generator().manual_seed(seed)
    draws = torch.rand(num_clusters, generator=generator, dtype=torch.float64)
    chosen = [int(draws[0] * len(directions_nd))]
    distance_n = 1 - directions_nd @ directions_nd[chosen[0]]
    for draw in draws[1:].to(directions_nd.device):
        mass_n = distance_n.clamp(min=0).double().cumsum(0)
        row = int(torch.searchsorted(mass_n, draw * mass_n[-1]))
        chosen.append(min(row, len(directions_nd) - 1))
        distance_n = torch.minimum(distance_n, 1 - directions_nd @ directions_nd[chosen[-1]])
    return directions_nd[chosen].clone()
