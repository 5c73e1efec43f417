"""The evaluations on images with known results, in one process and in two."""

import gc
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from colored import COLORS, ColorFeatures, ColorGroups, write_colored
from PIL import Image
from tiny_training import assert_same
from torch.utils._python_dispatch import TorchDispatchMode

from benchmarks.processes import run_processes
from slotcon_plugin.errors import ConfigError, DataError, UnreadableFileError
from slotcon_plugin.evaluation import knn
from slotcon_plugin.evaluation.batches import LoaderOptions, check_disjoint, choose_device
from slotcon_plugin.evaluation.evaluation_report import Run, score_table
from slotcon_plugin.evaluation.knn import ClassFolders, classify
from slotcon_plugin.evaluation.labeled_images import LabeledImages
from slotcon_plugin.evaluation.probe import probe
from slotcon_plugin.evaluation.retrieval import build_memory, retrieve
from slotcon_plugin.evaluation.segmentation_scores import count_confusions
from slotcon_plugin.evaluation.unsupervised_segmentation import (
    overcluster,
    sample_directions,
    unsupervised,
)
from slotcon_plugin.functional.kmeans import fit_centers

LOADER = LoaderOptions(batch_size=4)
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
    result = unsupervised(ColorGroups(ORDER), None, colored[1], LOADER)
    for mode in ("one-to-one", "many-to-one"):
        assert result["matchings"][mode]["clusters"] == ORDER
        assert result["matchings"][mode]["accuracy"] == result["matchings"][mode]["miou"] == 100
        assert result["matchings"][mode]["classes_in_labels"] == 6
    assert result["prototypes_used"] == 6
    assert "6 prototypes for 21 classes" in result["note"]


def test_the_maps_are_resampled_as_in_the_protocol(colored):
    """Against a direct computation: full-size scores, one arg-max, one histogram."""
    groups, dataset = ColorGroups(ORDER), colored[1]
    (counts,) = count_confusions(lambda p: [groups(p)], dataset, LOADER)
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
    result = overcluster(ColorFeatures(), None, colored[1], LOADER, [6, 12])
    assert result["directions"] == 5 * 64
    assert result["clusterings"]["6"]["one-to-one"]["miou"] == 100
    assert result["clusterings"]["12"]["many-to-one"]["miou"] == 100
    with pytest.raises(ConfigError, match="--clusters 400: there are 320 features"):
        overcluster(ColorFeatures(), None, colored[1], LOADER, [400])
    small = overcluster(ColorFeatures(), *colored, LOADER, [6], directions=60)
    assert small["directions"] == 60  # the bound holds, and other images can be clustered
    assert len(sample_directions(ColorFeatures(), colored[1], 3, 0, LOADER)) == 3


def test_retrieval(colored):
    train, test = colored
    result = retrieve(ColorFeatures(), train, test, LOADER, neighbors=5)
    assert result["miou"] == result["accuracy"] == 100
    assert result["neighbors"] == 5
    # neighbors of other colors have little weight at a low temperature, but not at a high one
    many = dict(neighbors=300)
    assert retrieve(ColorFeatures(), train, test, LOADER, **many)["miou"] == 100
    assert retrieve(ColorFeatures(), train, test, LOADER, **many, temperature=100)["miou"] < 50


def test_the_memory_is_bounded(colored):
    directions, answers = build_memory(ColorFeatures(), colored[0], LOADER, limit=30, seed=0)
    assert directions.shape == (30, 3) and answers.shape == (30, 21)
    torch.testing.assert_close(directions.norm(dim=1), torch.ones(30))
    torch.testing.assert_close(answers.sum(dim=1), torch.ones(30))  # no cell without labels
    everything = build_memory(ColorFeatures(), colored[0], LOADER, limit=10_000, seed=0)[1]
    labeled = sum(int((colored[0][i]["labels"] < 255).sum()) for i in range(6)) / 4
    assert len(everything) == labeled  # four pixels in each labeled cell


def test_rare_classes_are_preferred_in_the_memory(tmp_path):
    for name in ("images", "labels"):
        (tmp_path / name).mkdir()
    labels = np.zeros((64, 64), np.uint8)
    labels[:8, :16] = 1  # 2 of 64 cells
    Image.fromarray(np.full((64, 64, 3), 200, np.uint8)).save(tmp_path / "images" / "a.png")
    Image.fromarray(labels).save(tmp_path / "labels" / "a.png")
    dataset = open_colored(tmp_path)
    kept = [
        build_memory(ColorFeatures(), dataset, LOADER, 4, seed)[1][:, 1].sum() for seed in range(9)
    ]
    assert sum(kept) > 12  # random cells would give about one


def test_a_probe_learns_the_colors_cached_or_not(colored):
    train, test = colored
    results = [
        probe(ColorFeatures(), train, test, LOADER, epochs=40, cache=cache) for cache in (2**20, 0)
    ]
    assert all(result["miou"] == 100 for result in results)
    assert probe(ColorFeatures(), train, test, LOADER, epochs=1, lr=0.0)["accuracy"] < 60


class Scaled(ColorFeatures):
    """The same features, much smaller."""

    def forward(self, images_b3hw):
        return 1e-4 * super().forward(images_b3hw)


def test_a_short_probe_does_not_depend_on_the_features_scale(colored):
    few = dict(epochs=3, lr=0.5)
    large, small = (probe(f(), *colored, LOADER, **few) for f in (ColorFeatures, Scaled))
    assert small["accuracy"] == pytest.approx(large["accuracy"], abs=3)
    assert large["accuracy"] > 60


def test_a_diverged_probe_is_noted(colored):
    result = probe(ColorFeatures(), *colored, LOADER, epochs=3, lr=float("inf"))
    assert result["last_loss"] is None and "use a smaller --lr" in result["note"]


def test_the_probe_keeps_features_once(colored, monkeypatch):
    held = []

    def note_memory(loader, total, title, unit="image"):
        if title == "training":
            gc.collect()
            alive = (one for one in gc.get_objects() if type(one) is torch.Tensor)
            held.append(sum(one.nbytes for one in alive if one.dtype == torch.float16))
        return progress_bar(loader, total, title, unit)

    progress_bar = LoaderOptions.progress_bar
    monkeypatch.setattr(LoaderOptions, "progress_bar", note_memory)
    probe(ColorFeatures(), *colored, LOADER, epochs=1)
    assert held == [6 * 3 * 8 * 8 * 2]  # images, channels, height, width, bytes


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
    result = classify(ColorFeatures(), train, ClassFolders(folders / "val", size=32), LOADER, 1)
    assert (result["top1"], result["top5"], result["classes"]) == (100, 100, 3)
    # an image in the wrong folder is an error
    (folders / "val" / "class0" / "1.png").rename(folders / "val" / "class1" / "2.png")
    result = classify(ColorFeatures(), train, ClassFolders(folders / "val", size=32), LOADER, 1)
    assert result["top1"] == pytest.approx(100 * 5 / 6, abs=0.01)
    (folders / "val" / "class1").rename(folders / "val" / "other")
    with pytest.raises(DataError, match=r"classes \['other'\], which the training folder does not"):
        ClassFolders(folders / "val", train.classes)


class Concatenated(TorchDispatchMode):
    """Records the shapes that concatenations have."""

    def __init__(self):
        super().__init__()
        self.shapes = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        if function is torch.ops.aten.cat.default:
            self.shapes.append(tuple(result.shape))
        return result


def test_hidden_files_and_folders_are_no_classes_and_images(folders):
    whole = ClassFolders(folders / "train", size=32)
    shutil.copytree(folders / "train" / whole.classes[0], folders / "train" / ".cache" / "0")
    first = Path(whole.items[0][0])
    shutil.copy(first, first.with_name(f".{first.name}"))
    again = ClassFolders(folders / "train", size=32)
    assert (again.classes, again.items) == (whole.classes, whole.items)


def test_images_that_would_be_too_large_when_scaled(tmp_path):
    (tmp_path / "a").mkdir()
    Image.new("RGB", (1, 3000)).save(tmp_path / "a" / "line.png")
    found = ClassFolders(tmp_path, size=224)
    with pytest.raises(UnreadableFileError, match=r"line.png: .*1 x 3000 .*SLOTCON_MAX_MEGAPIXELS"):
        found[0]


def test_knn_keeps_features_once_and_on_the_cpu(folders, monkeypatch):
    train, test = (ClassFolders(folders / name, size=32) for name in ("train", "val"))
    memories = []

    def search(queries_qd, memory_nd, count):
        memories.append(memory_nd)
        return nearest(queries_qd, memory_nd, count)

    nearest = knn.nearest
    monkeypatch.setattr(knn, "nearest", search)
    with Concatenated() as concatenated:
        classify(ColorFeatures(), train, test, LOADER, 1)
    assert memories[0].shape == (6, 3) and memories[0].device.type == "cpu"
    assert concatenated.shapes and (6, 3) not in concatenated.shapes


def test_more_neighbors_than_there_are_is_noted(folders, colored):
    train, test = (ClassFolders(folders / name, size=32) for name in ("train", "val"))
    result = classify(ColorFeatures(), train, test, LOADER, 7)
    assert result["neighbors"] == 6
    assert result["note"].startswith("--neighbors 7: the memory has 6 rows")
    assert "note" not in classify(ColorFeatures(), train, test, LOADER, 6)
    result = retrieve(ColorFeatures(), *colored, LOADER, neighbors=31, memory=30)
    assert result["neighbors"] == result["memory"] == 30
    assert result["note"].startswith("--neighbors 31: the memory has 30 rows")


def test_images_to_score_are_not_learned_from(folders, colored):
    whole = ClassFolders(folders / "train", size=32)
    (folders / "link").symlink_to(folders / "train", target_is_directory=True)
    linked = ClassFolders(folders / "link", size=32)
    with pytest.raises(ConfigError, match=r"6 of the 6 images .*class0/0\.png\).* Take others"):
        check_disjoint(whole, linked, "Take others.")
    check_disjoint(whole, ClassFolders(folders / "val", size=32), "Take others.")
    check_disjoint(*colored, "Take others.")


def test_devices_that_cannot_be_used(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert choose_device() == choose_device("cpu") == "cpu"
    with pytest.raises(ConfigError, match=r"--device gpu cannot be used: .*gpu"):
        choose_device("gpu")
    with pytest.raises(ConfigError, match="--device cuda:77 cannot be used"):
        choose_device("cuda:77")
    with pytest.raises(ConfigError, match="--device meta cannot be used"):
        choose_device("meta")


def test_no_more_loader_processes_than_cores():
    assert LoaderOptions(workers=1000).processes <= os.cpu_count()
    assert LoaderOptions().processes == 0 and LoaderOptions(workers=1).processes == 1


def test_several_networks_are_rows_of_one_table():
    scores = dict(accuracy=50.0, miou=25.0)
    probed = [Run("a.pth", "", scores), Run("a.pth", "", scores | dict(miou=None))]
    assert score_table(probed).splitlines()[2:] == [
        "| a.pth |      50.00 |  25.00 |",
        "| a.pth |      50.00 |   –    |",
    ]
    assert "| a.pth |" in score_table(probed[:1])
    clusterings = {"6": {"one-to-one": scores, "many-to-one": scores}}
    clustered = [Run(name, "", dict(clusterings=clusterings)) for name in ("a", "b")]
    head, _, *rows = score_table(clustered).splitlines()
    assert [word.strip() for word in head.split("|")[1:-1]] == [
        "accuracy / mIoU, %",
        "6 clusters, one-to-one",
        "6 clusters, many-to-one",
    ]
    assert [row.split("|")[1].strip() for row in rows] == ["a", "b"]
    assert all(row.count("50.00 / 25.00") == 2 for row in rows)


def _find(rank, folder):
    """Results that must not depend on the number of processes."""
    dataset, features = open_colored(folder), ColorFeatures()
    sampled = [sample_directions(features, dataset, limit, 0, LOADER) for limit in (22, 3)]
    return dict(
        counts=count_confusions(lambda p: [ColorGroups(ORDER)(p)], dataset, LOADER)[0],
        # fewer clusters than colors, of a few cells: other cells would give others
        clustered=overcluster(features, None, dataset, LOADER, [3, 4], directions=22),
        sampled=sampled,
        centers=[fit_centers(sampled[0], count) for count in (3, 4, 6)],
        retrieved=retrieve(features, dataset, dataset, LOADER, 4, temperature=50, memory=77),
    )


def test_two_processes_equal_one(tmp_path):
    folder = write_colored(tmp_path / "data", count=5, seed=1)
    together = run_processes(_find, 2, folder)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as in the processes: sums of several threads are rounded otherwise
    alone = _find(0, folder)
    torch.set_num_threads(threads)
    clustered = alone.pop("clustered")
    assert alone["retrieved"]["memory"] == 75  # 15 cells of each image
    assert [len(rows) for rows in alone["sampled"]] == [20, 3]  # 4 cells of each; the limit
    for found in together:
        also = found.pop("clustered")
        assert_same(found, alone)
        for size in ("3", "4"):
            one, other = (run["clusterings"][size]["one-to-one"] for run in (also, clustered))
            assert one["clusters"] == other["clusters"] and 0 < one["miou"] < 100
            # cells of a color without a center can be equally far from two centers
            assert one["miou"] == pytest.approx(other["miou"], abs=0.1)
