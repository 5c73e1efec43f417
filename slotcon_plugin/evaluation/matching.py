"""Cluster-to-class matching: confusion counts, one-to-one and many-to-one.

Ji et al., "Invariant Information Clustering" (ICCV 2019), and Cho et al., "PiCIE" (CVPR 2021),
match clusters to classes one-to-one over a whole dataset; matching by majority is the usual
many-to-one.
"""

import torch
from torch import Tensor

from ..functional.checks import check_shapes

UNMATCHED = -1  # in place of the class of a cluster that has none
IGNORED = 255  # the label of pixels that are not counted


def confusion_counts(
    clusters: Tensor, labels: Tensor, num_clusters: int, num_classes: int
) -> Tensor:
    """Count the pixels of each pair of cluster and class: (k, l) int64.

    Args:
        clusters: integers in [0, num_clusters), of any shape.
        labels: integers of the same shape, in [0, num_classes) or `IGNORED`.
    """
    if clusters.shape != labels.shape:
        shape, expected = tuple(clusters.shape), tuple(labels.shape)
        raise ValueError(f"clusters has shape {shape}, expected the labels' {expected}.")
    counted = labels != IGNORED
    clusters_n, labels_n = clusters[counted].long(), labels[counted].long()
    for name, values, size, other in (
        ("clusters", clusters_n, num_clusters, ""),
        ("labels", labels_n, num_classes, f" or {IGNORED} for ignored pixels"),
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

    Returns the class of each cluster, (k,) int64. With more clusters than classes, the remaining
    clusters are `UNMATCHED` and their pixels are errors. With fewer, some classes are never
    predicted.
    """
    from scipy.optimize import linear_sum_assignment  # pretraining does not need SciPy

    check_shapes(counts_kl=counts_kl)
    rows, columns = linear_sum_assignment(counts_kl.cpu().numpy(), maximize=True)
    classes_k = torch.full((len(counts_kl),), UNMATCHED)
    classes_k[torch.tensor(rows.tolist())] = torch.tensor(columns.tolist())
    return classes_k


def match_majority(counts_kl: Tensor) -> Tensor:
    """Match each cluster with the class of most of its pixels; clusters may share a class.

    Returns the class of each cluster, (k,) int64, or `UNMATCHED` without a labeled pixel. Scores
    can only grow with the number of clusters: compare equal k.
    """
    check_shapes(counts_kl=counts_kl)
    counts_kl = counts_kl.cpu()
    return torch.where(counts_kl.sum(dim=1) > 0, counts_kl.argmax(dim=1), UNMATCHED)


MATCHINGS = {"one-to-one": match_one_to_one, "many-to-one": match_majority}


def matched_counts(counts_kl: Tensor, classes_k: Tensor) -> Tensor:
    """Add up the counts of each class's clusters: (l + 1, l), predicted class and label.

    The last row counts the pixels of `UNMATCHED` clusters.
    """
    check_shapes(counts_kl=counts_kl, classes_k=classes_k)
    num_classes = counts_kl.shape[1]
    rows_k = torch.where(classes_k == UNMATCHED, num_classes, classes_k)
    total = counts_kl.new_zeros((num_classes + 1, num_classes)).cpu()
    return total.index_add_(0, rows_k.cpu(), counts_kl.cpu())
