"""Dense maps, k-means and neighbors against naive computations."""

import pytest
import torch
import torch.nn.functional as F

from slotcon_plugin.functional import kmeans
from slotcon_plugin.functional.dense import label_shares, upsampled_argmax
from slotcon_plugin.functional.kmeans import assign, fit_centers
from slotcon_plugin.functional.neighbors import nearest, weighted_vote


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("chunk", [1, 3, 10, 64])
def test_argmax_in_parts_is_the_argmax_of_all(chunk):
    maps = random(2, 10, 4, 5)
    whole = F.interpolate(maps, (32, 40), mode="bilinear", align_corners=False).argmax(dim=1)
    assert torch.equal(upsampled_argmax(maps, 32, 40, chunk), whole)


def test_label_shares_of_a_cell():
    labels = torch.tensor([[[0, 0, 1, 255], [0, 2, 1, 255], [1, 1, 255, 255], [1, 1, 255, 255]]])
    shares = label_shares(labels, 2, 2, num_classes=3)
    assert shares.shape == (1, 2, 2, 3)
    assert shares[0, 0, 0].tolist() == [0.75, 0, 0.25]
    assert shares[0, 0, 1].tolist() == [0, 1, 0]  # of the two labeled pixels
    assert shares[0, 1, 0].tolist() == [0, 1, 0]
    assert shares[0, 1, 1].tolist() == [0, 0, 0]  # none is labeled


def test_label_shares_where_cells_differ_in_size():
    labels = torch.zeros(1, 7, 7, dtype=torch.uint8)
    labels[:, :, 4:] = 1  # columns 0-3 belong to the first cell, 4-6 to the second
    assert label_shares(labels, 2, 2, 2)[0, :, :, 1].tolist() == [[0, 1], [0, 1]]


@pytest.mark.parametrize("chunk", [3, 7, 1000])
def test_nearest_in_parts_is_the_top_of_all(chunk):
    queries, memory = random(6, 8), random(50, 8, seed=1)
    similarity, rows = nearest(queries, memory, 5, chunk)
    expected = (queries @ memory.T).topk(5, dim=1)
    torch.testing.assert_close(similarity, expected.values)
    assert torch.equal(rows, expected.indices)
    with pytest.raises(ValueError, match="count is 51, expected 1 to 50"):
        nearest(queries, memory, 51)


def test_a_vote_by_hand():
    similarity = torch.tensor([[1.0, 1.0 - 0.02 * torch.tensor(3.0).log().item()]])
    answers = torch.tensor([[[1.0, 0.0], [0.0, 1.0]]])
    vote = weighted_vote(similarity, answers, temperature=0.02)  # weights 3 : 1
    torch.testing.assert_close(vote, torch.tensor([[0.75, 0.25]]))


def test_kmeans_finds_separate_groups():
    corners = F.normalize(torch.eye(6)[:5] + 0.01, dim=1)
    truth = torch.arange(5).repeat_interleave(40)
    points = F.normalize(corners[truth] + 0.03 * random(200, 6), dim=1)
    centers = fit_centers(points, 5)
    torch.testing.assert_close(centers.norm(dim=1), torch.ones(5))
    cosine, cluster = assign(points, centers)
    assert (cosine > 0.98).all()
    pairs = {(a, b) for a, b in zip(truth.tolist(), cluster.tolist(), strict=True)}
    assert len(pairs) == 5  # one cluster a group
    assert torch.equal(fit_centers(points, 5), centers)  # the seed decides


@pytest.mark.parametrize("count", [30, 29, 10])
def test_kmeans_leaves_no_cluster_empty(count):
    for seed in range(20):
        points = F.normalize(random(30, 4, seed=seed), dim=1)
        _, cluster = assign(points, fit_centers(points, count, seed=seed))
        assert cluster.unique().numel() == count


@pytest.mark.parametrize("steps", [1, 30])
def test_kmeans_fills_clusters_that_start_empty(steps, monkeypatch):
    """Equal initial centers, and two equal directions that are farthest from them."""
    points = F.normalize(torch.tensor([[3.0, 1, 0], [3, 0, 1], [-3, 1, 0], [0, 3, 1]]), dim=1)
    points = points[[0, 1, 2, 2, 3]]
    monkeypatch.setattr(kmeans, "_initial_centers", lambda *_: points[[0, 0, 0]])
    centers = fit_centers(points, 3, steps)
    assert assign(points, centers)[1].tolist() == [0, 0, 1, 1, 2]
    torch.testing.assert_close(centers[0], F.normalize(points[0] + points[1], dim=0))


def test_kmeans_of_fewer_different_directions_than_clusters():
    points = F.normalize(random(3, 4), dim=1)
    centers = fit_centers(points.repeat(5, 1), 6)
    torch.testing.assert_close(centers.norm(dim=1), torch.ones(6))
    assert assign(points, centers)[1].unique().numel() == 3
    with pytest.raises(ValueError, match="num_clusters is 4, expected 1 to 3"):
        fit_centers(points, 4)
