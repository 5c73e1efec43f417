"""Colors of prototypes, and groups painted over photographs, as NumPy arrays.

Prototype 17 has the same color in every image, run and file, however many prototypes there are.
"""

from functools import cache

import numpy as np

# After Paul Tol's schemes. The first six are distinct for color-blind eyes too, which
# tests/test_painting.py checks; 32 colors cannot be.
# fmt: off
FIRST_COLORS = (
    "#4477aa", "#ee6677", "#228833", "#ccbb44", "#66ccee", "#aa3377", "#ee7733", "#0077bb",
    "#009988", "#cc3311", "#ee3377", "#bbcc33", "#882255", "#44bb99", "#ddaa33", "#332288",
    "#99ddff", "#ffaabb", "#999933", "#117733",
)
# Of Oklab: linear sRGB to cones, and the cube roots of cones to lightness and opponent colors.
CONES = np.array([
    [0.4122214708, 0.2119034982, 0.0883024619],
    [0.5363325363, 0.6806995451, 0.2817188376],
    [0.0514459929, 0.1073969566, 0.6299787005],
])
OPPONENTS = np.array([
    [0.2104542553, 1.9779984951, 0.0259040371],
    [0.7936177850, -2.4285922050, 0.7827717662],
    [-0.0040720468, 0.4505937099, -0.8086757660],
])
# fmt: on
LUMA = np.array([0.299, 0.587, 0.114])
SIZES = (32, 256, 2048, 8192)  # of the tables, each computed once when it is needed
# Heat from nothing to 1: black, violet, red, yellow, white, each lighter than the one before.
HEAT = np.array([(0, 0, 4), (87, 16, 110), (188, 55, 84), (249, 142, 9), (252, 255, 200)])


def prototype_colors(num_prototypes: int) -> np.ndarray:
    """A color for each of at most 8192 prototypes, (k, 3) uint8 RGB, read-only.

    The first 20 were chosen by hand; each next one is the color of a grid that has the largest
    perceived distance from all previous ones. Thus color k does not depend on `num_prototypes`, and
    all are different.
    """
    if not 1 <= num_prototypes <= SIZES[-1]:
        raise ValueError(f"num_prototypes is {num_prototypes}, expected 1 to {SIZES[-1]}.")
    return _table(next(size for size in SIZES if size >= num_prototypes))[:num_prototypes]


@cache
def _table(size: int) -> np.ndarray:
    first = np.array([list(bytes.fromhex(name[1:])) for name in FIRST_COLORS], np.uint8)
    levels = np.arange(2, 256, 8)
    grid = np.stack(np.meshgrid(levels, levels, levels, indexing="ij"), axis=-1).reshape(-1, 3)
    lab = _oklab(grid)
    # Not gray, black or white: photographs are shown in gray.
    usable = (lab[:, 0] > 0.42) & (lab[:, 0] < 0.93) & (np.hypot(lab[:, 1], lab[:, 2]) > 0.07)
    grid = grid[usable].astype(np.uint8)
    # Integers: the same distances, and thus the same colors, on every machine.
    points, starts = (np.rint(4096 * x).astype(np.int32) for x in (lab[usable], _oklab(first)))
    channels = np.ascontiguousarray(points.T)
    distance = np.full(len(points), np.iinfo(np.int32).max, np.int32)

    def approach(color: np.ndarray) -> None:
        apart = sum((channel - value) ** 2 for channel, value in zip(channels, color))
        np.minimum(distance, apart, out=distance)

    for start in starts:
        approach(start)
    colors = [*first]
    while len(colors) < size:
        farthest = int(distance.argmax())
        colors.append(grid[farthest])
        approach(points[farthest])
    table = np.stack(colors)
    table.flags.writeable = False
    return table


def hex_color(color: np.ndarray) -> str:
    """#rrggbb of uint8 RGB."""
    return "#{:02x}{:02x}{:02x}".format(*color.tolist())


def overlay(pixels: np.ndarray, assignment: np.ndarray, strength: float = 0.35) -> np.ndarray:
    """The photograph in shades of its groups' colors, with a light line between groups.

    Its brightness goes from black over the color to white, mixed with the plain color, so that dark
    groups are distinguished too. `pixels` is uint8 RGB (h, w, 3), `assignment` (h, w) the prototype
    of each pixel, and `strength` the share of the plain color, 0-1.
    """
    color = prototype_colors(int(assignment.max()) + 1)[assignment] / 255
    light = _gray(pixels) / 255
    shade = np.where(light < 0.5, 2 * light * color, 1 - 2 * (1 - light) * (1 - color))
    painted = 255 * (strength * color + (1 - strength) * shade)
    line = borders(assignment)
    painted[line] = 0.25 * painted[line] + 0.75 * 255
    return painted.astype(np.uint8)


def mark(pixels: np.ndarray, assignment: np.ndarray, prototype: int) -> np.ndarray:
    """The photograph with one group in its own colors, outlined, and all else dark and gray."""
    inside = assignment == prototype
    painted = np.where(inside[..., None], pixels, 0.38 * _gray(pixels) + 18)
    line = borders(inside)
    line[:, :-1] |= line[:, 1:]  # two pixels wide
    line[:-1] |= line[1:]
    painted[line] = prototype_colors(prototype + 1)[prototype]
    return painted.astype(np.uint8)


def heat(pixels: np.ndarray, values: np.ndarray, strength: float = 0.9) -> np.ndarray:
    """Paint values (h, w) in [0, 1] as heat over the photograph in dark gray.

    The color's share is `strength` at 1, and a fifth of it at 0, where the photograph is seen.
    """
    share = strength * (0.2 + 0.8 * np.sqrt(values))[..., None]
    painted = share * heat_colors(values) + 0.7 * (1 - share) * _gray(pixels)
    return painted.astype(np.uint8)


def heat_colors(values: np.ndarray) -> np.ndarray:
    """Colors (*values.shape, 3), 0-255, of values in [0, 1]."""
    stops = np.linspace(0, 1, len(HEAT))
    return np.stack([np.interp(values, stops, channel) for channel in HEAT.T], axis=-1)


def borders(assignment: np.ndarray) -> np.ndarray:
    """Where a pixel differs from the one to its left or above: (h, w) bool."""
    line = np.zeros(assignment.shape, bool)
    line[:, 1:] |= assignment[:, 1:] != assignment[:, :-1]
    line[1:] |= assignment[1:] != assignment[:-1]
    return line


def _gray(pixels: np.ndarray) -> np.ndarray:
    return (pixels @ LUMA)[..., None]


def _oklab(colors: np.ndarray) -> np.ndarray:
    """8-bit sRGB (n, 3) in Ottosson's "A perceptual color space for image processing", 2020."""
    share = colors / 255
    linear = np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)
    return np.cbrt(linear @ CONES) @ OPPONENTS
