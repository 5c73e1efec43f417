"""The checks of arguments: what passes, and what the errors say."""

import numpy as np
import pytest
import torch

from slotcon_plugin.functional.checks import check_integers, check_numbers, check_shapes


def test_shapes_are_compared_by_the_axes_in_their_names():
    check_shapes(scores_bkhw=torch.zeros(2, 3, 4, 5), weights_kd=torch.zeros(3, 9))
    with pytest.raises(
        ValueError, match=r"weights_kd has shape \(4, 9\), expected k = 3 as in scores_bk"
    ):
        check_shapes(scores_bk=torch.zeros(2, 3), weights_kd=torch.zeros(4, 9))
    with pytest.raises(ValueError, match=r"boxes_b4 has shape \(7, 5\), expected 4 = 4\."):
        check_shapes(boxes_b4=torch.zeros(7, 5))
    with pytest.raises(ValueError, match=r"flips_b has shape \(1, 1\), expected 1 axes \(b\)"):
        check_shapes(flips_b=torch.zeros(1, 1))
    with pytest.raises(ValueError, match=r"square_hh has shape .* expected h = 2 as in square_hh"):
        check_shapes(square_hh=torch.zeros(2, 3))


@pytest.mark.parametrize(
    ("interval", "inside", "outside"),
    [
        ("[0, 1]", [0, 1, 0.5, np.float32(0.25), np.int64(1)], [-1e-9, 1.5, np.inf]),
        ("(0, 1]", [1e-9, 1.0], [0, 0.0, 1.01]),
        ("[0, inf)", [0, 1e30], [-1, np.inf]),
        ("(0, inf)", [1], [0, -0.0, -np.inf]),
    ],
)
def test_numbers_in_an_interval(interval, inside, outside):
    for value in inside:
        check_numbers(interval, a=0.5, lr=value)
    for value in [*outside, np.nan, "0.5", None, True, [0.5]]:
        with pytest.raises(ValueError) as error:
            check_numbers(interval, a=0.5, lr=value)
        assert str(error.value) == f"lr is {value!r}, expected a number in {interval}."


def test_integers_with_a_minimum():
    check_integers(2, a=2, b=10**9, c=np.int32(2))
    check_integers(0, a=0)
    for value in (1, -3, 2.0, "2", None, True, np.float64(3)):
        with pytest.raises(ValueError) as error:
            check_integers(2, a=5, steps=value)
        assert str(error.value) == f"steps is {value!r}, expected an integer of at least 2."
