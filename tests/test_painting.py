"""The colors of prototypes, and groups that are painted with them."""

import numpy as np
import pytest

from benchmarks import healthy_curves
from slotcon_plugin.visualization import painting
from slotcon_plugin.visualization.curves import COLORS, draw_curves

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


# What color-blind eyes see, in linear sRGB: Machado, Oliveira, Fernandes, "A physiologically-based
# model for simulation of color vision deficiency", 2009, severity 1.
# fmt: off
VISION = {
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216],
                   [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413],
                     [-0.011820, 0.042940, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602],
                   [0.004733, 0.691367, 0.303900]],
}
# CIE XYZ of linear sRGB, relative to the white D65.
XYZ = [[0.433953, 0.376210, 0.189840], [0.212673, 0.715152, 0.072175],
       [0.017757, 0.109468, 0.872776]]
# fmt: on


def seen_as(colors, vision):
    """CIE L*a*b* of 8-bit sRGB, as these eyes see it; a just noticeable difference is about 2.3."""
    share = np.asarray(colors) / 255
    linear = np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)
    xyz = np.clip(linear @ np.transpose(VISION[vision]), 0, 1) @ np.transpose(XYZ)
    x, y, z = np.where(xyz > 216 / 24389, np.cbrt(xyz), (24389 / 27 * xyz + 16) / 116).T
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=1)


def apart(lab):
    """The distances of all pairs, (n, n), with infinity for a color and itself."""
    return np.linalg.norm(lab[:, None] - lab[None], axis=2) + np.diag([np.inf] * len(lab))


@pytest.mark.parametrize("vision", VISION)
def test_color_blind_eyes(vision):
    first = seen_as(painting.prototype_colors(20), vision)
    assert apart(first[:6]).min() > 12  # the most used prototypes of a small gallery
    assert np.diag(apart(first), 1).min() > 12  # neighbors in the list
    curves = [list(bytes.fromhex(name[1:])) for name in (*COLORS, *healthy_curves.COLORS)]
    for several in (curves[:6], curves[6:]):
        assert apart(seen_as(several, vision)).min() > 10
    lightness = seen_as(painting.heat_colors(np.linspace(0, 1, 65)), vision)[:, 0]
    assert np.diff(lightness).min() > 0.2  # heat can be read by its lightness alone


def test_lines_differ_in_style_too():
    logged = {f"loss_{i}": [(1, i), (2, i)] for i in range(6)}
    lines = draw_curves(logged).axes[0].lines
    assert len({str(line._dash_pattern) for line in lines}) == 6
    assert len({line.get_color() for line in lines}) == 6


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
