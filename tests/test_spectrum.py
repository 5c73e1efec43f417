"""RankMe and α-ReQ on made spectra with known answers."""

import math

import pytest
import torch

from slotcon_plugin.functional.spectrum import alpha_req, covariance_spectrum, rankme


def features(variances: torch.Tensor, n: int, d: int, mean: float = 0.0) -> torch.Tensor:
    """(n, d) whose centered spectrum is exactly `variances` (r,), r < min(n, d)."""
    g = torch.Generator().manual_seed(n + d)
    left = torch.randn(n, len(variances), generator=g, dtype=torch.float64)
    left, _ = torch.linalg.qr(left - left.mean(dim=0))
    right, _ = torch.linalg.qr(torch.randn(d, len(variances), generator=g, dtype=torch.float64))
    return left * (n * variances).sqrt() @ right.T + mean


@pytest.mark.parametrize(("n", "d"), [(300, 40), (30, 90)])
def test_spectra_of_more_samples_than_channels_and_of_fewer(n, d):
    variances = torch.tensor([5.0, 2.0, 0.5], dtype=torch.float64)
    found = covariance_spectrum(features(variances, n, d, mean=7.0))
    assert len(found) == min(n, d)
    torch.testing.assert_close(found[:3], variances)
    assert found.min() >= 0 and found[3:].max() < 1e-10


@pytest.mark.parametrize(("n", "d", "r"), [(300, 40, 1), (300, 40, 17), (30, 90, 5)])
def test_rankme_of_equal_directions_is_their_number(n, d, r):
    made = 3 * features(torch.ones(r, dtype=torch.float64), n, d)
    assert rankme(covariance_spectrum(made, centered=False).sqrt()) == pytest.approx(r, rel=1e-4)


def test_rankme_by_hand():
    assert rankme(torch.ones(7)) == pytest.approx(7)
    two = math.exp(-(0.75 * math.log(0.75) + 0.25 * math.log(0.25)))
    assert rankme(torch.tensor([3.0, 1.0, 0.0])) == pytest.approx(two)
    assert rankme(torch.zeros(4)) == 1


def test_rankme_is_not_centered():
    equal = torch.full((50, 6), 2.0)
    assert rankme(covariance_spectrum(equal, centered=False).sqrt()) == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize("alpha", [0.0, 0.7, 1.0, 2.5])
def test_alpha_of_power_laws(alpha):
    variances = torch.arange(1, 31, dtype=torch.float64) ** -alpha
    assert alpha_req(9 * variances) == pytest.approx(alpha, abs=1e-9)
    found = covariance_spectrum(features(variances, 200, 60))
    assert alpha_req(found) == pytest.approx(alpha, abs=1e-6)


def test_alpha_of_few_directions():
    assert alpha_req(torch.tensor([4.0, 1.0, 0.0])) == pytest.approx(2)
    assert alpha_req(torch.tensor([4.0, 0.0, 0.0])) == math.inf
    assert math.isnan(alpha_req(torch.zeros(3)))
