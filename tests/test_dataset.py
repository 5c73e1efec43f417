"""The data set: the same draws for any number of workers, broken files, shared memory."""

import io
import os
import pickle
import sys
import warnings
from multiprocessing.reduction import ForkingPickler

import pytest
import torch
from photographs import photographs
from torch.utils.data import DataLoader

from slotcon_plugin.datasets import Draw, ImageSampler, TwoViews, UnlabeledImages
from slotcon_plugin.datasets.path_table import PathTable
from slotcon_plugin.datasets.unlabeled_images import UnreadableImageWarning
from slotcon_plugin.errors import DataError

VIEWS = {"size": 32}


@pytest.fixture
def folder(tmp_path):
    for number in range(4):
        for image in photographs(64 + 16 * number)[:3]:
            image.save(tmp_path / f"{number}{len(os.listdir(tmp_path)):02d}.jpg")
    return tmp_path  # twelve images of four sizes


def break_files(folder, count):
    names = sorted(os.listdir(folder))[:count]
    for name in names:
        (folder / name).write_bytes(b"broken")
    return [str(folder / name) for name in names]


def load(dataset, workers, epoch=0, batch_size=4):
    sampler = ImageSampler(dataset, seed=0)
    sampler.set_epoch(epoch)
    loader = DataLoader(dataset, batch_size, sampler=sampler, num_workers=workers, drop_last=True)
    return list(loader)


def same(batches, others):
    assert len(batches) == len(others)
    return all(
        torch.equal(batch[name], other[name])
        for batch, other in zip(batches, others)
        for name in batch
    )


def test_batches_are_the_same_for_any_number_of_workers(folder):
    dataset = UnlabeledImages(folder, views=VIEWS)
    alone = load(dataset, 0)
    assert len(alone) == 3 and alone[0]["views"].shape == (4, 2, 3, 32, 32)
    assert same(alone, load(dataset, 1)) and same(alone, load(dataset, 2))
    assert not same(alone, load(dataset, 0, epoch=1))


def test_a_draw_alone_decides_and_a_plain_integer_follows_torchs_seed(folder):
    dataset = UnlabeledImages(folder, views=TwoViews(**VIEWS))
    assert same([dataset[Draw(3, 9)]], [UnlabeledImages(folder, views=VIEWS)[3, 9]])
    torch.manual_seed(1)
    once, other_image = dataset[3], dataset[4]
    torch.manual_seed(1)
    assert same([once], [dataset[3]]) and not same([once], [other_image])
    torch.manual_seed(2)
    assert not same([once], [dataset[3]])
    with pytest.raises(IndexError, match="12 of 12"):
        dataset[12]

    def batches(workers):
        loader = DataLoader(dataset, 4, num_workers=workers)
        return list(loader)

    torch.manual_seed(3)
    one = batches(1)
    torch.manual_seed(3)
    assert same(one, batches(2))


def test_views_may_be_any_callable_or_a_dict_with_its_type(folder):
    dataset = UnlabeledImages(folder, views=lambda image, rng: {"x": torch.tensor(rng.random())})
    assert set(dataset[0]) == {"x"}
    dataset = UnlabeledImages(folder, views={"type": "TwoViews", "size": 16})
    assert dataset[0]["views"].shape[-1] == 16
    assert UnlabeledImages(folder).views.size == 224
    with pytest.raises(ValueError, match="'FourViews'"):
        UnlabeledImages(folder, views={"type": "FourViews"})


@pytest.mark.parametrize("workers", [0, 2])
def test_broken_files_are_replaced_named_once_and_counted(folder, workers, capfd, monkeypatch):
    whole = load(UnlabeledImages(folder, views=VIEWS), 0)
    broken = break_files(folder, 3)
    dataset = UnlabeledImages(folder, views=VIEWS)
    # pytest collects warnings; those of workers would be lost with their processes.
    monkeypatch.setattr(warnings, "showwarning", lambda text, *_: print(text, file=sys.stderr))
    batches = [load(dataset, workers, epoch) for epoch in (0, 0, 1)]
    text = capfd.readouterr().err
    monkeypatch.undo()
    assert [text.count(f"{path}: UnidentifiedImageError") for path in broken] == [1, 1, 1]
    assert dataset.unreadable == broken and int(dataset.unreadable_mask.sum()) == 3
    # The replacement follows from the draw: the same in each run; other images are untouched.
    assert same(batches[0], batches[1])
    with pytest.warns(UnreadableImageWarning):
        assert same(batches[0], load(UnlabeledImages(folder, views=VIEWS), 0))
    ours, untouched = (torch.cat([b["views"] for b in some]) for some in (batches[0], whole))
    assert (ours != untouched).flatten(1).any(dim=1).sum() == 3


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.filterwarnings(
    "ignore::slotcon_plugin.datasets.unlabeled_images.UnreadableImageWarning"
)
def test_a_data_set_that_is_wholly_broken_ends_with_a_message(folder, workers):
    break_files(folder, 12)
    with pytest.raises(DataError, match=r"32 images in a row.*\d+ of 12"):
        load(UnlabeledImages(folder, views=VIEWS), workers)


def test_an_empty_folder_is_an_error_before_training(tmp_path):
    with pytest.raises(DataError, match="holds no image"):
        UnlabeledImages(tmp_path)


def many_paths(number):
    return [f"/data/train/n{i // 1300:08d}/n{i // 1300:08d}_{i}.JPEG" for i in range(number)]


def test_paths_round_trip():
    paths = ["/a/b.jpg", "/a/ü ö.png", "/a/日本/写真.webp", "/a/", "/a/b"]
    paths.append(os.fsdecode(b"/a/\xff.jpg"))  # a file name that is no UTF-8
    table = PathTable(paths)
    assert list(table) == paths and table[2] == paths[2] and len(table) == 6
    assert list(PathTable(["one"])) == ["one"] and list(PathTable(["x", "x"])) == ["x", "x"]
    assert list(PathTable([])) == []
    with pytest.raises(IndexError):
        table[6]
    assert list(pickle.loads(pickle.dumps(table))) == paths


def test_workers_share_the_paths_instead_of_copying_them():
    paths = many_paths(100_000)
    table = PathTable(paths)
    assert all(tensor.is_shared() for tensor in vars(table).values() if torch.is_tensor(tensor))
    held = [value for value in vars(table).values() if not torch.is_tensor(value)]
    assert all(isinstance(value, bytes) and len(value) < 100 for value in held)  # no strings
    sent = len(ForkingPickler.dumps(table))  # what a spawned worker is sent: handles
    assert sent < 5_000 < len(pickle.dumps(paths)) / 100
    assert all(table[i] == paths[i] for i in (0, 1299, 1300, 99_999))


def test_a_spawned_worker_gets_handles_and_marks_what_it_finds(folder):
    broken = break_files(folder, 2)
    dataset = UnlabeledImages(folder, views=VIEWS)
    held = io.BytesIO()
    ForkingPickler(held, pickle.HIGHEST_PROTOCOL).dump(dataset)
    assert len(held.getvalue()) < 10_000
    sampler = ImageSampler(dataset, seed=0)
    loader = DataLoader(dataset, 4, sampler=sampler, num_workers=1, multiprocessing_context="spawn")
    spawned = list(loader)
    assert dataset.unreadable == broken
    assert same(spawned, load(dataset, 0))
