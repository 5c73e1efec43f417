"""Accuracy and intersection over union (IoU) of segmented images."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.data import Dataset

from ..functional.checks import check_shapes
from ..functional.collectives import sum_over_processes
from ..functional.dense import upsampled_argmax
from . import coco_stuff
from .batches import LoaderOptions, Network, batches
from .matching import confusion_counts


class SegmentationScores(NamedTuple):
    """Scores of a prediction, or of a matched clustering, in [0, 1]."""

    accuracy: float  # share of the labeled pixels that are correct
    mean_iou: float  # mean over the classes that occur in labels or predictions
    iou_l: Tensor  # (l,) float64; NaN for a class that occurs in neither
    recall_l: Tensor  # (l,) float64, share of a class's pixels that are correct; NaN without any
    pixels_l: Tensor  # (l,) int64, labeled pixels of each class


def segmentation_scores(matched_nl: Tensor, part: slice = slice(None)) -> SegmentationScores:
    """Scores of all classes, or of a part of them, from pixel counts of (predicted class, label).

    `matched_nl` is (l, l), or (l + 1, l) with a last row for predictions of no class. Those are
    errors: they count as labels of their class, but as predictions of none.
    """
    check_shapes(matched_nl=matched_nl)
    rows, num_classes = matched_nl.shape
    if rows not in (num_classes, num_classes + 1):
        raise ValueError(f"matched_nl has {rows} rows, expected {num_classes} or {num_classes + 1}")
    correct_l = matched_nl[:num_classes].diagonal()[part].double()
    labeled_l = matched_nl.sum(dim=0)[part]
    predicted_l = matched_nl[:num_classes].sum(dim=1)[part]
    iou_l = correct_l / (labeled_l + predicted_l - correct_l)  # 0 / 0 = NaN: it does not occur
    accuracy, mean_iou = (correct_l.sum() / labeled_l.sum()).item(), iou_l.nanmean().item()
    return SegmentationScores(accuracy, mean_iou, iou_l, correct_l / labeled_l, labeled_l)


def describe(matched_nl: Tensor, classes: Sequence[str]) -> dict:
    """`segmentation_scores` in percent by name, and None for what does not occur, as in reports.

    With COCO-Stuff's 27 classes, things and stuff are also scored apart.
    """
    scores = segmentation_scores(matched_nl)
    result = dict(accuracy=_percent(scores.accuracy), miou=_percent(scores.mean_iou))
    if tuple(classes) == coco_stuff.CLASSES:
        for name, part in (("things", coco_stuff.THINGS), ("stuff", coco_stuff.STUFF)):
            accuracy, miou, *_ = segmentation_scores(matched_nl, part)
            result |= {f"accuracy_{name}": _percent(accuracy), f"miou_{name}": _percent(miou)}
    columns = scores.iou_l.tolist(), scores.recall_l.tolist(), scores.pixels_l.tolist()
    result["classes"] = {
        name: dict(iou=_percent(iou), accuracy=_percent(recall), pixels=pixels)
        for name, iou, recall, pixels in zip(classes, *columns, strict=True)
    }
    result["classes_in_labels"] = int((scores.pixels_l > 0).sum())
    return result


def _percent(value: float) -> float | None:
    return None if value != value else round(100 * value, 4)


def count_confusions(
    score_maps: Callable[[Tensor], Sequence[Tensor]], dataset: Dataset, loader: LoaderOptions
) -> list[Tensor]:
    """Confusion counts (k, l), int64 on the CPU, of each segmentation of a `LabeledImages`.

    They are added up over batches and processes, so memory does not grow with the dataset.

    Args:
        score_maps: from uint8 images (b, 3, y, x) to the scores (b, k, h, w) of each segmentation;
            they are upsampled, and each pixel is assigned to its best score.
    """
    counts = []
    for batch in batches(dataset, loader, "segmenting"):
        labels_byx, maps = batch["labels"], score_maps(batch["inputs"])
        shapes = [(maps_bkhw.shape[1], len(dataset.classes)) for maps_bkhw in maps]
        counts = counts or [labels_byx.new_zeros(shape, dtype=torch.int64) for shape in shapes]
        for total_kl, maps_bkhw in zip(counts, maps, strict=True):
            clusters_byx = upsampled_argmax(maps_bkhw, *labels_byx.shape[1:])
            total_kl += confusion_counts(clusters_byx, labels_byx, *total_kl.shape)
    return [sum_over_processes(total_kl).cpu() for total_kl in counts]


def score_predictions(score_maps: Network, dataset: Dataset, loader: LoaderOptions) -> dict:
    """Scores, see `describe`, of predictions whose score maps have a channel for each class."""
    (counts_ll,) = count_confusions(lambda images: [score_maps(images)], dataset, loader)
    return describe(counts_ll, dataset.classes)
