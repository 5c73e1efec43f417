"""The dataset: views of every draw, samplers of other libraries, broken files, shared memory."""

import io
import os
import pickle
import sys
import warnings
from multiprocessing.reduction import ForkingPickler
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from mmengine.config import Config
from mmengine.registry import DATASETS, TRANSFORMS
from mmengine.runner import Runner
from photographs import photographs, write_slow_jpeg
from PIL import Image
from torch.utils.data import DataLoader, DistributedSampler, RandomSampler

from slotcon_plugin.datasets import Draw, ImageSampler, SeededIndex, TwoViews, UnlabeledImages
from slotcon_plugin.datasets.path_table import PathTable
from slotcon_plugin.datasets.unlabeled_images import UnreadableImageWarning
from slotcon_plugin.errors import DataError
from slotcon_plugin.runtime import time_limit

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


def test_the_item_of_a_draw_is_a_function_of_the_draw(folder):
    dataset = UnlabeledImages(folder, views=TwoViews(**VIEWS))
    expected = dataset[Draw(3, 9)]
    assert same([expected, expected], [dataset[3, 9], dataset[SeededIndex(3, 9)]])
    assert not same([expected], [dataset[Draw(3, 10)]])
    state = torch.get_rng_state()
    assert same([expected], [UnlabeledImages(folder, views=VIEWS)[Draw(3, 9)]])
    assert torch.equal(state, torch.get_rng_state())
    with pytest.raises(IndexError, match="12 of 12"):
        dataset[12]


def test_a_plain_integer_follows_torchs_seed(folder):
    dataset = UnlabeledImages(folder, views=VIEWS)
    items = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        items.append([dataset[3], dataset[4], dataset[3]])
    assert same(items[0], items[1]) and not same(items[0], items[2])
    assert not same(items[0][:1], items[0][2:])


def numbered(folder):
    """A dataset whose items are the image's number, from its gray level, and a random number."""
    for number in range(12):
        Image.new("RGB", (4, 4), (20 * number,) * 3).save(folder / f"{number:02}.png")

    def views(pixels, rng):
        return {"image": pixels[0, 0, 0] // 20, "random": int(rng.integers(2**62))}

    return UnlabeledImages(folder, views=views)


def epochs(loader, number=3):
    """What `numbered` gave in each epoch, image -> random number."""
    found = []
    for epoch in range(number):
        if hasattr(loader.sampler, "set_epoch"):
            loader.sampler.set_epoch(epoch)
        batches = list(loader)
        images, randoms = (torch.cat([b[name] for b in batches]) for name in ("image", "random"))
        found.append(dict(zip(images.tolist(), randoms.tolist())))
    return found


def torch_loader(dataset, shuffle, **options):
    return DataLoader(dataset, 4, shuffle=shuffle, **options)


def mmengine_loader(dataset, shuffle, **options):
    sampler = dict(type="DefaultSampler", shuffle=shuffle)
    collate = dict(type="default_collate")
    cfg = dict(dataset=dataset, batch_size=4, sampler=sampler, collate_fn=collate, **options)
    return Runner.build_dataloader(cfg, seed=0)


@pytest.mark.parametrize("loader", [torch_loader, mmengine_loader])
@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize(("workers", "persistent"), [(0, False), (2, False), (2, True)])
def test_other_samplers_get_new_views_in_every_epoch(
    loader, shuffle, workers, persistent, tmp_path
):
    dataset, runs = numbered(tmp_path), []
    for seed in (5, 5, 6):
        torch.manual_seed(seed)
        options = dict(num_workers=workers, persistent_workers=persistent)
        runs.append(epochs(loader(dataset, shuffle, **options)))
    assert runs[0] == runs[1]
    assert all(set(epoch) == set(range(12)) for epoch in runs[0])
    different = {number for run in runs[1:] for epoch in run for number in epoch.values()}
    assert len(different) == 2 * 3 * 12


def _two_ranks(rank, folder):
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    dataset = numbered(folder / str(rank))
    found = []
    for shared in (True, False):
        for workers, persistent in ((0, False), (1, False), (1, True)):
            torch.manual_seed(0)
            sampler = DistributedSampler(dataset) if shared else RandomSampler(dataset)
            options = dict(num_workers=workers, persistent_workers=persistent)
            loader = DataLoader(dataset, 3, sampler=sampler, **options)
            found.append(epochs(loader, 2))
    torch.save(found, folder / f"{rank}.pt")
    dist.destroy_process_group()


def test_two_processes_with_the_same_seed_get_different_views(tmp_path):
    for rank in range(2):
        (tmp_path / str(rank)).mkdir()
    mp.start_processes(_two_ranks, (tmp_path,), nprocs=2, start_method="fork")
    results = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2)]
    for first, second in zip(*results):
        numbers = [number for epoch in (*first, *second) for number in epoch.values()]
        assert len(set(numbers)) == len(numbers) >= 24


@TRANSFORMS.register_module()
class FourthPixels:
    def __init__(self, step=4):
        self.step = step

    def __call__(self, pixels, rng):
        return {"pixels": torch.from_numpy(pixels[:: self.step, :: self.step].copy())}


def test_views_are_a_transform_or_the_config_of_one(folder):
    image = UnlabeledImages(folder, views=FourthPixels(1))[0]["pixels"]
    for views in (
        FourthPixels(),
        lambda pixels, rng: FourthPixels()(pixels, rng),
        {"type": "FourthPixels"},
        {"type": FourthPixels, "step": 4},
    ):
        assert torch.equal(UnlabeledImages(folder, views=views)[0]["pixels"], image[::4, ::4])
    for views in ({"type": "TwoViews", "size": 16}, {"type": TwoViews, "size": 16}, {"size": 16}):
        assert UnlabeledImages(folder, views=views)[0]["views"].shape[-1] == 16
    assert UnlabeledImages(folder).views.size == 224
    with pytest.raises(KeyError, match="FourViews is not in the mmengine::transform registry"):
        UnlabeledImages(folder, views={"type": "FourViews"})


def test_a_config_with_python_types_is_built(folder, tmp_path):
    config = tmp_path / "config.py"
    config.write_text(
        "from slotcon_plugin.datasets import TwoViews, UnlabeledImages\n"
        f"dataset = dict(type=UnlabeledImages, source={str(folder)!r},\n"
        "               views=dict(type=TwoViews, size=16))\n"
    )
    dataset = DATASETS.build(Config.fromfile(config, lazy_import=True).dataset)
    assert dataset[0]["views"].shape[-1] == 16


@pytest.mark.parametrize("workers", [0, 2])
def test_broken_files_are_replaced_and_each_is_reported_once(folder, workers, capfd, monkeypatch):
    whole = load(UnlabeledImages(folder, views=VIEWS), 0)
    broken = break_files(folder, 3)
    dataset = UnlabeledImages(folder, views=VIEWS)
    # pytest collects warnings, but not those of worker processes.
    monkeypatch.setattr(warnings, "showwarning", lambda text, *_: print(text, file=sys.stderr))
    batches = [load(dataset, workers, epoch) for epoch in (0, 0, 1)]
    text = capfd.readouterr().err
    monkeypatch.undo()
    assert [text.count(f"{path}: the file begins with") for path in broken] == [1, 1, 1]
    assert dataset.unreadable == broken and int(dataset.unreadable_mask.sum()) == 3
    # The draw determines the replacement; other images do not change.
    assert same(batches[0], batches[1])
    with pytest.warns(UnreadableImageWarning):
        assert same(batches[0], load(UnlabeledImages(folder, views=VIEWS), 0))
    ours, untouched = (torch.cat([b["views"] for b in some]) for some in (batches[0], whole))
    assert (ours != untouched).flatten(1).any(dim=1).sum() == 3


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.filterwarnings(
    "ignore::slotcon_plugin.datasets.unlabeled_images.UnreadableImageWarning"
)
def test_an_error_is_raised_if_no_image_can_be_read(folder, workers):
    break_files(folder, 12)
    dataset = UnlabeledImages(folder, views=VIEWS)
    with pytest.raises(DataError, match=r"32 images in a row.*\d+ of 12"):
        load(dataset, workers)
    with pytest.raises(DataError) as caught:
        dataset[Draw(5, 0)]
    replacement = np.random.default_rng((0, 1))
    last = [int(replacement.integers(12)) for _ in range(31)][-1]
    assert f"the last one is {dataset.paths[last]};" in str(caught.value)


@pytest.mark.filterwarnings(
    "ignore::slotcon_plugin.datasets.unlabeled_images.UnreadableImageWarning"
)
def test_a_file_system_that_hangs_is_an_error(folder, monkeypatch):
    """One image that takes too long is replaced, two in a row are not."""
    monkeypatch.setenv("SLOTCON_READ_SECONDS", "0.3")
    monkeypatch.setattr(time_limit, "GRACE", 0)
    dataset = UnlabeledImages(folder, views=VIEWS)
    write_slow_jpeg(Path(dataset.paths[5]))
    assert dataset[Draw(5, 0)]["views"].shape[0] == 2
    assert dataset.unreadable == [dataset.paths[5]]
    os.link(dataset.paths[5], folder / "again.jpg")
    dataset = UnlabeledImages([dataset.paths[5], folder / "again.jpg"], views=VIEWS)
    with pytest.raises(DataError, match=r"2 images in a row took .*SLOTCON_READ_SECONDS=0.3"):
        dataset[Draw(0, 0)]


def test_an_empty_folder_is_an_error_before_training(tmp_path):
    with pytest.raises(DataError, match="contains no image"):
        UnlabeledImages(tmp_path)


def many_paths(number):
    return [f"/data/train/n{i // 1300:08d}/n{i // 1300:08d}_{i}.JPEG" for i in range(number)]


def test_paths_round_trip():
    paths = ["/a/b.jpg", "/a/ü ö.png", "/a/日本/写真.webp", "/a/", "/a/b"]
    paths.append(os.fsdecode(b"/a/\xff.jpg"))  # not UTF-8
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


def test_a_spawned_worker_shares_paths_and_marks_of_unreadable_files(folder):
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
