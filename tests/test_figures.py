"""Figures of any number of images of any shape: aligned, legible, and not too wide."""

from itertools import pairwise

import numpy as np
import pytest

from slotcon_plugin.visualization import figures, groups, survey
from slotcon_plugin.visualization.image_lines import lines_of, width_of

SHAPES = [(64, 96), (96, 64), (64, 64), (40, 600)]


def images_of(count):
    return [np.full((*SHAPES[i % 4], 3), 40 * (i % 6), np.uint8) for i in range(count)]


def boxes(figure):
    """(left, bottom, width, height) in inches of the axes that show an image."""
    size = np.tile(figure.get_size_inches(), 2)
    return np.array([axis.get_position().bounds * size for axis in figure.axes if axis.images])


@pytest.mark.parametrize("count", [1, 2, 7, 30])
def test_images_are_in_lines_of_limited_width(count):
    images = images_of(count)
    lines = lines_of(images, 1.5, 10)
    assert [place.index for line in lines for place in line] == list(range(count))
    assert width_of(lines) <= 10
    for line in lines:
        for place, following in pairwise(line):
            assert place.left + place.width < following.left


@pytest.mark.parametrize("count", [1, 3, 30])
def test_attention_is_below_its_image(count):
    figure = figures.draw_attention(3, images_of(count), images_of(count), 0.07, 0.02)
    assert figure.get_figwidth() < 14
    places = boxes(figure)
    above, below = (places[rows] for rows in _halves(places))
    np.testing.assert_allclose(above[:, [0, 2]], below[:, [0, 2]])
    assert (above[:, 1] > below[:, 1]).all()


def _halves(places):
    """The numbers of the images, and of those below them, of each line."""
    heights = -places[:, 1]
    rank = np.unique(heights.round(4), return_inverse=True)[1]
    return rank % 2 == 0, rank % 2 == 1


def test_groups_of_one_narrow_photograph_have_room_for_their_titles():
    one = [(np.zeros((90, 40, 3), np.uint8), np.zeros((90, 40), int))]
    figure = groups.draw_groups({"random weights": one, "after pretraining": one}, 16)
    width = figure.get_figwidth() * figure.dpi
    texts = [text for axis in figure.axes for text in axis.texts]
    titles = [text.get_window_extent() for text in texts if "prototypes" in text.get_text()]
    assert len(titles) == 2 and all(box.x0 >= 0 and box.x1 <= width for box in titles)
    assert titles[0].y0 > titles[1].y1


@pytest.mark.parametrize("count", [3, 27, 300])
def test_the_numbers_of_a_map_do_not_overlap(count):
    rng = np.random.default_rng(0)
    usage = rng.dirichlet(np.full(count, 0.5))
    figure = figures.draw_map(rng.random((count, 2)), usage, rng.permutation(count), "t-SNE")
    found = figure.axes[0].texts
    assert len(found) > min(count, 60) / 2 and str(usage.argmax()) in [t.get_text() for t in found]
    extents = [text.get_window_extent().padded(-2) for text in found]
    assert not any(a.overlaps(b) for i, a in enumerate(extents) for b in extents[:i])


def test_a_map_connects_used_prototypes_and_has_the_unused_below():
    usage, other = np.array([0.6, 0.4, 0, 0]), np.array([1, 2, 0, 2])
    axis = figures.draw_map(np.random.default_rng(0).random((4, 2)), usage, other, "PCA").axes[0]
    assert len(axis.lines) == 1  # of 0 to 1; 2 and 3 have no pixels
    used, unused = axis.collections
    assert (len(used.get_offsets()), len(unused.get_offsets())) == (2, 2)
    assert unused.get_zorder() < axis.lines[0].get_zorder() < used.get_zorder()
    assert {text.get_text() for text in axis.texts} <= {"0", "1"}


@pytest.mark.parametrize(
    ("largest", "ticks"),
    [(3, "1 2 3"), (9, "2 4 6 8"), (30, "5 10 15 20 25 30"), (40, "10 20 30 40 or more")],
)
def test_ticks_of_numbers_of_groups_are_evenly_spaced(largest, ticks):
    counts = survey.Survey(60)
    counts.groups[largest] = counts.images = 5
    counts.groups[1] = 2
    axis = figures.draw_histograms(counts).axes[2]
    assert " ".join(label.get_text() for label in axis.get_xticklabels()) == ticks
