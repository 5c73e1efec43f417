"""An interrupted and resumed detection or segmentation training equals an uninterrupted one."""

import itertools
import pickle
import shutil
from itertools import islice

import pytest
from tiny_training import assert_same, train_apart

from benchmarks.small_benchmark import DET, SEG, transfer_options, write_mini
from slotcon_plugin.datasets.samplers import EndlessSampler
from slotcon_plugin.datasets.seeding import SeededIndex
from slotcon_plugin.runtime.safe_loading import load_checkpoint_safely

pytest.importorskip("mmdet", reason="detection needs mmdet")
pytest.importorskip("mmseg", reason="segmentation needs mmseg")

FIRST, LAST = 3, 5  # the iterations of the two checkpoints


@pytest.mark.slow
@pytest.mark.parametrize(("config", "workers"), [(DET, 0), (SEG, 0), (SEG, 1)])
def test_resumed_equals_uninterrupted(config, workers, tmp_path):
    """With augmentation, sampled boxes and dropout, from a checkpoint in the middle of a round."""
    root = write_mini(tmp_path / "mini")
    options = transfer_options(config, root, LAST)
    options += [f"default_hooks.checkpoint.interval={FIRST}"]
    options += [f"train_dataloader.num_workers={workers}"]
    options += ["model.decode_head.dropout_ratio=0.5"] * (config == SEG)

    def run(name):
        settings = dict(backbone="none", seed=5, resume="auto", cfg_options=options)
        return train_apart(1, config, work_dir=tmp_path / name, **settings)

    run("whole")
    (tmp_path / "resumed").mkdir()
    shutil.copy(tmp_path / "whole" / f"iter_{FIRST}.pth", tmp_path / "resumed")
    assert f"iteration {FIRST}" in run("resumed")
    one, other = (
        load_checkpoint_safely(tmp_path / name / f"iter_{LAST}.pth")
        for name in ("whole", "resumed")
    )
    for part in ("state_dict", "optimizer", "param_schedulers"):
        assert_same(one[part], other[part], part)
    before = load_checkpoint_safely(tmp_path / "whole" / f"iter_{FIRST}.pth")["state_dict"]
    assert any((before[k] != v).any() for k, v in one["state_dict"].items())


@pytest.mark.parametrize("processes", [1, 2, 3])
def test_endless_draws_are_rounds_divided_among_the_processes(processes):
    def draws(rank, skip=0):
        sampler = EndlessSampler(range(5), seed=4)
        sampler.rank, sampler.world_size = rank, processes
        sampler.skip(skip)
        return islice(iter(sampler), 12 - skip)

    parts = [list(draws(rank)) for rank in range(processes)]
    together = list(itertools.chain.from_iterable(zip(*parts, strict=True)))
    rounds = [together[i : i + 5] for i in range(0, 10, 5)]
    assert all(sorted(one) == [0, 1, 2, 3, 4] for one in rounds)
    assert rounds[0] != rounds[1]
    assert len({draw.seed for draw in together}) == len(together)
    if processes > 1:
        alone = list(islice(iter(EndlessSampler(range(5), seed=4)), len(together)))
        assert [(i, i.seed) for i in together] == [(i, i.seed) for i in alone]
    later = list(draws(0, skip=7))
    assert [(i, i.seed) for i in later] == [(i, i.seed) for i in parts[0][7:]]
    with pytest.raises(ValueError, match="empty"):
        EndlessSampler([])


def test_an_index_keeps_its_seed_on_its_way():
    index = SeededIndex(7, 123)
    for other in (index - 3, index % 5, pickle.loads(pickle.dumps(index))):
        assert other.seed == 123
    assert (index - 3, index % 5, [*range(10)][index]) == (4, 2, 7)
