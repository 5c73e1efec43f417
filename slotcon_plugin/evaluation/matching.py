"""Cluster-to-class matching: confusion counts, one-to-one and many-to-one.

Ji et al., "Invariant Information Clustering" (ICCV 2019), and Cho et al., "PiCIE" (CVPR 2021),
match clusters to classes one-to-one over a whole dataset; matching by majority is the usual
many-to-one. Counts are added up over batches and processes, so memory does not grow with the
number of images.
"""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from ..functional.checks import check_shapes

UNMATCHED = -1  # in place of the class of a cluster that has none
IGNORED = 255  # the label of pixels that are not counted


def confusion_counts(
    clusters: Tensor, labels: Tensor, num_clusters: int, num_classes: int, ignored: int = IGNORED
) -> Tensor:
    """Count the pixels of each pair of cluster and class.

    Args:
        clusters: integers in [0, num_clusters), of any shape.
        labels: integers of the same shape, in [0, num_classes) or `ignored`.
        num_clusters, num_classes: k and l.
        ignored: the label of pixels that are not counted.

    Returns:
        (k, l) int64 counts.

    Raises:
        ValueError: the shapes differ, or a value is out of range.
    """
    if clusters.shape != labels.shape:
        raise ValueError(
            f"clusters has shape {tuple(clusters.shape)}, expected the labels' shape "
            f"{tuple(labels.shape)}."
        )
    counted = labels != ignored
    clusters_n, labels_n = clusters[counted].long(), labels[counted].long()
    for name, values, size, other in (
        ("clusters", clusters_n, num_clusters, ""),
        ("labels", labels_n, num_classes, f" or {ignored} for ignored pixels"),
    ):
        if len(values) and not (values.min() >= 0 and values.max() < size):
            raise ValueError(
                f"{name} are in [{values.min()}, {values.max()}], expected [0, {size - 1}]{other}."
            )
    pairs_n = clusters_n * num_classes + labels_n
    counts = torch.bincount(pairs_n, minlength=num_clusters * num_classes)
    return counts.view(num_clusters, num_classes)


def match_one_to_one(counts_kl: Tensor) -> Tensor:
    """Match each class with at most one cluster, by the Hungarian method: most pixels agree.

    With more clusters than classes, the remaining clusters are `UNMATCHED` and their pixels are
    errors. With fewer, some classes are never predicted.

    Returns:
        (k,) int64: the class of each cluster, or `UNMATCHED`.
    """
    from scipy.optimize import linear_sum_assignment  # pretraining does not need SciPy

    check_shapes(counts_kl=counts_kl)
    rows, columns = linear_sum_assignment(counts_kl.cpu().numpy(), maximize=True)
    classes_k = torch.full((len(counts_kl),), UNMATCHED)
    classes_k[torch.from_numpy(rows.astype(np.int64))] = torch.from_numpy(columns.astype(np.int64))
    return classes_k


def match_majority(counts_kl: Tensor) -> Tensor:
    """Match each cluster with the class of most of its pixels; clusters may share a class.

    Scores can only grow with the number of clusters: compare equal k. Clusters without a labeled
    pixel are `UNMATCHED`.

    Returns:
        (k,) int64: the class of each cluster, or `UNMATCHED`.
    """
    check_shapes(counts_kl=counts_kl)
    counts_kl = counts_kl.cpu()
    return torch.where(counts_kl.sum(dim=1) > 0, counts_kl.argmax(dim=1), UNMATCHED)


MATCHINGS: dict[str, Callable[[Tensor], Tensor]] = {
    "one-to-one": match_one_to_one,
    "many-to-one": match_majority,
}


def matched_counts(counts_kl: Tensor, classes_k: Tensor) -> Tensor:
    """Add up the counts of each class's clusters.

    Returns:
        (l + 1, l): predicted class, label. The last row counts the pixels of `UNMATCHED` clusters.
    """
    check_shapes(counts_kl=counts_kl, classes_k=classes_k)
    num_classes = counts_kl.shape[1]
    rows_k = torch.where(classes_k == UNMATCHED, num_classes, classes_k)
    total = counts_kl.new_zeros((num_classes + 1, num_classes)).cpu()
    return total.index_add_(0, rows_k.cpu(), counts_kl.cpu())
