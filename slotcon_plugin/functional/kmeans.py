"""Spherical k-means: clusters of unit vectors by cosine (Dhillon & Modha, 2001)."""

import torch
import torch.nn.functional as F
from torch import Tensor

from .checks import check_shapes

CHUNK = 16384  # directions that are compared with all centers at a time
EQUAL = 1 - 2e-7  # cosine above which two float32 directions count as equal


def fit_centers(directions_nd: Tensor, num_clusters: int, steps: int = 30, seed: int = 0) -> Tensor:
    """The centers (k, d), of unit length, of `num_clusters` clusters of directions (n, d).

    Centers are initialized as in k-means++ (Arthur & Vassilvitskii, 2007), with 1 - cosine in place
    of the squared distance, from the `seed`. At most `steps` steps of Lloyd's algorithm follow.
    No cluster is empty, unless there are fewer different directions than clusters.
    """
    check_shapes(directions_nd=directions_nd)
    if not 1 <= num_clusters <= len(directions_nd):
        raise ValueError(
            f"num_clusters is {num_clusters}, expected 1 to {len(directions_nd)}, the number of "
            "directions. Take fewer clusters, or more directions an image."
        )
    centers_kd = _initial_centers(directions_nd, num_clusters, seed)
    previous_n = None
    for _ in range(steps):
        centers_kd, cluster_n = _fill_empty(directions_nd, centers_kd)
        if previous_n is not None and torch.equal(cluster_n, previous_n):
            return centers_kd
        previous_n = cluster_n
        sums_kd = torch.zeros_like(centers_kd).index_add_(0, cluster_n, directions_nd)
        empty_k = torch.bincount(cluster_n, minlength=num_clusters) == 0
        centers_kd = torch.where(empty_k[:, None], centers_kd, F.normalize(sums_kd, dim=1))
    return _fill_empty(directions_nd, centers_kd)[0]


def assign(directions_nd: Tensor, centers_kd: Tensor) -> tuple[Tensor, Tensor]:
    """The nearest center of each direction: cosine (n,) and cluster (n,) int64."""
    check_shapes(directions_nd=directions_nd, centers_kd=centers_kd)
    parts = [(part @ centers_kd.T).max(dim=1) for part in directions_nd.split(CHUNK)]
    return torch.cat([part.values for part in parts]), torch.cat([part.indices for part in parts])


def _fill_empty(directions_nd: Tensor, centers_kd: Tensor) -> tuple[Tensor, Tensor]:
    """Move centers of empty clusters, in turn, to the direction farthest from all centers.

    A moved center is the nearest one of at least that direction, so none is moved twice. Returns
    the centers and the cluster of each direction, (n,) int64.
    """
    cosine_n, cluster_n = assign(directions_nd, centers_kd)
    centers_kd = centers_kd.clone()
    for _ in range(len(centers_kd)):
        empty_k = torch.bincount(cluster_n, minlength=len(centers_kd)) == 0
        farthest = int(cosine_n.argmin())
        if not empty_k.any() or cosine_n[farthest] > EQUAL:
            break
        k = int(empty_k.nonzero()[0])
        centers_kd[k] = directions_nd[farthest]
        moved_n = directions_nd @ centers_kd[k]
        cluster_n = torch.where(moved_n > cosine_n, k, cluster_n)
        cosine_n = torch.maximum(moved_n, cosine_n)
    return centers_kd, cluster_n


def _initial_centers(directions_nd: Tensor, num_clusters: int, seed: int) -> Tensor:
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
