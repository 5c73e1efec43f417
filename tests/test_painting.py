"""The colors of prototypes, and groups that are painted with them."""

import numpy as np
import pytest

from slotcon_plugin.visualization import painting

RED = (0xEE, 0x66, 0x77)  # of prototype 1


def test_a_color_does_not_depend_on_the_number_of_prototypes():
    many = painting.prototype_colors(2048)
    for count in (1, 16, 27, 256):
        assert (painting.prototype_colors(count) == many[:count]).all()
    assert len(np.unique(many, axis=0)) == 2048
    # frozen: images of different versions can be compared
    named = [painting.hex_color(many[k]) for k in (0, 19, 20, 21, 255, 2047)]
    assert named[:2] == ["#4477aa", "#117733"]
    assert named[2:] == ["#8202fa", "#ea02fa", "#a292e2", "#9a22b2"]


def test_colors_differ_from_each_other_and_from_gray():
    colors = painting.prototype_colors(64)
    lab = painting._oklab(colors)
    distance = np.linalg.norm(lab[:, None] - lab[None], axis=2) + np.eye(64)
    assert distance[20:].min() > 0.05  # those after the hand-made ones are computed for distance
    assert np.hypot(*lab[20:, 1:].T).min() > 0.07


def test_known_colors_of_oklab():
    """Ottosson's own table: white has lightness 1 and no color, red is (0.628, 0.225, 0.126)."""
    lab = painting._oklab(np.array([(255, 255, 255), (255, 0, 0), (0, 0, 0)]))
    expected = [(1, 0, 0), (0.628, 0.2249, 0.1258), (0, 0, 0)]
    np.testing.assert_allclose(lab, expected, atol=1e-3)


def test_too_many_prototypes():
    with pytest.raises(ValueError, match="num_prototypes is 9000, expected 1 to 8192"):
        painting.prototype_colors(9000)


def test_an_overlay_paints_groups_and_the_line_between_them():
    gray = np.full((1, 3, 3), 51, np.uint8)  # a fifth of white: two fifths of the color
    painted = painting.overlay(gray, np.array([[0, 0, 1]]), 0.5)
    assert painted[0, 0].tolist() == [47, 83, 119]  # (0.4 + 1) / 2 of #4477aa
    assert painted[0, 2].tolist() == [int(0.25 * 0.7 * c + 0.75 * 255) for c in RED]
    white = painting.overlay(np.full((1, 1, 3), 255, np.uint8), np.array([[0]]), 0.0)
    assert white.min() > 253


def test_a_marked_group_is_unchanged_and_the_rest_dark():
    pixels = np.full((8, 12, 3), (200, 100, 50), np.uint8)
    assignment = np.zeros((8, 12), int)
    assignment[:, 6:] = 1
    painted = painting.mark(pixels, assignment, 1)
    assert (painted[:, 7:] == pixels[:, 7:]).all()
    assert (painted[:, 5:7] == RED).all()  # its outline, in its color
    dark = painted[:, :5]
    assert (dark == dark[0, 0]).all() and len(set(dark[0, 0])) == 1 and dark.max() < 80
    # of a prototype without pixels, nothing is marked
    assert (painting.mark(pixels, assignment, 5) == dark[0, 0]).all()


def test_heat_becomes_lighter():
    levels = painting.heat_colors(np.linspace(0, 1, 101)) @ painting.LUMA
    assert (np.diff(levels) > 0).all()
    blank = np.zeros((1, 2, 3), np.uint8)
    assert painting.heat(blank, np.array([[0.0, 1.0]]), 1.0)[0, 1].tolist() == [252, 255, 200]
