"""Geometry of the two crops: hand-worked numbers, torchvision's distribution, and invariances."""

import math

import numpy as np
import pytest
import torch
from scipy import stats
from torchvision.transforms import RandomResizedCrop

from slotcon_plugin.functional.crops import (
    Crop,
    common_region,
    overlap_area,
    overlapping_crop,
    random_resized_crop,
)

LEAST_P = 1e-3  # seeds are fixed: what passes keeps passing; a wrong range gives far smaller values


def draw_many(number, draw, seed=0):
    rng = np.random.default_rng(seed)
    return np.array([draw(rng) for _ in range(number)])


def test_area_aspect_and_place_follow_the_paper():
    # Up to half the area every aspect ratio fits a square, so that no draw is rejected.
    crops = draw_many(4000, lambda rng: random_resized_crop(rng, 4000, 4000, (0.08, 0.5)))
    left, top, width, height = crops.T
    area = width * height / 4000**2
    assert stats.kstest(area, stats.uniform(0.08, 0.42).cdf).pvalue > LEAST_P
    log_aspect = np.log(width / height)
    log_range = stats.uniform(math.log(3 / 4), 2 * math.log(4 / 3))
    assert stats.kstest(log_aspect, log_range.cdf).pvalue > LEAST_P
    for start, side in ((left, width), (top, height)):
        assert stats.kstest(start / (4000 - side), stats.uniform.cdf).pvalue > LEAST_P


def test_default_range_follows_torchvision():
    torch.manual_seed(0)
    image = torch.empty(3, 480, 640)
    theirs = [RandomResizedCrop.get_params(image, [0.08, 1.0], [3 / 4, 4 / 3]) for _ in range(3000)]
    top, left, height, width = np.array(theirs).T
    ours = draw_many(3000, lambda rng: random_resized_crop(rng, 640, 480)).T
    for mine, other in zip(ours, (left, top, width, height), strict=True):
        assert stats.ks_2samp(mine, other).pvalue > LEAST_P


@pytest.mark.parametrize(
    ("width", "height", "expected"),
    [
        (1000, 10, Crop(493, 0, 13, 10)),  # 10 * 4/3 = 13.3 wide, in the middle
        (10, 1000, Crop(0, 493, 10, 13)),
        (1, 1, Crop(0, 0, 1, 1)),
    ],
)
def test_where_nothing_fits_the_center_is_taken(width, height, expected):
    rng = np.random.default_rng(0)
    assert random_resized_crop(rng, width, height, (1.0, 1.0)) == expected


def test_crops_are_inside_images_of_any_shape():
    rng = np.random.default_rng(1)
    for width, height in ((1, 1), (2, 300), (300, 2), (7, 5), (640, 427)):
        for _ in range(100):
            first = random_resized_crop(rng, width, height)
            for crop in (first, overlapping_crop(rng, first, width, height)):
                left, top, right, bottom = crop.ltrb
                assert 0 <= left < right <= width and 0 <= top < bottom <= height


def test_second_crop_is_a_random_crop_under_the_condition():
    first = Crop(0, 0, 120, 120)  # a corner: about a third of the draws are rejected

    def by_rejection(rng):
        while True:
            crop = random_resized_crop(rng, 640, 480)
            if overlap_area(first, crop) >= 0.01 * crop.width * crop.height:
                return crop

    # If ten tries fail, there is no condition. Such crops are left out: here they are rare.
    ours = draw_many(3000, lambda rng: overlapping_crop(rng, first, 640, 480))
    holds = np.array([overlap_area(first, Crop(*c)) / (c[2] * c[3]) >= 0.0099 for c in ours])
    assert holds.mean() > 0.95
    expected = draw_many(3000, by_rejection, seed=1)
    for mine, other in zip(ours[holds].T, expected.T, strict=True):
        assert stats.ks_2samp(mine, other).pvalue > LEAST_P


def test_condition_is_counted_on_the_second_crops_own_area():
    rng = np.random.default_rng(0)
    first = Crop(0, 0, 400, 400)
    for _ in range(200):
        second = overlapping_crop(rng, first, 400, 400, (0.1, 0.1), min_overlap=0.95)
        assert overlap_area(first, second) == second.width * second.height


def test_without_a_success_in_ten_tries_there_is_no_condition():
    first = Crop(0, 0, 1, 1)  # no crop of a tenth of the image can lie in one pixel
    rng = np.random.default_rng(0)
    crops = [overlapping_crop(rng, first, 400, 400, (0.1, 0.1), min_overlap=1.0) for _ in range(50)]
    assert len(set(crops)) == 50
    # Ten tries of an area, an aspect and a place, then one more draw without the condition.
    rng, same = np.random.default_rng(5), np.random.default_rng(5)
    crop = overlapping_crop(rng, first, 400, 400, (0.1, 0.1), min_overlap=1.0)
    for _ in range(10):
        random_resized_crop(same, 400, 400, (0.1, 0.1))
    assert crop == random_resized_crop(same, 400, 400, (0.1, 0.1))


def test_common_region_by_hand():
    first, second = Crop(0, 0, 100, 100), Crop(50, 25, 100, 50)  # they share x 50-100, y 25-75
    plain = [[0.5, 0.25, 1.0, 0.75], [0.0, 0.0, 0.5, 1.0]]
    np.testing.assert_allclose(common_region((first, second), (False, False)), plain)
    flipped = [[0.0, 0.25, 0.5, 0.75], [0.5, 0.0, 1.0, 1.0]]
    np.testing.assert_allclose(common_region((first, second), (True, True)), flipped)
    np.testing.assert_allclose(
        common_region((first, second), (False, True)), [plain[0], flipped[1]]
    )


@pytest.mark.parametrize("other", [Crop(200, 0, 10, 10), Crop(100, 0, 10, 10), Crop(0, 100, 9, 9)])
def test_crops_that_share_no_pixel_have_an_empty_region(other):
    region = common_region((Crop(0, 0, 100, 100), other), (True, False))
    assert region.dtype == np.float32 and region.shape == (2, 4) and not region.any()


def test_regions_of_both_views_are_the_same_part_of_the_image():
    rng = np.random.default_rng(2)
    for _ in range(300):
        first = random_resized_crop(rng, 640, 480)
        second = overlapping_crop(rng, first, 640, 480)
        flips = tuple(rng.random(2) < 0.5)
        parts = []
        for crop, flip, box in zip((first, second), flips, common_region((first, second), flips)):
            x1, x2 = (1 - box[2], 1 - box[0]) if flip else (box[0], box[2])
            size = np.array([crop.width, crop.height] * 2)
            offset = np.array([crop.left, crop.top] * 2)
            parts.append(np.array([x1, box[1], x2, box[3]]) * size + offset)
        np.testing.assert_allclose(parts[0], parts[1], atol=1e-3)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"width": 0, "height": 5}, "width is 0, expected an integer of at least 1"),
        ({"width": 5, "height": 2.5}, "height is 2.5, expected an integer"),
        ({"width": 5, "height": 5, "scale": (0.5, 0.1)}, "scale"),
        ({"width": 5, "height": 5, "scale": (0.0, 1.0)}, "scale"),
        ({"width": 5, "height": 5, "ratio": (2.0, 1.0)}, "ratio"),
    ],
)
def test_impossible_requests_are_refused(arguments, words):
    with pytest.raises(ValueError, match=words):
        random_resized_crop(np.random.default_rng(0), **arguments)
