"""The losses of one direction, the center and the diagnostics: by hand, and the reference's."""

import math

import pytest
import torch

from slotcon_plugin import reference as plain
from slotcon_plugin.functional import diagnostics, losses
from slotcon_plugin.functional.alignment import Alignment


def maps(*values):
    """One image of one row: `values` are pixels, each a list over prototypes."""
    return torch.tensor(values, dtype=torch.float64).T[None, :, None, :]


def randn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def grouping_loss(student, teacher, *others):
    """The grouping loss of views that need no alignment."""
    pixels = torch.arange(student[0, 0].numel())
    weight = torch.tensor([1.0, 0.0, 0.0, 0.0]).to(student)
    same = Alignment(*(t.expand(len(student), len(pixels), 4) for t in (pixels[:, None], weight)))
    return losses.grouping_loss(student, teacher, same, same, *others)


def test_grouping_loss_by_hand():
    """Two prototypes, temperatures 1: a target of (3/4, 1/4) against an assignment of (2/3, 1/3),
    and one of (1/2, 1/2), which the center makes of (3/4, 1/4), against (1/5, 4/5)."""
    center = torch.zeros(1, 2, dtype=torch.float64)
    first = -(0.75 * math.log(2 / 3) + 0.25 * math.log(1 / 3))
    student, teacher = maps([math.log(2), 0]), maps([math.log(3), 0])
    loss = grouping_loss(student, teacher, center, 1.0, 1.0)
    assert loss.item() == pytest.approx(first, rel=1e-12)

    moved = torch.tensor([[math.log(3), 0]], dtype=torch.float64)
    second = -(0.5 * math.log(1 / 5) + 0.5 * math.log(4 / 5))
    loss = grouping_loss(maps([0, math.log(4)]), teacher, moved, 1.0, 1.0)
    assert loss.item() == pytest.approx(second, rel=1e-12)


def test_temperatures_of_the_grouping_loss_by_hand():
    """Scores (0.05, 0) are logits (0.5, 0) at 0.1 and (1, 0) at 0.05."""
    center = torch.zeros(1, 2, dtype=torch.float64)
    target = math.e / (math.e + 1)
    own = 1 / (1 + math.exp(-0.5))
    expected = -(target * math.log(own) + (1 - target) * math.log(1 - own))
    loss = grouping_loss(maps([0.05, 0]), maps([0.05, 0]), center, 0.1, 0.05)
    assert loss.item() == pytest.approx(expected, rel=1e-12)


def test_grouping_loss_is_a_mean_over_images_and_pixels():
    student, teacher, center = randn(3, 5, 2, 4), randn(3, 5, 2, 4, seed=1), randn(1, 5, seed=2)
    whole = grouping_loss(student, teacher, center, 0.1, 0.07)
    parts = [
        grouping_loss(
            student[b : b + 1, :, i : i + 1, j : j + 1],
            teacher[b : b + 1, :, i : i + 1, j : j + 1],
            center,
            0.1,
            0.07,
        )
        for b in range(3)
        for i in range(2)
        for j in range(4)
    ]
    torch.testing.assert_close(whole, torch.stack(parts).mean())
    torch.testing.assert_close(
        whole, plain.grouping_loss(student, teacher, center, plain.Settings())
    )


def test_an_image_without_overlap_has_the_loss_log_k():
    """Scores of 0 from an empty box: the student's assignment is uniform whatever its weights."""
    student = torch.zeros(1, 7, 2, 2, dtype=torch.float64, requires_grad=True)
    center = randn(1, 7)
    loss = grouping_loss(student, torch.zeros_like(student), center, 0.1, 0.07)
    assert loss.item() == pytest.approx(math.log(7), rel=1e-12)


def test_slot_loss_by_hand():
    """One query along a key and across another: 2 τ (log(e^(1/τ) + 1) - 1/τ) at τ = 1/2."""
    predictions = torch.tensor([[5.0, 0.0]], dtype=torch.float64)
    keys = torch.tensor([[0.0, 0.1], [3.0, 0.0]], dtype=torch.float64)
    loss = losses.slot_loss(predictions, keys, torch.tensor([1]), temperature=0.5)
    assert loss.item() == pytest.approx(math.log(math.exp(2) + 1) - 2, rel=1e-12)
    wrong = losses.slot_loss(predictions, keys, torch.tensor([0]), temperature=0.5)
    assert wrong.item() == pytest.approx(math.log(math.exp(2) + 1), rel=1e-12)


def test_slot_loss_of_two_queries_is_their_mean():
    predictions, keys = randn(2, 6), randn(9, 6, seed=1)
    target = torch.tensor([4, 7])
    each = [
        losses.slot_loss(predictions[i : i + 1], keys, target[i : i + 1], 0.2) for i in range(2)
    ]
    both = losses.slot_loss(predictions, keys, target, 0.2)
    torch.testing.assert_close(both, torch.stack(each).mean())


def test_slot_loss_does_not_depend_on_lengths_nor_on_the_order_of_keys():
    predictions, keys = randn(4, 6), randn(9, 6, seed=1)
    target = torch.tensor([4, 7, 0, 0])
    order = torch.randperm(9, generator=torch.Generator().manual_seed(0))
    place = torch.empty_like(order)
    place[order] = torch.arange(9)
    loss = losses.slot_loss(predictions, keys, target, 0.2)
    again = losses.slot_loss(5 * predictions, 0.1 * keys[order], place[target], 0.2)
    torch.testing.assert_close(loss, again)


@pytest.mark.parametrize("keys", [5, 0])
def test_no_query_costs_0_and_gives_gradients_of_0(keys):
    predictions = torch.zeros(0, 6, requires_grad=True)
    weight = torch.ones(6, 6, requires_grad=True)
    nothing = torch.zeros(0, dtype=torch.long)
    loss = losses.slot_loss(predictions @ weight, torch.ones(keys, 6), nothing, 0.2)
    loss.backward()
    assert loss.item() == 0
    assert not weight.grad.any()


def test_the_center_keeps_nine_tenths():
    center = torch.tensor([[1.0, -2.0]], dtype=torch.float64)
    mean = torch.tensor([[0.0, 3.0]], dtype=torch.float64)
    torch.testing.assert_close(
        losses.moved_center(center, mean, 0.9), torch.tensor([[0.9, -1.5]], dtype=torch.float64)
    )
    assert torch.equal(losses.moved_center(center, mean, 1.0), center)
    assert torch.equal(losses.moved_center(center, mean, 0.0), mean)


def test_losses_are_float32_in_mixed_precision():
    student, teacher, center = (
        t.float() for t in (randn(2, 5, 3, 3), randn(2, 5, 3, 3, seed=1), randn(1, 5, seed=2))
    )
    predictions, keys, target = randn(4, 6).float(), randn(9, 6, seed=1).float(), torch.arange(4)

    def both():
        return torch.stack(
            [
                grouping_loss(student, teacher, center, 0.1, 0.07),
                losses.slot_loss(predictions, keys, target, 0.2),
            ]
        )

    with torch.autocast("cpu", torch.bfloat16):
        inside = both()
    assert inside.dtype == torch.float32
    assert torch.equal(inside, both())


def test_shapes_are_checked():
    scores = torch.zeros(2, 5, 3, 3)
    with pytest.raises(ValueError, match=r"center_1k has shape \(5,\)"):
        grouping_loss(scores, scores, torch.zeros(5), 0.1, 0.07)
    with pytest.raises(ValueError, match=r"teacher_scores_bkhw has shape .* expected k = 5"):
        grouping_loss(scores, torch.zeros(2, 6, 3, 3), torch.zeros(1, 5), 0.1, 0.07)
    with pytest.raises(ValueError, match=r"target_q has shape \(3,\), expected q = 2"):
        losses.slot_loss(
            torch.zeros(2, 4), torch.zeros(9, 4), torch.zeros(3, dtype=torch.long), 0.2
        )


def test_diagnostics_by_hand():
    uniform = torch.zeros(1, 4, 2, 2)
    assert diagnostics.assignment_entropy(uniform, 0.07).item() == pytest.approx(math.log(4))
    certain = torch.zeros(1, 4, 2, 2)
    certain[:, 0] = 100
    assert diagnostics.assignment_entropy(certain, 0.07).item() == pytest.approx(0, abs=1e-6)

    same = torch.ones(2, 3, 4, 4)
    assert diagnostics.feature_std(same).item() == 0
    spread = torch.nn.functional.normalize(randn(4, 64, 16, 16), dim=1)
    assert diagnostics.feature_std(spread).item() == pytest.approx(1, abs=0.01)
