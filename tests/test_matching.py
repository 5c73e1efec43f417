"""Cluster-to-class matching and scores, computed by hand."""

import pytest
import torch

from slotcon_plugin.evaluation.matching import (
    UNMATCHED,
    confusion_counts,
    match_majority,
    match_one_to_one,
    matched_counts,
)
from slotcon_plugin.evaluation.segmentation_scores import segmentation_scores


def score(counts, match):
    classes = match(counts)
    return classes.tolist(), segmentation_scores(matched_counts(counts, classes))


@pytest.mark.parametrize("match", [match_one_to_one, match_majority])
def test_permuted_perfect_clusters_score_100(match):
    labels = torch.randint(0, 7, (3, 20, 20), generator=torch.Generator().manual_seed(0))
    order = torch.tensor([3, 0, 6, 1, 5, 2, 4])
    classes, scores = score(confusion_counts(order[labels], labels, 7, 7), match)
    assert classes == order.argsort().tolist()
    assert scores.accuracy == scores.mean_iou == 1
    assert scores.iou_l.tolist() == [1.0] * 7


def test_counts_by_hand():
    clusters = torch.tensor([[0, 0, 1], [1, 2, 2]])
    labels = torch.tensor([[1, 1, 0], [1, 255, 0]])
    counts = confusion_counts(clusters, labels, 3, 2)
    assert counts.tolist() == [[0, 2], [1, 1], [1, 0]]
    assert counts.dtype == torch.int64


def test_ignored_pixels_count_nowhere():
    labels = torch.randint(0, 3, (50,), generator=torch.Generator().manual_seed(1))
    clusters = torch.randint(0, 4, (50,), generator=torch.Generator().manual_seed(2))
    alone = confusion_counts(clusters, labels, 4, 3)
    # 30 more pixels without a label, where even the cluster's number is not checked
    clusters = torch.cat([clusters, torch.full((30,), 99)])
    labels = torch.cat([labels, torch.full((30,), 255)])
    assert torch.equal(confusion_counts(clusters, labels, 4, 3), alone)
    nothing = confusion_counts(clusters, torch.full_like(labels, 255), 4, 3)
    assert nothing.sum() == 0


def test_extra_clusters_are_errors_in_one_to_one():
    # Class 0 has 10 pixels, 6 in cluster 0 and 4 in cluster 1; class 1 has 10, all in cluster 2.
    counts = torch.tensor([[6, 0], [4, 0], [0, 10]])
    classes, scores = score(counts, match_one_to_one)
    assert classes == [0, UNMATCHED, 1]
    assert scores.accuracy == 16 / 20
    assert scores.iou_l.tolist() == [6 / 10, 1.0]  # the 4 pixels stay in the union of class 0
    assert scores.mean_iou == pytest.approx(0.8)
    # many-to-one matches both clusters with class 0
    classes, scores = score(counts, match_majority)
    assert classes == [0, 0, 1]
    assert scores.accuracy == scores.mean_iou == 1


def test_the_hungarian_matching_is_not_the_greedy_one():
    # Greedy matching takes (0, 0) with 10 and then (1, 1) with 0. The best is 9 + 9.
    counts = torch.tensor([[10, 9], [9, 0]])
    classes, scores = score(counts, match_one_to_one)
    assert classes == [1, 0]
    assert scores.accuracy == 18 / 28
    assert scores.iou_l.tolist() == [9 / (19 + 9 - 9), 9 / (9 + 19 - 9)]


def test_fewer_clusters_than_classes():
    counts = torch.tensor([[5, 1, 0], [0, 1, 3]])
    classes, scores = score(counts, match_one_to_one)
    assert classes == [0, 2]
    assert scores.iou_l.tolist() == [5 / 6, 0.0, 3 / 4]
    assert scores.recall_l.tolist() == [1.0, 0.0, 1.0]


def test_absent_classes_are_not_averaged_and_unused_clusters_are_unmatched():
    counts = torch.tensor([[4, 0, 0], [1, 3, 0], [0, 0, 0]])
    classes, scores = score(counts, match_majority)
    assert classes == [0, 1, UNMATCHED]
    assert scores.iou_l[2].isnan() and scores.recall_l[2].isnan()
    assert scores.mean_iou == pytest.approx((4 / 5 + 3 / 4) / 2)
    # one-to-one matches it with the empty cluster, which predicts no pixel either
    assert score(counts, match_one_to_one)[1].mean_iou == scores.mean_iou


def test_things_and_stuff_in_class_order():
    counts = torch.tensor([[8, 0, 0, 2], [2, 5, 0, 0], [0, 0, 6, 0], [0, 5, 0, 4]])
    # 20 pixels of classes 0 and 1, 13 are correct
    accuracy, miou, *_ = segmentation_scores(counts, slice(0, 2))
    assert accuracy == pytest.approx(13 / 20)
    assert miou == pytest.approx((8 / 12 + 5 / 12) / 2)
    accuracy, miou, *_ = segmentation_scores(counts, slice(2, 4))
    assert accuracy == pytest.approx(10 / 12)
    assert miou == pytest.approx((1 + 4 / 11) / 2)


def test_wrong_arguments():
    labels = torch.tensor([0, 1])
    with pytest.raises(ValueError, match=r"clusters has shape \(3,\), expected .* \(2,\)"):
        confusion_counts(torch.tensor([0, 0, 0]), labels, 2, 2)
    with pytest.raises(ValueError, match=r"clusters are in \[0, 2\], expected \[0, 1\]"):
        confusion_counts(torch.tensor([0, 2]), labels, 2, 2)
    with pytest.raises(ValueError, match=r"labels are in \[0, 7\], .* or 255"):
        confusion_counts(labels, torch.tensor([0, 7]), 2, 2)
    with pytest.raises(ValueError, match="5 rows, expected 2 or 3"):
        segmentation_scores(torch.zeros(5, 2, dtype=torch.int64))
