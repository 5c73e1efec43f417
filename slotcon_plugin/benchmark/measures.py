"""What the tables show, and where the tools' metrics have it."""

from dataclasses import dataclass

from ..errors import DataError


@dataclass(frozen=True)
class Measure:
    """One figure of a table, in percent."""

    key: str
    head: str  # Markdown and CSV
    latex: str
    digits: int  # after the point, as in the papers


# A transfer fills one of these groups of columns.
COLUMNS = {
    "coco": (
        Measure("box_ap", "APᵇ", r"AP$^\text{b}$", 1),
        Measure("box_ap50", "APᵇ50", r"AP$^\text{b}_{50}$", 1),
        Measure("box_ap75", "APᵇ75", r"AP$^\text{b}_{75}$", 1),
        Measure("mask_ap", "APᵐ", r"AP$^\text{m}$", 1),
        Measure("mask_ap50", "APᵐ50", r"AP$^\text{m}_{50}$", 1),
        Measure("mask_ap75", "APᵐ75", r"AP$^\text{m}_{75}$", 1),
    ),
    "city": (Measure("city", "City", "City", 1),),
    "voc": (Measure("voc", "VOC", "VOC", 1),),
    "ade": (Measure("ade", "ADE", "ADE", 1),),
    "stuff": (
        Measure("stuff_miou", "Stuff mIoU", "Stuff mIoU", 2),
        Measure("stuff_accuracy", "Stuff acc.", "Stuff acc.", 2),
    ),
}

# Where a tool's metrics have a measure, and the factor to percent. mmdet's are shares, and -1 where
# there is nothing to average over, which is refused.
OPENMMLAB_COCO = {
    f"{part}_ap{size}": ((f"coco/{name}_mAP{under}",), 100.0)
    for part, name in (("box", "bbox"), ("mask", "segm"))
    for size, under in (("", ""), ("50", "_50"), ("75", "_75"))
}
DETECTRON2_COCO = {
    f"{part}_ap{size}": ((name, f"AP{size}"), 1.0)
    for part, name in (("box", "bbox"), ("mask", "segm"))
    for size in ("", "50", "75")
}
MATCHED = ("results", "matchings", "one-to-one")
SOURCES = {
    ("openmmlab", "coco"): OPENMMLAB_COCO,
    ("detectron2", "coco"): DETECTRON2_COCO,
    ("openmmlab", "city"): {"city": (("mIoU",), 1.0)},
    ("openmmlab", "voc"): {"voc": (("mIoU",), 1.0)},
    ("openmmlab", "ade"): {"ade": (("mIoU",), 1.0)},
    ("unsupervised", "stuff"): {
        "stuff_miou": ((*MATCHED, "miou"), 1.0),
        "stuff_accuracy": ((*MATCHED, "accuracy"), 1.0),
    },
}


def read_measures(kind: str, column: str, metrics: dict) -> dict[str, float]:
    """The figures of a column, in percent, from what a tool wrote.

    Args:
        kind, column: of the transfer.
        metrics: the tool's JSON file.

    Raises:
        DataError: a figure is missing, or no number.
    """
    found = {}
    for measure, (path, factor) in SOURCES[kind, column].items():
        value: object = metrics
        for part in path:
            value = value.get(part) if isinstance(value, dict) else None
        if not isinstance(value, int | float) or not value >= 0:
            raise DataError(
                f"The metrics have no figure {' / '.join(path)} ({value!r}); there are: "
                f"{', '.join(map(str, metrics))}."
            )
        found[measure] = factor * value
    return found
