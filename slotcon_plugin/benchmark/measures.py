"""The columns of the tables, and their keys in the metrics that the tools write."""

from typing import NamedTuple

from ..errors import DataError


class Measure(NamedTuple):
    """A column of numbers in percent."""

    key: str
    head: str  # in Markdown and CSV
    digits: int = 1  # after the decimal point, as in the papers


_SIZES = ("", "50", "75")
# A transfer fills one of these groups of columns.
COLUMNS = {
    "coco": [
        *(Measure(f"box_ap{size}", f"APᵇ{size}") for size in _SIZES),
        *(Measure(f"mask_ap{size}", f"APᵐ{size}") for size in _SIZES),
    ],
    "city": [Measure("city", "City")],
    "voc": [Measure("voc", "VOC")],
    "ade": [Measure("ade", "ADE")],
    "seg": [Measure("seg", "mIoU")],
    "stuff": [Measure("stuff_miou", "Stuff mIoU", 2), Measure("stuff_accuracy", "Stuff acc.", 2)],
    "groups": [Measure("groups", "Groups mIoU")],
    "clusters": [Measure("clusters", "Clusters mIoU")],
    "retrieval": [Measure("retrieval", "Retrieval mIoU")],
    "probe": [Measure("probe", "Probe mIoU")],
    "knn": [Measure("knn", "k-NN top-1")],
}
_BOX_AND_MASK = [(name, size) for name in ("bbox", "segm") for size in _SIZES]
_MATCHED = ("results", "matchings", "one-to-one")
ONLY = "*"  # the only key of a dictionary, whatever its name
# By kind of transfer and column: the keys of each measure in the metrics.
SOURCES = {
    ("openmmlab", "coco"): [
        (f"coco/{name}_mAP{size and '_' + size}",) for name, size in _BOX_AND_MASK
    ],
    ("detectron2", "coco"): [(name, f"AP{size}") for name, size in _BOX_AND_MASK],
    **{("openmmlab", column): [("mIoU",)] for column in ("city", "voc", "ade", "seg")},
    ("unsupervised", "stuff"): [(*_MATCHED, "miou"), (*_MATCHED, "accuracy")],
    ("unsupervised", "groups"): [("results", "matchings", "many-to-one", "miou")],
    ("overcluster", "clusters"): [("results", "clusterings", ONLY, "many-to-one", "miou")],
    ("retrieval", "retrieval"): [("results", "miou")],
    ("probe", "probe"): [("results", "miou")],
    ("knn", "knn"): [("results", "top1")],
}


def read_measures(kind: str, column: str, metrics: dict) -> dict[str, float]:
    """The measures of a column, in percent, from a tool's metrics; DataError if one is missing."""
    # mmdet writes shares, and -1 where there is nothing to average over
    factor = 100.0 if (kind, column) == ("openmmlab", "coco") else 1.0
    found = {}
    if (kind, column) not in SOURCES:
        raise DataError(f"There are metrics, but no measures of {kind}, {column}.")
    for measure, keys in zip(COLUMNS[column], SOURCES[kind, column], strict=True):
        value: object = metrics
        for key in keys:
            if key == ONLY and isinstance(value, dict) and len(value) == 1:
                (key,) = value
            value = value.get(key) if isinstance(value, dict) else None
        if type(value) not in (int, float) or not 0 <= factor * value <= 100 + 1e-6:
            raise DataError(
                f"The metrics have {value!r:.80} for {' / '.join(keys)}; expected a number from 0 "
                f"to {100 / factor:g}. There are: {', '.join(map(str, metrics)):.200}."
            )
        found[measure.key] = factor * value
    return found
