"""Checks the masks of objects, in COCO's notation, before a detector is trained on them."""

import math
from itertools import chain

from ..errors import DataError
from .coco_content import MAX_FAULTY

FARTHEST = 1e6  # pixels: far beyond any image; drawing such a polygon would fill the memory


# Faults of masks, as the end of "N objects have".
ABSENT = "no mask (`segmentation`)"
ENCODED = "run-length encoded masks"
SHORT = "no polygon of three points, x and y of each"
STRANGE = "a `segmentation` of another form"


class MaskFaults:
    """Collects the masks of a dataset's objects that cannot be used."""

    def __init__(self):
        self.total, self.found = 0, {fault: [] for fault in (STRANGE, ABSENT, ENCODED, SHORT)}

    def add(self, image: str, mask: object, is_crowd: bool, size: list[int]) -> None:
        """Look at the mask (`segmentation` in COCO) of an object in an image, named for messages.

        Crowds are run-length encoded in COCO and not learned, but must have a mask. `size` is the
        image's height and width.
        """
        self.total += 1
        if not mask:
            self.found[ABSENT].append(image)
        elif type(mask) is dict:
            if mask.get("size") != size or type(mask.get("counts")) not in (str, bytes, list):
                self.found[STRANGE].append(f"{image}: {mask!r:.60}")
            elif not is_crowd:
                self.found[ENCODED].append(image)
        elif type(mask) is not list or not all(map(_is_polygon, mask)):
            self.found[STRANGE].append(f"{image}: {mask!r:.60}")
        elif not any(len(polygon) >= 6 and len(polygon) % 2 == 0 for polygon in mask):
            self.found[SHORT].append(image)

    def check(self, source: str, without_masks: str, rle: str) -> None:
        """Raise DataError for masks that stop a training, or that it would not use.

        Args:
            source: where they come from.
            without_masks: how to learn boxes alone.
            rle: what to change so that run-length encoded masks are used; "" if they are.
        """
        advice = {
            STRANGE: "Expected are polygons, [[x1, y1, x2, y2, x3, y3, …], …] in pixels, or run "
            "lengths with the image's size, {'size': [height, width], 'counts': …}.",
            ABSENT: f"The config wants masks. Add them, or learn boxes alone: {without_masks}.",
            ENCODED: f"The config reads polygons and would leave these objects out. Set {rle}.",
            SHORT: "They would be left out. Correct the file.",
        }
        tolerated = {ENCODED: 0 if rle else math.inf, SHORT: MAX_FAULTY * self.total}
        for fault, images in self.found.items():
            if len(images) > tolerated.get(fault, 0):
                raise DataError(
                    f"{source}: {len(images):,} of {self.total:,} objects have {fault}, first in "
                    f"{images[0]}. {advice[fault]}"
                )


def has_run_lengths(content: dict) -> bool:
    """Whether objects of a COCO file, crowds aside, have run-length encoded masks."""
    objects = content.get("annotations")
    rows = [one for one in objects if isinstance(one, dict)] if isinstance(objects, list) else []
    return any(isinstance(one.get("segmentation"), dict) and not one.get("iscrowd") for one in rows)


def _is_polygon(values: object) -> bool:
    """Whether it is a list of finite numbers, none of them far outside of any image."""
    try:
        # Of a NaN, the sum is not finite; minimum and maximum may not find it.
        finite = type(values) is list and math.isfinite(sum(values))
        return finite and (not values or -FARTHEST < min(values) <= max(values) < FARTHEST)
    except TypeError:
        return False


def is_in_box(polygons: list[list[float]], box: list[float]) -> bool:
    """Whether the polygons reach into most of their object's box, x1, y1, x2, y2."""
    x, y = (list(chain.from_iterable(p[axis::2] for p in polygons)) for axis in (0, 1))
    if not x or not y:
        return False
    width = min(max(x), box[2]) - max(min(x), box[0])
    height = min(max(y), box[3]) - max(min(y), box[1])
    area = (box[2] - box[0]) * (box[3] - box[1])
    return min(width, height) > 0 and 2 * width * height > area


def are_run_lengths(counts: str | bytes | list, pixels: int) -> bool:
    """Whether run lengths, plain or compressed by COCO's API, make up an image of `pixels`.

    A compressed length is a number of 5 bits for each character, the lowest ones first; bit 5 says
    that more follow, bit 4 of the last one is the sign. From the fourth length on they are the
    difference to the length before the last.
    """
    lengths = counts if isinstance(counts, list) else []
    number = shift = 0
    for code in [] if lengths is counts else counts.encode() if isinstance(counts, str) else counts:
        bits = code - 48
        number |= (bits & 31) << shift
        shift += 5
        if not bits & 32:
            number -= bool(bits & 16) << shift
            lengths.append(number + lengths[-2] if len(lengths) > 2 else number)
            number = shift = 0
    are_numbers = all(type(length) is int and length >= 0 for length in lengths)
    return are_numbers and shift == 0 and sum(lengths) == pixels
