"""Inverse augmentation: by hand on a ramp, and equal to RoIAlign and a flip of K score maps."""

import pytest
import torch
from tiny_model import aligned

from slotcon_plugin import reference as plain
from slotcon_plugin.functional.alignment import align, interpolate_axis
from slotcon_plugin.functional.grouping import prototype_scores, unit_directions
from slotcon_plugin.functional.kernels import resample

# A pixel's value is 10 · row + column: bilinear interpolation gives 10 y + x between the pixels.
RAMP = torch.tensor(
    [
        [0.0, 1.0, 2.0, 3.0],
        [10.0, 11.0, 12.0, 13.0],
        [20.0, 21.0, 22.0, 23.0],
        [30.0, 31.0, 32.0, 33.0],
    ],
    dtype=torch.float64,
)


def align_one(ramp, box, flip=False):
    boxes = torch.tensor([box], dtype=torch.float64)
    return aligned(ramp[None, None], boxes, torch.tensor([flip]))[0, 0]


def random_boxes(count, seed=0):
    g = torch.Generator().manual_seed(seed)
    corners = torch.rand(count, 2, 2, generator=g, dtype=torch.float64).sort(dim=1).values
    special = [
        [0, 0, 1, 1],  # the whole view
        [0.5, 0.25, 0.5001, 0.2501],  # much smaller than a pixel
        [0, 0, 0.05, 1],  # a sliver at the border
        [0.97, 0.97, 1, 1],  # in the last corner
        [0.4, 0.6, 0.4, 0.9],  # empty: no width
        [0.4, 0.6, 0.9, 0.6],  # empty: no height
        [0, 0, 0, 0],  # no overlap
        [0.8, 0.2, 0.3, 0.9],  # inside out
    ]
    boxes = torch.cat([corners.flatten(1), torch.tensor(special, dtype=torch.float64)])
    return boxes, torch.rand(len(boxes), generator=g) < 0.5


def test_the_whole_view_does_not_change():
    assert torch.equal(align_one(RAMP, [0, 0, 1, 1]), RAMP)
    assert torch.equal(align_one(RAMP, [0, 0, 1, 1], flip=True), RAMP.flip(1))


def test_the_left_upper_quarter_by_hand():
    """Bins are half a pixel wide; their centers lie at -0.25, 0.25, 0.75, 1.25, the first clamped
    to 0."""
    at = torch.tensor([0, 0.25, 0.75, 1.25], dtype=torch.float64)
    expected = 10 * at[:, None] + at
    torch.testing.assert_close(align_one(RAMP, [0, 0, 0.5, 0.5]), expected)
    torch.testing.assert_close(align_one(RAMP, [0, 0, 0.5, 0.5], flip=True), expected.flip(1))


def test_a_box_between_the_pixels_by_hand():
    """x from 1 to 3 pixels: bins of 0.5, centers 1.25 - 0.5 = 0.75, 1.25, 1.75, 2.25.
    y from 3 to 4 pixels: bins of 0.25, centers 2.625, 2.875, 3.125 and 3.375, clamped to 3."""
    x = torch.tensor([0.75, 1.25, 1.75, 2.25], dtype=torch.float64)
    y = torch.tensor([2.625, 2.875, 3.0, 3.0], dtype=torch.float64)
    torch.testing.assert_close(align_one(RAMP, [0.25, 0.75, 0.75, 1.0]), 10 * y[:, None] + x)


def test_weights_of_one_axis_by_hand():
    index, weight = interpolate_axis(torch.tensor([0.0, 0.5]), torch.tensor([0.5, 0.5]), 2)
    assert index[0].tolist() == [[0, 1], [0, 1]]
    assert weight[0].tolist() == [[1, 0], [0.75, 0.25]]  # centers -0.25 (clamped) and 0.25
    assert not weight[1].any()  # empty


@pytest.mark.parametrize("shape", [(7, 7), (5, 9), (8, 3), (1, 1)])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 2e-5)])
def test_equals_roi_align_with_a_flip_per_image(shape, dtype, tolerance):
    boxes, flips = random_boxes(30)
    maps = torch.randn(len(boxes), 6, *shape, generator=torch.Generator().manual_seed(1))
    maps = maps.to(dtype)
    expected = plain.inverse_augmentation(maps, boxes, flips)
    torch.testing.assert_close(aligned(maps, boxes, flips), expected, rtol=0, atol=tolerance)


def test_an_empty_box_gives_zeros():
    for box in ([0, 0, 0, 0], [0.4, 0.6, 0.4, 0.9], [0.8, 0.2, 0.3, 0.9], [0.2, 0.9, 0.3, 0.1]):
        assert not align_one(RAMP, box).any()


def test_weights_of_a_bin_sum_to_one():
    boxes, _ = random_boxes(200)
    boxes = boxes[:200]
    index, weight = interpolate_axis(boxes[:, 0], boxes[:, 2], 7)
    torch.testing.assert_close(weight.sum(dim=2), torch.ones(200, 7, dtype=torch.float64))
    assert weight.min() >= 0
    assert index.min() >= 0 and index.max() <= 6


@pytest.mark.parametrize(("channels", "prototypes"), [(4, 11), (12, 3)])
def test_aligning_directions_equals_aligning_scores_and_so_do_gradients(channels, prototypes):
    boxes, flips = random_boxes(12)
    results = []
    for on_scores in (False, True):
        g = torch.Generator().manual_seed(2)
        pixels = torch.randn(len(boxes), channels, 5, 6, generator=g, dtype=torch.float64)
        weights = torch.randn(prototypes, channels, generator=g, dtype=torch.float64)
        pixels.requires_grad_()
        weights.requires_grad_()
        if on_scores:
            scores = plain.score_maps(pixels, weights)
            found = plain.inverse_augmentation(scores, boxes, flips)
        else:
            found = prototype_scores(aligned(unit_directions(pixels), boxes, flips), weights)
        found.pow(3).sum().backward()
        results.append((found.detach(), pixels.grad, weights.grad))
    torch.testing.assert_close(*results, rtol=1e-10, atol=1e-12)


def test_two_views_of_one_scene_meet_after_alignment():
    """Cut a linear scene twice, flip one cut: the common region reads the same from both."""
    x = torch.linspace(0, 1, 64, dtype=torch.float64)
    scene = 3 * x[:, None] - 2 * x
    first, second = scene[:48, :48], scene[16:, 16:].flip(1)
    # Common: scene 16..48. In the first view 1/3..1; in the second 0..2/3, flipped to 1/3..1.
    boxes = torch.tensor([[1 / 3, 1 / 3, 1, 1], [1 / 3, 0, 1, 2 / 3]], dtype=torch.float64)
    restored = aligned(torch.stack([first, second])[:, None], boxes, torch.tensor([False, True]))
    inner = restored[:, 0, 2:-2, 2:-2]  # the outermost bins are clamped
    torch.testing.assert_close(inner[0], inner[1])


def test_a_nan_box_gives_nan_and_no_error():
    boxes = torch.tensor([[0.0, 0.0, 1.0, 1.0], [float("nan"), 0.0, 1.0, 1.0]])
    for size in ((8, 8), (7, 7)):
        index, weight = align(boxes, torch.tensor([False, True]), *size)
        assert index.min() >= 0 and index.max() < size[0] * size[1]
        mixed = resample(torch.ones(2, index.shape[1], 3), index, weight)
        assert mixed[0].isfinite().all() and not mixed[1].isfinite().any()


def test_weights_are_float32_in_mixed_precision():
    boxes, flips = random_boxes(4)
    with torch.autocast("cpu", torch.bfloat16):
        inside = align(boxes.float(), flips, 7, 7)
    for mine, expected in zip(inside, align(boxes.float(), flips, 7, 7), strict=True):
        assert torch.equal(mine, expected)


def test_shapes_are_checked():
    with pytest.raises(ValueError, match=r"flips_b has shape \(3,\), expected b = 2"):
        align(torch.zeros(2, 4), torch.zeros(3, dtype=torch.bool), 7, 7)
    with pytest.raises(ValueError, match=r"boxes_b4 has shape \(2, 3\), expected 4 = 4"):
        align(torch.zeros(2, 3), torch.zeros(2, dtype=torch.bool), 7, 7)
