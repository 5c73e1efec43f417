"""Two views of an image: pixels, consistent geometry, the distribution of every random choice."""

from itertools import permutations

import numpy as np
import pytest
import torch
from photographs import photographs
from PIL import Image
from scipy import stats
from tiny_model import aligned
from torchvision.transforms import InterpolationMode
from torchvision.transforms.functional import hflip, resized_crop

from slotcon_plugin.datasets import transforms
from slotcon_plugin.datasets.photometric import Column
from slotcon_plugin.datasets.transforms import TwoViews
from slotcon_plugin.functional.crops import random_resized_crop

LEAST_P = 1e-3  # the seeds are fixed; a wrong range gives far smaller values


@pytest.mark.parametrize("flip", [False, True])
def test_resized_crop_equals_torchvisions_on_pil_to_rounding(flip):
    """Both round to whole gray levels, after different steps."""
    rng = np.random.default_rng(0)
    for image in photographs(320):
        crop = random_resized_crop(rng, *image.size)
        box = (crop.top, crop.left, crop.height, crop.width)
        expected = resized_crop(image, *box, [224, 224], InterpolationMode.BICUBIC)
        if flip:
            expected = hflip(expected)
        ours = transforms.resized_crop(np.asarray(image), crop, 224, flip).numpy().astype(int)
        difference = np.abs(ours - np.asarray(expected).transpose(2, 0, 1))
        assert difference.mean() < 0.3
        assert np.quantile(difference, 0.999) <= 2


def test_shapes_and_types_of_an_item():
    item = TwoViews(size=96)(photographs()[0], np.random.default_rng(0))
    kinds = {name: (tuple(value.shape), value.dtype) for name, value in item.items()}
    assert kinds == {
        "views": ((2, 3, 96, 96), torch.uint8),
        "boxes": ((2, 4), torch.float32),
        "flips": ((2,), torch.bool),
        "photometric": ((2, len(Column)), torch.float32),
    }
    assert item["views"].is_contiguous()


def test_a_seed_gives_the_same_views_again():
    image, views = photographs()[1], TwoViews(size=64)
    once, again, other = (views(image, np.random.default_rng(seed)) for seed in (7, 7, 8))
    assert all(torch.equal(once[name], again[name]) for name in once)
    assert not torch.equal(once["views"], other["views"])


def test_aligned_views_show_the_same_pixels():
    # An image whose red is the column and whose green is the row.
    ramp = np.arange(256, dtype=np.uint8)
    column, row = np.broadcast_arrays(ramp[None, :], ramp[:, None])
    image = Image.fromarray(np.stack([column, row, np.zeros_like(row)], axis=-1))
    views, seen_flips = TwoViews(size=64), set()
    for seed in range(40):
        item = views(image, np.random.default_rng(seed))
        maps = item["views"].float()
        first, second = (
            aligned(maps[v, None], item["boxes"][v, None], item["flips"][v, None])[0]
            for v in range(2)
        )
        # At the borders of a crop bicubic resampling is not exact and bins are clamped to the
        # outermost pixel centers; a view's pixel is up to four of the image's.
        assert (first - second).abs().mean() < 2 and (first - second).abs().max() < 9
        seen_flips.add(tuple(item["flips"].tolist()))
    assert len(seen_flips) == 4


def test_second_crops_overlap_the_first():
    views, rng = TwoViews(), np.random.default_rng(3)
    empty = sum(
        not views(Image.new("RGB", (64, 48)), rng)["boxes"].any() for _ in range(300)
    )  # about one draw in ten overlaps too little: ten in a row do not occur
    assert empty == 0


def draws(view, number=4000, **arguments):
    views, rng = TwoViews(**arguments), np.random.default_rng(11)
    return np.stack([views.draw_photometric(rng, view) for _ in range(number)])


def frequency_is(chosen, probability):
    test = stats.binomtest(int(chosen.sum()), len(chosen), probability)
    return test.pvalue > LEAST_P


def test_flips_are_even_and_independent():
    views, rng = TwoViews(), np.random.default_rng(0)
    flips = np.array([views.draw_geometry(rng, 64, 48)[1] for _ in range(3000)])
    counts = np.bincount(flips @ [1, 2], minlength=4)
    assert stats.chisquare(counts).pvalue > LEAST_P


@pytest.mark.parametrize("view", [0, 1])
def test_jitter_is_drawn_as_in_the_paper(view):
    rows = draws(view)
    jittered = rows[:, Column.BRIGHTNESS] != 1
    assert frequency_is(jittered, 0.8)
    ranges = {
        Column.BRIGHTNESS: (0.6, 0.8),
        Column.CONTRAST: (0.6, 0.8),
        Column.SATURATION: (0.8, 0.4),
        Column.HUE: (-0.1, 0.2),
    }
    for column, (low, width) in ranges.items():
        values = rows[jittered, column]
        assert stats.kstest(values, stats.uniform(low, width).cdf).pvalue > LEAST_P
        assert (rows[~jittered, column] == (column != Column.HUE)).all()
    factors = rows[jittered, : Column.HUE + 1]
    correlation = np.corrcoef(factors.T)[np.triu_indices(4, 1)]
    assert np.abs(correlation).max() < 4 / np.sqrt(len(factors))


def test_all_orders_of_the_jitter_are_equally_likely():
    orders = draws(0)[:, Column.FIRST : Column.FOURTH + 1].astype(int)
    kinds = list(permutations(range(4)))
    counts = [(orders == kind).all(axis=1).sum() for kind in kinds]
    assert sum(counts) == len(orders)
    assert stats.chisquare(counts).pvalue > LEAST_P


@pytest.mark.parametrize(("view", "blur", "solarize"), [(0, 1.0, 0.0), (1, 0.1, 0.2)])
def test_gray_blur_and_solarize_are_drawn_as_in_the_paper(view, blur, solarize):
    rows = draws(view)
    gray = rows[:, Column.GRAY] > 0
    blurred = rows[:, Column.BLUR_SIGMA] > 0
    solarized = rows[:, Column.SOLARIZE] < 256
    assert (
        frequency_is(gray, 0.2)
        and frequency_is(blurred, blur)
        and frequency_is(solarized, solarize)
    )
    sigma = rows[blurred, Column.BLUR_SIGMA]
    assert stats.kstest(sigma, stats.uniform(0.1, 1.9).cdf).pvalue > LEAST_P
    assert set(rows[solarized, Column.SOLARIZE]) <= {128}
    jittered = rows[:, Column.BRIGHTNESS] != 1
    for one, other in ((gray, jittered), (blurred, gray), (solarized, blurred)):
        if 0 < one.mean() < 1 and 0 < other.mean() < 1:
            table = np.array([[(a & b).sum() for b in (other, ~other)] for a in (one, ~one)])
            assert stats.chi2_contingency(table).pvalue > LEAST_P


def test_values_can_be_set_for_each_view():
    arguments = {
        "jitter_prob": (0, 1), "brightness": 0, "hue": (0.1, 0.5), "gray_prob": (1, 0),
        "blur_prob": 0, "solarize_prob": [1, 0], "solarize_threshold": 64, "flip_prob": (1, 0),
    }  # fmt: skip
    first, second = draws(0, 50, **arguments), draws(1, 50, **arguments)
    assert (first[:, :4] == [1, 1, 1, 0]).all() and (second[:, Column.BRIGHTNESS] == 1).all()
    assert np.abs(second[:, Column.HUE]).max() > 0.3
    assert first[:, Column.GRAY].all() and not second[:, Column.GRAY].any()
    assert (first[:, Column.SOLARIZE] == 64).all() and (second[:, Column.SOLARIZE] == 256).all()
    item = TwoViews(size=8, **arguments)(photographs(32)[0], np.random.default_rng(0))
    assert item["flips"].tolist() == [True, False]


@pytest.mark.parametrize("size", [(1, 1), (3, 500), (500, 3)])
def test_very_small_and_narrow_images_have_views(size):
    item = TwoViews(size=16)(Image.new("RGB", size, (9, 99, 199)), np.random.default_rng(0))
    assert (item["views"][:, :, 8, 8] == torch.tensor([9, 99, 199])).all()


@pytest.mark.parametrize(
    "wrong",
    [
        {"size": 0}, {"scale": (0.5, 0.1)}, {"ratio": (0, 1)}, {"min_overlap": 2},
        {"flip_prob": 1.5}, {"hue": 0.6}, {"blur_sigma": (0, 1)}, {"gray_prob": (1, 1, 1)},
    ],
)  # fmt: skip
def test_values_out_of_range_are_refused_at_construction(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        TwoViews(**wrong)


def test_an_image_that_is_not_rgb_is_refused():
    with pytest.raises(ValueError, match=r"image is L uint8 .*, expected RGB"):
        TwoViews()(Image.new("L", (9, 9)), np.random.default_rng(0))
