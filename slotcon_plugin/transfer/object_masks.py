"""Checks the masks of objects, in COCO's notation, before a detector is trained on them."""

import math

from ..errors import DataError
from .coco_content import MAX_FAULTY


class MaskFaults:
    """Collects the masks of a dataset's objects that cannot be used."""

    def __init__(self):
        self.total, self.absent, self.encoded, self.short, self.strange = 0, [], [], [], []

    def add(self, image: str, mask: object, is_crowd: bool) -> None:
        """Look at the mask (`segmentation` in COCO) of an object in an image, named for messages.

        Crowds are run-length encoded in COCO and not learned, but must have a mask.
        """
        self.total += 1
        if not mask:
            self.absent.append(image)
        elif type(mask) is dict:
            size, counts = mask.get("size"), mask.get("counts")
            if type(size) is not list or len(size) != 2 or type(counts) not in (str, bytes, list):
                self.strange.append((image, mask))
            elif not is_crowd:
                self.encoded.append(image)
        elif type(mask) is not list or not all(map(_is_polygon, mask)):
            self.strange.append((image, mask))
        elif not any(len(polygon) >= 6 and len(polygon) % 2 == 0 for polygon in mask):
            self.short.append(image)

    def check(self, source: str, without_masks: str, rle: str) -> None:
        """Raise DataError for masks that stop a training, or that it would not use.

        Args:
            source: where they come from.
            without_masks: how to learn boxes alone.
            rle: what to change so that run-length encoded masks are used; "" if they are.
        """
        if self.strange:
            image, mask = self.strange[0]
            raise DataError(
                f"{source}: {self._count(self.strange)} `segmentation` of another form, first in "
                f"{image}: {mask!r:.60}. Expected are polygons, [[x1, y1, x2, y2, x3, y3, …], …] "
                "in pixels, or run lengths, {'size': [height, width], 'counts': …}."
            )
        if self.absent:
            raise DataError(
                f"{source}: {self._count(self.absent)} no mask (`segmentation`), first in "
                f"{self.absent[0]}, but the config wants masks. Add them, or learn boxes alone: "
                f"{without_masks}."
            )
        if rle and self.encoded:
            raise DataError(
                f"{source}: {self._count(self.encoded)} run-length encoded masks, first in "
                f"{self.encoded[0]}; the config reads polygons and would leave these objects out. "
                f"Set {rle}."
            )
        if len(self.short) > MAX_FAULTY * self.total:
            raise DataError(
                f"{source}: {self._count(self.short)} no polygon of three points, x and y of each, "
                f"first in {self.short[0]}, and would be left out. Correct the file."
            )

    def _count(self, found: list) -> str:
        return f"{len(found):,} of {self.total:,} objects have"


def _is_polygon(values: object) -> bool:
    """Whether it is a list of finite numbers, which the sum shows at once."""
    try:
        return type(values) is list and math.isfinite(sum(values))
    except TypeError:
        return False
