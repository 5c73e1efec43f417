"""Clusters against classes: counts of agreement, who stands for whom, and what that is worth.

Ji et al., "Invariant Information Clustering" (ICCV 2019) and Cho et al., "PiCIE" (CVPR 2021) match
clusters to classes one-to-one over a whole data set; majority matching is the usual many-to-one.
Counts add up, over batches and over processes, so that memory does not grow with the images.
"""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..functional.checks import check_shapes

NOBODY = -1  # the class of a cluster that stands for none
IGNORED = 255  # the label that counts nowhere


class SegmentationScores(NamedTuple):
    """How good a matched clustering, or a prediction, is. Shares in [0, 1]."""

    accuracy: float  # share of the labeled pixels that are right
    mean_iou: float  # mean over the classes that occur in labels or predictions
    iou_l: Tensor  # (l,) float64, intersection over union; NaN for a class that occurs in neither
    recall_l: Tensor  # (l,) float64, share of a class's pixels that are right; NaN if it has none
    pixels_l: Tensor  # (l,) int64, labeled pixels of each class


def confusion_counts(
    clusters: Tensor, labels: Tensor, num_clusters: int, num_classes: int, ignored: int = IGNORED
) -> Tensor:
    """Count how often each cluster meets each class.

    Args:
        clusters: integers in [0, num_clusters), any shape.
        labels: integers of the same shape, in [0, num_classes) or `ignored`.
        num_clusters, num_classes: k and l.
        ignored: the label of pixels that are not counted.

    Returns:
        (k, l) int64 counts; add those of all batches.

    Raises:
        ValueError: shapes that differ, or a value out of range.
    """
    if clusters.shape != labels.shape:
        raise ValueError(
            f"clusters has shape {tuple(clusters.shape)}, expected the labels' shape "
            f"{tuple(labels.shape)}."
        )
    counted = labels != ignored
    clusters_n, labels_n = clusters[counted].long(), labels[counted].long()
    for name, values, size in (
        ("clusters", clusters_n, num_clusters),
        ("labels", labels_n, num_classes),
    ):
        if len(values) and not (values.min() >= 0 and values.max() < size):
            raise ValueError(
                f"{name} lie in [{values.min()}, {values.max()}], expected [0, {size - 1}]"
                + (f" or {ignored} for ignored pixels." if name == "labels" else ".")
            )
    pairs_n = clusters_n * num_classes + labels_n
    counts = torch.bincount(pairs_n, minlength=num_clusters * num_classes)
    return counts.view(num_clusters, num_classes)


def match_one_to_one(counts_kl: Tensor) -> Tensor:
    """Give each class at most one cluster and each cluster at most one class, Hungarian method.

    The matching has the most pixels in agreement. With more clusters than classes the clusters left
    over stand for `NOBODY`, and their pixels are errors; with fewer, some classes are never
    predicted.

    Returns:
        (k,) int64 class of each cluster, or `NOBODY`.
    """
    from scipy.optimize import linear_sum_assignment  # pretraining alone does not need SciPy

    check_shapes(counts_kl=counts_kl)
    rows, columns = linear_sum_assignment(counts_kl.cpu().numpy(), maximize=True)
    classes_k = torch.full((len(counts_kl),), NOBODY)
    classes_k[torch.from_numpy(rows.astype(np.int64))] = torch.from_numpy(columns.astype(np.int64))
    return classes_k


def match_majority(counts_kl: Tensor) -> Tensor:
    """Give each cluster the class that most of its pixels have; many clusters may share a class.

    The more clusters, the better this can become: compare only equal k. A cluster without a
    labeled pixel stands for `NOBODY`.

    Returns:
        (k,) int64 class of each cluster, or `NOBODY`.
    """
    check_shapes(counts_kl=counts_kl)
    counts_kl = counts_kl.cpu()
    return torch.where(counts_kl.sum(dim=1) > 0, counts_kl.argmax(dim=1), NOBODY)


def matched_counts(counts_kl: Tensor, classes_k: Tensor) -> Tensor:
    """Add up the clusters of each class. Returns (l + 1, l): predicted class, label.

    The last row holds the pixels of clusters that stand for `NOBODY`.
    """
    check_shapes(counts_kl=counts_kl, classes_k=classes_k)
    num_classes = counts_kl.shape[1]
    rows_k = torch.where(classes_k == NOBODY, num_classes, classes_k)
    total = counts_kl.new_zeros((num_classes + 1, num_classes)).cpu()
    return total.index_add_(0, rows_k.cpu(), counts_kl.cpu())


def segmentation_scores(matched_nl: Tensor) -> SegmentationScores:
    """Accuracy and intersection over union from counts of (predicted class, label).

    Args:
        matched_nl: (l, l), or (l + 1, l) with a last row for predictions of no class, which are
            errors: they count in no class's predictions, but in the labels of theirs.
    """
    check_shapes(matched_nl=matched_nl)
    num_classes = matched_nl.shape[1]
    if len(matched_nl) not in (num_classes, num_classes + 1):
        raise ValueError(
            f"matched_nl has {len(matched_nl)} rows, expected {num_classes} or {num_classes + 1}."
        )
    right_l = matched_nl[:num_classes].diagonal().double()
    labeled_l = matched_nl.sum(dim=0)
    predicted_l = matched_nl[:num_classes].sum(dim=1)
    iou_l = right_l / (labeled_l + predicted_l - right_l)  # 0 / 0 is NaN: the class does not occur
    return SegmentationScores(
        accuracy=(right_l.sum() / labeled_l.sum()).item(),
        mean_iou=iou_l.nanmean().item(),
        iou_l=iou_l,
        recall_l=right_l / labeled_l,
        pixels_l=labeled_l,
    )


def scores_of(scores: SegmentationScores, classes: slice) -> tuple[float, float]:
    """Accuracy and mean IoU of a range of classes, as things and stuff are.

    Accuracy is over the pixels that are labeled with these classes.
    """
    pixels_l = scores.pixels_l[classes].double()
    right = (scores.recall_l[classes].nan_to_num() * pixels_l).sum()
    return (right / pixels_l.sum()).item(), scores.iou_l[classes].nanmean().item()
