"""The columns of the tables, and their keys in the metrics that the tools write."""

import re
from typing import NamedTuple

from ..errors import DataError


class Measure(NamedTuple):
    """A column of numbers in percent."""

    key: str
    head: str  # in Markdown and CSV
    digits: int = 1  # after the decimal point, as in the papers

    @property
    def latex(self) -> str:
        """The column's name in LaTeX."""
        head = self.head.replace("ᵇ", r"$^\text{b}$").replace("ᵐ", r"$^\text{m}$")
        return re.sub(r"\$(\d+)$", r"_{\1}$", head)


_PARTS = [(part, size) for part in ("box", "mask") for size in ("", "50", "75")]
# A transfer fills one of these groups of columns.
COLUMNS = {
    "coco": [
        Measure(f"{part}_ap{size}", f"AP{dict(box='ᵇ', mask='ᵐ')[part]}{size}")
        for part, size in _PARTS
    ],
    "city": [Measure("city", "City")],
    "voc": [Measure("voc", "VOC")],
    "ade": [Measure("ade", "ADE")],
    "stuff": [Measure("stuff_miou", "Stuff mIoU", 2), Measure("stuff_accuracy", "Stuff acc.", 2)],
}
_NAMES = dict(box="bbox", mask="segm")
_MATCHED = ("results", "matchings", "one-to-one")
# By kind of transfer and column: the keys of each measure in the metrics.
SOURCES = {
    ("openmmlab", "coco"): [
        (f"coco/{_NAMES[part]}_mAP{size and '_' + size}",) for part, size in _PARTS
    ],
    ("detectron2", "coco"): [(_NAMES[part], f"AP{size}") for part, size in _PARTS],
    ("openmmlab", "city"): [("mIoU",)],
    ("openmmlab", "voc"): [("mIoU",)],
    ("openmmlab", "ade"): [("mIoU",)],
    ("unsupervised", "stuff"): [(*_MATCHED, "miou"), (*_MATCHED, "accuracy")],
}


def read_measures(kind: str, column: str, metrics: dict) -> dict[str, float]:
    """The measures of a column, in percent.

    Args:
        kind, column: of the transfer; a key of SOURCES.
        metrics: the JSON file of the tool.

    Raises:
        DataError: a measure is missing, negative or not a number.
    """
    # mmdet writes shares, and -1 where there is nothing to average over
    factor = 100.0 if (kind, column) == ("openmmlab", "coco") else 1.0
    found = {}
    for measure, keys in zip(COLUMNS[column], SOURCES[kind, column], strict=True):
        value: object = metrics
        for key in keys:
            value = value.get(key) if isinstance(value, dict) else None
        if not isinstance(value, int | float) or not value >= 0:
            raise DataError(
                f"The metrics have {value!r} for {' / '.join(keys)}; expected a number from 0. "
                f"There are: {', '.join(map(str, metrics))}."
            )
        found[measure.key] = factor * value
    return found
