"""Batch-norm statistics of the trained weights, taken afresh before an evaluation."""

import itertools
from collections.abc import Callable, Iterable

import torch
from mmengine.hooks import Hook
from mmengine.runner import IterBasedTrainLoop
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from ..functional.population import PopulationMoments
from ..runtime.wrapping import unwrapped


@torch.no_grad()
def measure_batch_norm(
    model: nn.Module, batches: Iterable, forward: Callable[[object], object]
) -> int:
    """Replace the running statistics of batch norms by those of their inputs over some batches.

    The weights stand still meanwhile, and every batch norm normalizes by its batch, as in training.
    The result is the mean and variance over all values that a layer saw, on all processes. Layers
    in evaluation mode or without running statistics are left alone, and so is one that saw nothing.

    Args:
        model: the model, in training mode.
        batches: what `forward` takes, one by one.
        forward: runs the model on a batch.

    Returns:
        The number of layers measured.
    """
    layers = [
        layer
        for layer in model.modules()
        if isinstance(layer, _BatchNorm) and layer.training and layer.track_running_stats
    ]
    moments = [PopulationMoments(layer.num_features, layer.running_mean.device) for layer in layers]
    counts = [layer.num_batches_tracked.clone() for layer in layers]
    running = [(layer.running_mean.clone(), layer.running_var.clone()) for layer in layers]
    handles = [
        layer.register_forward_pre_hook(lambda _, inputs, mine=mine: mine.add(inputs[0]))
        for layer, mine in zip(layers, moments, strict=True)
    ]
    try:
        for batch in batches:
            forward(batch)
    finally:
        for handle in handles:
            handle.remove()
    for layer, mine, before, count in zip(layers, moments, running, counts, strict=True):
        mine.share()
        mean_c, variance_c = mine.result() or before
        layer.running_mean.copy_(mean_c)
        layer.running_var.copy_(variance_c)
        layer.num_batches_tracked.copy_(count)
    return len(layers)


class PreciseBNHook(Hook):
    """Measures the batch-norm statistics on training batches before each evaluation.

    As detectron2's TEST.PRECISE_BN: over `iterations` batches of the training set, augmented as in
    training, with a forward pass for the losses. It comes before the checkpoint of the same
    iteration, which so holds what is evaluated. The batches come from a loader of its own, and
    torch's random state is put back: training goes on as if nothing had been measured.

    Args:
        iterations: batches on each process.
    """

    priority = "LOW"  # after the logger, before the checkpoint (VERY_LOW)

    def __init__(self, iterations: int = 200) -> None:
        if iterations < 1:
            raise ValueError(f"iterations is {iterations!r}, expected at least 1.")
        self.iterations = iterations

    def after_train_iter(self, runner, batch_idx: int, data_batch=None, outputs=None) -> None:
        """Measure if an evaluation follows this iteration of an iteration-based training."""
        by_iteration = isinstance(runner.train_loop, IterBasedTrainLoop)
        if by_iteration and self._due(runner, runner.iter + 1, runner.max_iters):
            self._measure(runner)

    def after_train_epoch(self, runner) -> None:
        """The same for epochs. An iteration-based training is one epoch and was measured."""
        by_iteration = isinstance(runner.train_loop, IterBasedTrainLoop)
        if not by_iteration and self._due(runner, runner.epoch + 1, runner.max_epochs):
            self._measure(runner)

    def _due(self, runner, done: int, length: int) -> bool:
        if runner.val_loop is None or done < runner.val_begin:
            return False
        return done % runner.val_interval == 0 or done == length

    def _measure(self, runner) -> None:
        model = unwrapped(runner.model)
        loader = runner.build_dataloader(
            dict(
                runner.cfg.train_dataloader,
                dataset=runner.train_dataloader.dataset,
                persistent_workers=False,
            ),
            seed=runner.seed + runner.iter,
        )

        seeds = itertools.count(runner.seed + runner.iter)

        def forward(batch) -> None:
            torch.manual_seed(next(seeds))  # loading without workers draws from these numbers too
            with runner.optim_wrapper.optim_context(runner.model):
                batch = model.data_preprocessor(batch, True)
                if isinstance(batch, dict):
                    model(**batch, mode="loss")
                else:
                    model(*batch, mode="loss")

        was_training = model.training
        devices = [torch.cuda.current_device()] if torch.cuda.is_available() else []
        with torch.random.fork_rng(devices):
            model.train()
            layers = measure_batch_norm(model, _repeat(loader, self.iterations), forward)
        model.train(was_training)
        runner.logger.info(
            f"Precise BN: statistics of {layers} layers over {self.iterations} batches a process."
        )


def _repeat(loader: Iterable, count: int) -> Iterable:
    """The first `count` batches, beginning again where the loader ends."""
    endless = itertools.chain.from_iterable(itertools.repeat(loader))
    return itertools.islice(endless, count)
