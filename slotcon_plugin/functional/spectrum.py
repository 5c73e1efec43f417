"""Label-free figures of features, from the spectrum of a matrix of them (n samples, d channels)."""

import math

import torch
from torch import Tensor

from .checks import check_shapes

NEGLIGIBLE = 1e-7  # share of the largest variance, below which one counts as 0


@torch.no_grad()
def covariance_spectrum(features_nd: Tensor, centered: bool = True) -> Tensor:
    """Eigenvalues of `XᵀX / n`, descending: (min(n, d),) float64 on the CPU, none below 0.

    They are the variances along the principal components; without `centered`, their square roots
    are proportional to the singular values of the features.
    """
    check_shapes(features_nd=features_nd)
    rows = features_nd.double()
    if centered:
        rows = rows - rows.mean(dim=0)
    if len(rows) < rows.shape[1]:  # the smaller of both products has the same eigenvalues
        rows = rows.T
    gram = (rows.T @ rows).cpu() / len(features_nd)
    return torch.linalg.eigvalsh(gram).flip(0).clamp(min=0)


def rank_figures(features_nd: Tensor) -> tuple[float, float]:
    """`rankme` and `alpha_req` of features."""
    singular_values_r = covariance_spectrum(features_nd, centered=False).sqrt()
    return rankme(singular_values_r), alpha_req(covariance_spectrum(features_nd))


def rankme(singular_values_r: Tensor) -> float:
    """RankMe, a smooth rank: exp of the entropy of the singular values divided by their sum.

    From 1, all features are multiples of one, to r, all singular values are equal (Garrido et al.,
    ICML 2023, arXiv 2210.02885, eq. 1). The features are not centered. It is 1 for features that
    are all 0.
    """
    values_r = singular_values_r.double()
    share_r = values_r / values_r.sum().clamp(min=1e-300)
    return math.exp(torch.special.entr(share_r).sum().item())


def alpha_req(variances_r: Tensor) -> float:
    """α-ReQ, the decay α of the variances λ_j ∝ j^-α of the principal components, j = 1, 2, ….

    Agrawal et al., NeurIPS 2022 (arXiv 2202.05808): from 0, all directions vary alike; near 1 is
    best; features of few directions have much more. Least squares of log λ_j on log j with weights
    1 / j, over the first half of the components whose variance is not negligible: with few samples
    the last ones are too small. Infinite if only one varies; NaN if none does.

    Args:
        variances_r: (r,) descending, not negative, see `covariance_spectrum`.
    """
    variances_r = variances_r.double()
    kept = variances_r[variances_r > NEGLIGIBLE * variances_r[0]]
    if len(kept) < 2:
        return math.inf if len(kept) else math.nan
    kept = kept[: max(len(kept) // 2, 2)]
    j = torch.arange(1, len(kept) + 1, dtype=torch.float64)
    x, y, weight = j.log(), kept.log(), 1 / j / (1 / j).sum()
    x, y = x - weight @ x, y - weight @ y
    return -float((weight @ (x * y)) / (weight @ (x * x)))
