"""The order of images and their seeds, equal for any number of processes."""

from itertools import chain

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from scipy import stats

from slotcon_plugin.datasets.samplers import ImageSampler
from slotcon_plugin.datasets.seeding import Draw, draw_seeds


def test_an_epoch_gives_every_image_once_as_two_integers():
    draws = list(ImageSampler(range(100), seed=3))
    assert sorted(draw.index for draw in draws) == list(range(100))
    assert len({draw.seed for draw in draws}) == 100
    assert all(type(number) is int for draw in draws for number in draw)
    assert isinstance(draws[0], Draw)


def test_epochs_and_seeds_differ_and_repeat():
    sampler = ImageSampler(range(50), seed=3)
    first = list(sampler)
    assert list(sampler) == first == list(ImageSampler(range(50), seed=3))
    assert list(ImageSampler(range(50), seed=4)) != first
    sampler.set_epoch(1)
    second = list(sampler)
    assert [d.index for d in second] != [d.index for d in first]
    assert not {d.seed for d in second} & {d.seed for d in first}
    sampler.set_epoch(0)
    assert list(sampler) == first


def test_without_shuffling_the_order_is_the_datasets_and_the_seeds_are_the_same():
    plain = list(ImageSampler(range(20), shuffle=False, seed=1))
    assert [draw.index for draw in plain] == list(range(20))
    assert sorted(plain) == sorted(ImageSampler(range(20), seed=1))


def test_rounds_are_consecutive_epochs():
    sampler, plain = ImageSampler(range(7), seed=2, rounds=3), ImageSampler(range(7), seed=2)
    sampler.set_epoch(1)
    expected = []
    for number in (3, 4, 5):
        plain.set_epoch(number)
        expected += list(plain)
    assert list(sampler) == expected and len(sampler) == 21


def test_an_empty_dataset_is_an_error():
    with pytest.raises(ValueError, match="empty"):
        ImageSampler([])
    with pytest.raises(ValueError, match="rounds is 0"):
        ImageSampler(range(3), rounds=0)


def test_seeds_are_uniform_and_different():
    seeds = np.concatenate([draw_seeds(0, epoch, np.arange(20000)) for epoch in range(5)])
    assert seeds.dtype == np.int64 and seeds.min() >= 0 and len(set(seeds.tolist())) == len(seeds)
    assert stats.kstest(seeds / 2**63, stats.uniform.cdf).pvalue > 1e-3
    low_bits = np.bincount(seeds & 255, minlength=256)
    assert stats.chisquare(low_bits).pvalue > 1e-3
    assert draw_seeds(-1, 0, np.array([5])) != draw_seeds(0, 0, np.array([5]))


def _two_processes(rank, folder):
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    shards = {}
    for images in (20, 21):
        for round_up in (True, False):
            sampler = ImageSampler(range(images), seed=5, round_up=round_up)
            assert len(list(sampler)) == len(sampler)
            shards[images, round_up] = [tuple(draw) for draw in sampler]
    own_seed = ImageSampler(range(4)).seed
    torch.save((shards, own_seed), f"{folder}/{rank}.pt")
    dist.destroy_process_group()


def test_two_processes_share_the_epoch_of_one(tmp_path):
    mp.start_processes(_two_processes, (str(tmp_path),), nprocs=2, start_method="fork")
    results = [torch.load(tmp_path / f"{r}.pt", weights_only=True) for r in range(2)]
    (first, seed), (second, same_seed) = results
    assert seed == same_seed
    for images, round_up in first:
        alone = list(ImageSampler(range(images), seed=5))
        shards = first[images, round_up], second[images, round_up]
        together = list(chain.from_iterable(zip(*shards)))
        if images % 2 == 0:
            assert together == alone  # in the order of one process with twice the batch
        elif round_up:
            assert together == alone + alone[:1]
        else:
            assert together + shards[0][-1:] == alone
