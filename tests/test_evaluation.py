"""The evaluations on images whose answer is known, on one process and on two."""

import gc
from pathlib import Path

import numpy as np
import pytest
import torch
from colored import COLORS, ColorFeatures, ColorGroups, write_colored
from PIL import Image
from tiny_training import assert_same
from torch.utils._python_dispatch import TorchDispatchMode

from benchmarks.processes import run_processes
from slotcon_plugin.errors import ConfigError, DataError
from slotcon_plugin.evaluation.batches import NoBar, Reading, check_apart
from slotcon_plugin.evaluation.evaluation_report import Run, comparison
from slotcon_plugin.evaluation.faiss_memory import FaissNeighbors
from slotcon_plugin.evaluation.feature_memory import TorchNeighbors
from slotcon_plugin.evaluation.knn import ClassFolders, classify
from slotcon_plugin.evaluation.labeled_images import LabeledImages
from slotcon_plugin.evaluation.probe import probe
from slotcon_plugin.evaluation.retrieval import remember, retrieve
from slotcon_plugin.evaluation.unsupervised_segmentation import (
    count_agreement,
    overcluster,
    sample_directions,
    unsupervised,
)

BOTH = ("one-to-one", "many-to-one")
QUIET = Reading(batch_size=4)
ORDER = [4, 2, 0, 5, 3, 1]


def open_colored(folder: Path) -> LabeledImages:
    return LabeledImages(folder / "images", folder / "labels", "voc", size=64)


@pytest.fixture(scope="module")
def colored(tmp_path_factory):
    """Training images and 5 others: an odd number for two processes."""
    folder = tmp_path_factory.mktemp("colored")
    return [
        open_colored(write_colored(folder / name, count, seed))
        for name, count, seed in (("train", 6, 0), ("test", 5, 1))
    ]


def test_permuted_prototypes_are_matched(colored):
    result = unsupervised(ColorGroups(ORDER), 6, colored[1], BOTH, QUIET)
    for mode in BOTH:
        assert result["matchings"][mode]["clusters"] == ORDER
        assert result["matchings"][mode]["accuracy"] == result["matchings"][mode]["miou"] == 100
        assert result["matchings"][mode]["classes_in_labels"] == 6
    assert result["prototypes_used"] == 6
    assert "6 prototypes for 21 classes" in result["note"]


def test_the_maps_are_resampled_as_the_protocol_says(colored):
    """Against a direct computation: full-size scores, one arg-max, one histogram."""
    groups, dataset = ColorGroups(ORDER), colored[1]
    (counts,) = count_agreement(lambda p: [groups(p)], [6], dataset, QUIET)
    expected = np.zeros((6, 21), np.int64)
    for item in (dataset[i] for i in range(len(dataset))):
        scores = groups(item["inputs"][None])
        scores = torch.nn.functional.interpolate(scores, (64, 64), mode="bilinear")
        winner, labels = scores.argmax(dim=1)[0].numpy(), item["labels"].numpy()
        np.add.at(expected, (winner[labels < 255], labels[labels < 255]), 1)
    assert (counts.numpy() == expected).all()
    labeled = sum(int((dataset[i]["labels"] < 255).sum()) for i in range(5))
    assert counts.sum() == labeled < 5 * 64 * 64


def test_k_means_finds_the_colors(colored):
    result = overcluster(ColorFeatures(), colored[1], [6, 12], BOTH, QUIET)
    assert result["directions"] == 5 * 64
    assert result["clusterings"]["6"]["one-to-one"]["miou"] == 100
    assert result["clusterings"]["12"]["many-to-one"]["miou"] == 100
    with pytest.raises(ConfigError, match="--clusters 400: there are 320 features"):
        overcluster(ColorFeatures(), colored[1], [400], BOTH, QUIET)
    small = overcluster(ColorFeatures(), colored[1], [6], BOTH, QUIET, colored[0], most=60)
    assert small["directions"] == 60  # the bound holds, and other images can be clustered
    assert len(sample_directions(ColorFeatures(), colored[1], 3, 0, QUIET)) == 3


def test_retrieval(colored):
    train, test = colored
    result = retrieve(ColorFeatures(), train, test, QUIET, count=5)
    assert result["miou"] == result["accuracy"] == 100
    assert result["neighbors"] == 5
    # neighbors beyond a color's cells count little at a low temperature, and all at a high one
    many = dict(count=300)
    assert retrieve(ColorFeatures(), train, test, QUIET, **many)["miou"] == 100
    assert retrieve(ColorFeatures(), train, test, QUIET, **many, temperature=100)["miou"] < 50


def test_the_memory_is_bounded(colored):
    directions, answers = remember(ColorFeatures(), colored[0], QUIET, most=30, seed=0)
    assert directions.shape == (30, 3) and answers.shape == (30, 21)
    torch.testing.assert_close(directions.norm(dim=1), torch.ones(30))
    torch.testing.assert_close(answers.sum(dim=1), torch.ones(30))  # no cell without labels
    everything = remember(ColorFeatures(), colored[0], QUIET, most=10_000, seed=0)[1]
    labeled = sum(int((colored[0][i]["labels"] < 255).sum()) for i in range(6)) / 4
    assert len(everything) == labeled  # four pixels of each labeled cell


def test_rare_classes_are_remembered_first(tmp_path):
    for name in ("images", "labels"):
        (tmp_path / name).mkdir()
    labels = np.zeros((64, 64), np.uint8)
    labels[:8, :16] = 1  # 2 of 64 cells
    Image.fromarray(np.full((64, 64, 3), 200, np.uint8)).save(tmp_path / "images" / "a.png")
    Image.fromarray(labels).save(tmp_path / "labels" / "a.png")
    dataset = open_colored(tmp_path)
    kept = [remember(ColorFeatures(), dataset, QUIET, 4, seed)[1][:, 1].sum() for seed in range(9)]
    assert sum(kept) > 12  # by chance alone it would be about one


def test_faiss_finds_what_torch_finds():
    pytest.importorskip("faiss")
    generator = torch.Generator().manual_seed(0)
    memory, queries = (torch.randn(n, 16, generator=generator) for n in (300, 20))
    one, other = (kind(memory).search(queries, 7) for kind in (TorchNeighbors, FaissNeighbors))
    torch.testing.assert_close(one[0], other[0])
    assert torch.equal(one[1], other[1])


def test_a_probe_learns_the_colors_cached_or_not(colored):
    train, test = colored
    results = [
        probe(ColorFeatures(), train, test, QUIET, epochs=40, cache=cache) for cache in (2**20, 0)
    ]
    assert all(result["miou"] == 100 for result in results)
    assert probe(ColorFeatures(), train, test, QUIET, epochs=1, lr=0.0)["accuracy"] < 60


class Scaled(ColorFeatures):
    """The same features, much smaller."""

    def forward(self, images_b3hw):
        return 1e-4 * super().forward(images_b3hw)


def test_a_short_probe_does_not_depend_on_the_features_scale(colored):
    few = dict(epochs=3, lr=0.5)
    large, small = (probe(f(), *colored, QUIET, **few) for f in (ColorFeatures, Scaled))
    assert small["accuracy"] == pytest.approx(large["accuracy"], abs=3)
    assert large["accuracy"] > 60


def test_a_diverged_probe_says_so(colored):
    result = probe(ColorFeatures(), *colored, QUIET, epochs=3, lr=float("inf"))
    assert result["last_loss"] is None and "take a smaller --lr" in result["note"]


def test_the_probe_keeps_features_once(colored):
    held = []

    class Bar(NoBar):
        def __init__(self, total, title, unit="image"):
            if title == "training":
                gc.collect()
                alive = (one for one in gc.get_objects() if type(one) is torch.Tensor)
                held.append(sum(one.nbytes for one in alive if one.dtype == torch.float16))

    probe(ColorFeatures(), *colored, Reading(batch_size=4, bar=Bar), epochs=1)
    assert held == [6 * 3 * 8 * 8 * 2]  # images, channels, places, bytes


@pytest.fixture
def folders(tmp_path):
    for split in ("train", "val"):
        for i, color in enumerate(COLORS[:3]):
            folder = tmp_path / split / f"class{i}"
            folder.mkdir(parents=True)
            for n in range(2):
                pixels = np.full((40, 50, 3), color) // (n + 1)
                Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{n}.png")
    return tmp_path


def test_knn_classifies_images(folders):
    train = ClassFolders(folders / "train", size=32)
    result = classify(ColorFeatures(), train, ClassFolders(folders / "val", size=32), QUIET, 1)
    assert (result["top1"], result["top5"], result["classes"]) == (100, 100, 3)
    # an image in the wrong folder is a mistake
    (folders / "val" / "class0" / "1.png").rename(folders / "val" / "class1" / "2.png")
    result = classify(ColorFeatures(), train, ClassFolders(folders / "val", size=32), QUIET, 1)
    assert result["top1"] == pytest.approx(100 * 5 / 6, abs=0.01)
    (folders / "val" / "class1").rename(folders / "val" / "other")
    with pytest.raises(DataError, match=r"classes \['other'\], which the training folder does not"):
        ClassFolders(folders / "val", train.classes)


class Joined(TorchDispatchMode):
    """Notes the shapes that are made by concatenation."""

    def __init__(self):
        super().__init__()
        self.shapes = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        made = function(*args, **(kwargs or {}))
        if function is torch.ops.aten.cat.default:
            self.shapes.append(tuple(made.shape))
        return made


def test_knn_keeps_features_once_and_on_the_cpu(folders):
    train, test = (ClassFolders(folders / name, size=32) for name in ("train", "val"))
    seen = []

    def search(memory_nd):
        seen.append(memory_nd)
        return TorchNeighbors(memory_nd)

    with Joined() as joined:
        classify(ColorFeatures(), train, test, QUIET, 1, search=search)
    assert seen[0].shape == (6, 3) and seen[0].device.type == "cpu"
    assert joined.shapes and (6, 3) not in joined.shapes


def test_what_is_scored_was_not_learned_from(folders, colored):
    whole = ClassFolders(folders / "train", size=32)
    (folders / "link").symlink_to(folders / "train", target_is_directory=True)
    linked = ClassFolders(folders / "link", size=32)
    with pytest.raises(ConfigError, match=r"6 of the 6 images .*class0/0\.png\).* Take others"):
        check_apart(whole, linked, "Take others.")
    check_apart(whole, ClassFolders(folders / "val", size=32), "Take others.")
    check_apart(*colored, "Take others.")


def test_networks_stand_in_one_table():
    scores = dict(accuracy=50.0, miou=25.0)
    probed = [Run("a.pth", "", scores), Run("a.pth", "", scores | dict(miou=None))]
    assert comparison(probed).splitlines()[2:] == [
        "| a.pth | 50.00    | 25.00 |",
        "| a.pth | 50.00    | –     |",
    ]
    clusterings = {"6": {"one-to-one": scores, "many-to-one": scores}}
    clustered = [Run(name, "", dict(clusterings=clusterings)) for name in ("a", "b")]
    head, _, *rows = comparison(clustered).splitlines()
    assert [word.strip() for word in head.split("|")[1:-1]] == [
        "accuracy / mIoU, %",
        "6 clusters, one-to-one",
        "6 clusters, many-to-one",
    ]
    assert [row.split("|")[1].strip() for row in rows] == ["a", "b"]
    assert all(row.count("50.00 / 25.00") == 2 for row in rows)


def _find(rank, folder):
    """What must not depend on the number of processes."""
    dataset, features = open_colored(folder), ColorFeatures()
    return dict(
        counts=count_agreement(lambda p: [ColorGroups(ORDER)(p)], [6], dataset, QUIET)[0],
        # fewer clusters than colors, of a few cells: other cells would give others
        clustered=overcluster(features, dataset, [3, 4], BOTH, QUIET, most=22),
        sampled=[sample_directions(features, dataset, most, 0, QUIET) for most in (22, 3)],
        retrieved=retrieve(features, dataset, dataset, QUIET, 4, temperature=50, most=77),
    )


def test_two_processes_equal_one(tmp_path):
    folder = write_colored(tmp_path / "data", count=5, seed=1)
    together = run_processes(_find, 2, folder)
    alone = _find(0, folder)
    clustered = alone.pop("clustered")
    assert alone["retrieved"]["memory"] == 75  # 15 cells of each image, in whatever process
    assert [len(rows) for rows in alone["sampled"]] == [20, 3]  # 4 cells of each; the bound
    for found in together:
        also = found.pop("clustered")
        assert_same(found, alone)
        for size in ("3", "4"):
            one, other = (run["clusterings"][size]["one-to-one"] for run in (also, clustered))
            assert one["clusters"] == other["clusters"] and 0 < one["miou"] < 100
            # cells of another color than any center's may lie between two of them
            assert one["miou"] == pytest.approx(other["miou"], abs=0.1)
