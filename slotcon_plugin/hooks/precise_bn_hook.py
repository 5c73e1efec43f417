"""Batch-norm statistics of the current weights, measured before an evaluation."""

import itertools
import random
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager

import numpy as np
import torch
from mmengine.hooks import Hook
from mmengine.runner import IterBasedTrainLoop
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from ..functional.checks import check_integers
from ..functional.population import PopulationMoments
from ..runtime.wrapping import unwrapped


@torch.no_grad()
def measure_batch_norm(
    model: nn.Module, batches: Iterable, forward: Callable[[object], object]
) -> int:
    """Replace the running statistics of batch norms by those of their inputs over some batches.

    The result is the mean and variance over all values that a layer saw, on all processes. Layers
    in evaluation mode, without running statistics, or without inputs do not change, nor do the
    model's other buffers. Returns the number of layers measured.

    Args:
        model: in training mode: batch norms normalize by their batch meanwhile.
        batches: arguments of `forward`, which runs the model on one.
    """
    moments = {
        layer: PopulationMoments(layer.num_features, layer.running_mean.device)
        for layer in model.modules()
        if isinstance(layer, _BatchNorm) and layer.training and layer.track_running_stats
    }
    buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
    with ExitStack() as hooks:
        for layer in moments:
            add = layer.register_forward_pre_hook(lambda own, inputs: moments[own].add(inputs[0]))
            hooks.enter_context(add)
        for batch in batches:
            forward(batch)
    for name, buffer in model.named_buffers():
        buffer.copy_(buffers[name])
    for layer, own in moments.items():
        mean_c, variance_c = own.result() or (layer.running_mean, layer.running_var)
        layer.running_mean.copy_(mean_c)
        layer.running_var.copy_(variance_c)
    return len(moments)


@contextmanager
def restored_random_state() -> Iterator[None]:
    """Restore the random states of Python, numpy and torch (CPU and this process's GPU)."""
    devices = [torch.cuda.current_device()] if torch.cuda.is_available() else []
    with torch.random.fork_rng(devices), ExitStack() as stack:
        stack.callback(random.setstate, random.getstate())
        stack.callback(np.random.set_state, np.random.get_state())
        yield


class PreciseBNHook(Hook):
    """Measures the batch-norm statistics on training batches before each evaluation.

    As detectron2's TEST.PRECISE_BN: over `iterations` augmented batches per process, from a loader
    of its own, with a forward pass for the losses. It runs before the checkpoint of the same
    iteration is written, so that the checkpoint is what is evaluated. Other buffers and all random
    states are restored: training continues as without the hook.
    """

    priority = "LOW"  # after the logger, before the checkpoint (VERY_LOW)

    def __init__(self, iterations: int = 200) -> None:
        check_integers(1, iterations=iterations)
        self.iterations = iterations

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
        if isinstance(runner.train_loop, IterBasedTrainLoop):
            self._measure_if_due(runner, runner.iter + 1, runner.max_iters)

    def after_train_epoch(self, runner) -> None:
        if not isinstance(runner.train_loop, IterBasedTrainLoop):
            self._measure_if_due(runner, runner.epoch + 1, runner.max_epochs)

    def _measure_if_due(self, runner, done: int, length: int) -> None:
        """Measure if an evaluation follows the epoch or iteration `done`."""
        if runner.val_loop is None or done < runner.val_begin:
            return
        if done % runner.val_interval and done != length:
            return
        model, seed = unwrapped(runner.model), runner.seed + runner.iter
        seeds = itertools.count(seed)
        own = dict(dataset=runner.train_dataloader.dataset, persistent_workers=False)

        def forward(batch) -> None:
            torch.manual_seed(next(seeds))  # without workers, loading draws from this state too
            with runner.optim_wrapper.optim_context(runner.model):
                model._run_forward(model.data_preprocessor(batch, True), mode="loss")

        was_training = model.training
        with restored_random_state():
            model.train()
            loader = runner.build_dataloader(dict(runner.cfg.train_dataloader, **own), seed=seed)
            endless = itertools.chain.from_iterable(itertools.repeat(loader))
            batches = itertools.islice(endless, self.iterations)
            layers = measure_batch_norm(model, batches, forward)
        model.train(was_training)
        runner.logger.info(
            f"Precise BN: statistics of {layers} layers over {self.iterations} batches per process."
        )
