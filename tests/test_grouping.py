"""Scores, active slots and pooling: by hand, equal to the reference, and in mixed precision."""

import math

import pytest
import torch

from slotcon_plugin import reference as plain
from slotcon_plugin.functional import grouping, kernels
from slotcon_plugin.functional.precision import full_precision

# One image, 2 x 2 pixels, two channels. Along the two axes, diagonal, and against the first.
#   (3, 0) (0, 2)
#   (1, 1) (-2, 0)
PIXELS = torch.tensor([[[[3.0, 0.0], [1.0, -2.0]], [[0.0, 2.0], [1.0, 0.0]]]], dtype=torch.float64)
# East, north-east, south: the third wins nowhere but at the pixel that points west.
PROTOTYPES = torch.tensor([[2.0, 0.0], [5.0, 5.0], [0.0, -0.5]], dtype=torch.float64)
HALF = math.sqrt(0.5)


def random_case(batch=3, prototypes=20, channels=5, height=4, width=6, seed=0):
    g = torch.Generator().manual_seed(seed)
    pixels = torch.randn(batch, channels, height, width, generator=g, dtype=torch.float64)
    weights = torch.randn(prototypes, channels, generator=g, dtype=torch.float64)
    return pixels.requires_grad_(), weights.requires_grad_()


def scores_of(pixels, prototypes):
    return grouping.prototype_scores(grouping.unit_directions(pixels), prototypes)


def test_directions_have_unit_length_and_a_black_pixel_has_none():
    pixels = torch.tensor([[[[3.0, 0.0]], [[4.0, 0.0]]]])
    directions = grouping.unit_directions(pixels)
    torch.testing.assert_close(directions, torch.tensor([[[[0.6, 0.0]], [[0.8, 0.0]]]]))


def test_scores_of_four_pixels_by_hand():
    expected = [
        [[1, 0], [HALF, -1]],
        [[HALF, HALF], [1, -HALF]],
        [[0, -1], [-HALF, 0]],
    ]
    torch.testing.assert_close(
        scores_of(PIXELS, PROTOTYPES), torch.tensor([expected], dtype=torch.float64)
    )


def test_active_slots_of_four_pixels_by_hand():
    scores = scores_of(PIXELS, PROTOTYPES)  # winners 0 1 / 1 2
    many = torch.cat([scores, torch.full_like(scores, -1)], dim=1)  # and three that win nothing
    active = grouping.active_slots(many)
    assert active.index.tolist() == [[0, 1, 1, 2]]
    assert active.valid.tolist() == [[True, True, False, True]]
    assert grouping.slot_mask(active, 6).tolist() == [[True] * 3 + [False] * 3]
    scores[:, 2] -= 9  # with fewer prototypes than pixels all are candidates
    active = grouping.active_slots(scores)
    assert active.index.tolist() == [[0, 1, 2]]
    assert active.valid.tolist() == [[True, True, False]]
    assert grouping.slot_mask(active, 3).tolist() == [[True, True, False]]


def test_pooling_of_four_pixels_by_hand():
    """At temperature 1, the attention of prototype 0 at the first pixel is e / (e + e^√½ + 1)."""
    attention = [
        math.exp(a) / (math.exp(a) + math.exp(b) + math.exp(c)) + 1e-6
        for a, b, c in ((1, HALF, 0), (0, HALF, -1), (HALF, 1, -HALF), (-1, -HALF, 0))
    ]
    x = (3 * attention[0] + attention[2] - 2 * attention[3]) / sum(attention)
    y = (2 * attention[1] + attention[2]) / sum(attention)
    scores = scores_of(PIXELS, PROTOTYPES)
    slots = grouping.pool_slots(PIXELS, scores, torch.tensor([[0]]), temperature=1.0)
    torch.testing.assert_close(slots, torch.tensor([[[x, y]]], dtype=torch.float64))


def test_a_slot_that_wins_nothing_is_the_mean_of_the_pixels():
    """The minimum attention keeps it defined where the softmax has underflowed."""
    scores = torch.zeros(1, 2, 2, 2, dtype=torch.float64)
    scores[:, 1] = -1
    slots = grouping.pool_slots(PIXELS, scores, torch.tensor([[1]]), temperature=0.001)
    torch.testing.assert_close(slots[0, 0], PIXELS.mean(dim=(0, 2, 3)))


@pytest.mark.parametrize("prototypes", [3, 24, 200])
def test_active_slots_are_the_sets_of_winners(prototypes):
    scores = scores_of(*random_case(prototypes=prototypes))
    active = grouping.active_slots(scores)
    slots = plain.active_slots(scores)
    sets = [{slot % prototypes for slot in slots if slot // prototypes == n} for n in range(3)]
    for index, valid, expected in zip(active.index, active.valid, sets, strict=True):
        assert index[valid].tolist() == sorted(expected)
        assert set(index.tolist()) == expected  # repeats, and nothing else
    mask = grouping.slot_mask(active, prototypes)
    assert [set(row.nonzero().flatten().tolist()) for row in mask] == sets


@pytest.mark.parametrize("chunk", [kernels.CPU_CHUNK, 1], ids=["at once", "image by image"])
@pytest.mark.parametrize("prototypes", [3, 24, 200])
def test_chosen_slots_equal_dense_attention_and_so_do_gradients(prototypes, chunk, monkeypatch):
    monkeypatch.setattr(kernels, "CPU_CHUNK", chunk)
    results = []
    for dense in (False, True):
        pixels, weights = random_case(prototypes=prototypes)
        index = torch.randint(prototypes, (3, 7), generator=torch.Generator().manual_seed(1))
        if dense:
            scores = plain.score_maps(pixels, weights)
            slots = plain.all_slots(pixels, scores, 0.07)[torch.arange(3)[:, None], index]
        else:
            slots = grouping.pool_slots(pixels, scores_of(pixels, weights), index, 0.07)
        slots.pow(3).sum().backward()
        results.append((slots.detach(), pixels.grad, weights.grad))
    torch.testing.assert_close(*results, rtol=1e-10, atol=1e-12)


def test_scores_do_not_depend_on_lengths():
    pixels, weights = random_case()
    lengths = torch.rand(3, 1, 4, 6, dtype=torch.float64) + 0.1
    stretched = scores_of(pixels * lengths, weights * 3)
    torch.testing.assert_close(scores_of(pixels, weights), stretched)


def test_prototypes_in_another_order_give_the_same_slots_in_that_order():
    pixels, weights = random_case()
    order = torch.randperm(20, generator=torch.Generator().manual_seed(3))
    index = torch.arange(20).expand(3, -1)
    slots = grouping.pool_slots(pixels, scores_of(pixels, weights), index, 0.07)
    again = grouping.pool_slots(pixels, scores_of(pixels, weights[order]), index, 0.07)
    torch.testing.assert_close(again, slots[:, order])


def test_scores_are_float32_in_mixed_precision():
    pixels, weights = (t.detach().float() for t in random_case(channels=64))
    index = torch.arange(20).expand(3, -1)

    def slots(pixels):
        return grouping.pool_slots(pixels, scores_of(pixels, weights), index, 0.07)

    outside = slots(pixels)
    with torch.autocast("cpu", torch.bfloat16):
        assert (pixels.flatten(1) @ pixels.flatten(1).T).dtype == torch.bfloat16  # autocast is on
        assert torch.equal(slots(pixels), outside)
        half = slots(pixels.bfloat16())
    assert half.dtype == torch.float32
    torch.testing.assert_close(half, outside, rtol=0.05, atol=0.05)


def test_full_precision_keeps_float64_and_widens_half_precision_by_name_too():
    @full_precision
    def product(left, right, *, scale):
        return left @ right * scale

    eye = torch.eye(2)
    with torch.autocast("cpu", torch.bfloat16):
        double = product(eye.double(), eye.double(), scale=torch.ones(2).double())
        widened = product(eye.half(), right=eye.bfloat16(), scale=3)
    assert double.dtype == torch.float64
    assert widened.dtype == torch.float32
    assert product.__name__ == "product"


def test_functions_check_their_arguments():
    pixels, weights = random_case()
    with pytest.raises(ValueError, match=r"prototypes_kd has shape .* expected d = 5"):
        grouping.prototype_scores(pixels, torch.zeros(20, 6, dtype=torch.float64))
    with pytest.raises(ValueError, match="scores_bkhw has shape"):
        grouping.pool_slots(
            pixels, scores_of(pixels, weights)[:2], torch.zeros(3, 1, dtype=torch.long), 0.07
        )
