"""Batch-norm statistics before an evaluation equal the population's, in any number of processes."""

import random

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.evaluator import BaseMetric
from mmengine.model import BaseModel
from mmengine.registry import DATASETS
from mmengine.runner import Runner
from torch import nn

from benchmarks.processes import run_processes
from slotcon_plugin.functional.population import PopulationMoments
from slotcon_plugin.hooks.precise_bn_hook import PreciseBNHook, measure_batch_norm
from slotcon_plugin.runtime.safe_loading import load_checkpoint_safely


def batches(sizes=(4, 2, 3, 4), seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [3 * torch.randn(size, 2, 5, 5, generator=generator) + i for i, size in enumerate(sizes)]


def small_model():
    torch.manual_seed(1)
    first = nn.BatchNorm2d(2)
    return nn.Sequential(first, nn.ReLU(), nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3))


def test_worked_numbers():
    """1, 3 and 8: mean 4, variance (9 + 1 + 16) / 3; averaging the batches' would give 5."""
    moments = PopulationMoments(1)
    moments.add(torch.tensor([[1.0], [3.0]]))
    moments.add(torch.empty(0, 1))
    moments.add(torch.tensor([[8.0]]))
    mean, variance = moments.result()
    assert mean.item() == pytest.approx(4)
    assert variance.item() == pytest.approx(26 / 3)


def test_nothing_seen_and_wrong_channels():
    assert PopulationMoments(2).result() is None
    with pytest.raises(ValueError, match="expected"):
        PopulationMoments(2).add(torch.zeros(3, 4))


def test_statistics_are_the_population_s():
    model, seen = small_model().train(), batches()
    measure_batch_norm(model, seen, model)
    first, second = model[0], model[3]
    inputs = torch.cat([batch.transpose(0, 1).flatten(1) for batch in seen], dim=1).double()
    torch.testing.assert_close(first.running_mean.double(), inputs.mean(1))
    torch.testing.assert_close(first.running_var.double(), inputs.var(1, correction=0))
    with torch.no_grad():  # what the second one saw: each batch normalized by itself
        hidden = [model[2](model[1](normalized(batch))) for batch in seen]
    inputs = torch.cat([batch.transpose(0, 1).flatten(1) for batch in hidden], dim=1).double()
    torch.testing.assert_close(second.running_mean.double(), inputs.mean(1), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(
        second.running_var.double(), inputs.var(1, correction=0), rtol=1e-5, atol=1e-6
    )


def normalized(batch):
    variance, mean = torch.var_mean(batch, (0, 2, 3), correction=0, keepdim=True)
    return (batch - mean) / (variance + 1e-5).sqrt()


def test_nothing_else_changes():
    model = small_model().train()
    frozen = nn.BatchNorm2d(2).eval()
    model.insert(0, frozen)
    unused = nn.BatchNorm2d(7)
    model.add_module("unused", unused)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    momentum = [layer.momentum for layer in model if isinstance(layer, nn.BatchNorm2d)]
    assert measure_batch_norm(model, batches(), lambda batch: model[:-1](batch)) == 3
    moved = {n for n, v in model.state_dict().items() if not torch.equal(v, before[n])}
    assert moved == {"1.running_mean", "1.running_var", "4.running_mean", "4.running_var"}
    assert momentum == [layer.momentum for layer in model if isinstance(layer, nn.BatchNorm2d)]
    assert not model[0]._forward_pre_hooks and not model[1]._forward_pre_hooks


def _measure_one_of_two(rank):
    model = nn.Sequential(nn.BatchNorm2d(2)).train()
    own = batches((4, 2), 0) if rank == 0 else batches((3, 1), 5)
    measure_batch_norm(model, own, model)
    return model[0].running_mean.tolist(), model[0].running_var.tolist()


def test_two_processes_equal_one():
    one, other = run_processes(_measure_one_of_two, 2)
    assert one == other
    model = nn.Sequential(nn.BatchNorm2d(2)).train()
    measure_batch_norm(model, [*batches((4, 2), 0), *batches((3, 1), 5)], model)
    assert one[0] == pytest.approx(model[0].running_mean.tolist())
    assert one[1] == pytest.approx(model[0].running_var.tolist())


class Toy(BaseModel):
    """A model that draws random numbers in its forward pass, as detectors do, and counts them."""

    def __init__(self):
        super().__init__()
        self.bn, self.conv = nn.BatchNorm2d(2), nn.Conv2d(2, 1, 1)
        self.head = nn.BatchNorm1d(3)  # sees random numbers only
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, inputs, mode="tensor"):
        if mode == "loss":
            self.calls += 1
            noise = self.head(torch.randn(2, 3)).sum() + random.random() + np.random.rand()
            return dict(loss=(self.conv(self.bn(inputs)) + noise).square().mean())
        return [torch.zeros(1)]


@DATASETS.register_module()
class TwelveImages(torch.utils.data.Dataset):
    def __len__(self):
        return 12

    def __getitem__(self, index):
        torch.randn(()), random.random(), np.random.rand()  # as augmentation does
        return dict(inputs=torch.randn(2, 4, 4, generator=torch.Generator().manual_seed(index)))


class Zero(BaseMetric):
    """A metric that is always 0."""

    def process(self, data_batch, data_samples):
        self.results.append(0)

    def compute_metrics(self, results):
        return dict(zero=0)


def train(tmp_path, hooks, name, workers=0):
    torch.manual_seed(0)
    loader = dict(
        batch_size=3,
        num_workers=workers,
        collate_fn=dict(type="default_collate"),
        dataset=dict(type="TwelveImages"),
    )
    runner = Runner(
        model=Toy(),
        work_dir=str(tmp_path / name),
        train_dataloader=dict(**loader, sampler=dict(type="InfiniteSampler", shuffle=True)),
        val_dataloader=dict(**loader, sampler=dict(type="DefaultSampler", shuffle=False)),
        val_evaluator=[Zero()],
        train_cfg=dict(by_epoch=False, max_iters=5, val_interval=2),
        val_cfg=dict(),
        optim_wrapper=dict(optimizer=dict(type="SGD", lr=0.1)),
        default_hooks=dict(checkpoint=dict(type="CheckpointHook", by_epoch=False, interval=1)),
        custom_hooks=hooks,
        randomness=dict(seed=0),
        cfg=Config(dict(train_dataloader=dict(**loader, sampler=dict(type="InfiniteSampler")))),
        experiment_name=f"precise_bn_{name}",
    )
    runner.train()
    return [
        load_checkpoint_safely(tmp_path / name / f"iter_{i}.pth")["state_dict"] for i in range(1, 6)
    ]


def test_the_hook_measures_before_evaluations_and_does_not_disturb_training(tmp_path):
    with_it = train(tmp_path, [PreciseBNHook(iterations=4)], "with")
    without = train(tmp_path, [], "without")
    for i, (one, other) in enumerate(zip(with_it, without, strict=True), start=1):
        assert torch.equal(one["conv.weight"], other["conv.weight"])
        assert one["calls"] == other["calls"] == i
        measured = not torch.equal(one["bn.running_mean"], other["bn.running_mean"])
        assert measured == (i >= 2)  # evaluations after 2, 4 and, the last, 5
    values = torch.stack([TwelveImages()[i]["inputs"] for i in range(12)])
    mean, variance = values.mean((0, 2, 3)), values.var((0, 2, 3), correction=0)
    for at in (2, 4, 5):  # 4 batches of 3: each of the 12 images once
        torch.testing.assert_close(with_it[at - 1]["bn.running_mean"], mean)
        torch.testing.assert_close(with_it[at - 1]["bn.running_var"], variance)


def test_what_is_measured_does_not_depend_on_the_loading_workers(tmp_path):
    """Sampled boxes and dropout are drawn from the same numbers as the augmentation."""
    without, with_one = (
        train(tmp_path, [PreciseBNHook(iterations=2)], f"workers{n}", n) for n in (0, 1)
    )
    for at in (2, 4, 5):
        for name in ("head.running_mean", "head.running_var"):
            assert torch.equal(without[at - 1][name], with_one[at - 1][name])
