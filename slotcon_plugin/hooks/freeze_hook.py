"""Trains all but the encoder at first."""

import torch
from mmengine.hooks import Hook

from ..functional.checks import check_integers
from ..runtime.wrapping import unwrapped


class FreezeHook(Hook):
    """Keeps the encoder's weights during the first epochs: new decoders and heads train alone.

    The optimizer gets no gradients of the model's `backbone` then: no step, no momentum, no weight
    decay. They are computed nevertheless, because distributed training expects all of them. Batch
    norms still normalize by the batch and update their statistics. An epoch that is resumed is
    counted as before.
    """

    def __init__(self, epochs: int) -> None:
        check_integers(0, epochs=epochs)
        self.epochs = epochs

    def before_train(self, runner) -> None:
        frozen = list(unwrapped(runner.model).backbone.parameters())

        def drop(optimizer: torch.optim.Optimizer, args: tuple, kwargs: dict) -> None:
            if runner.epoch < self.epochs:
                for p in frozen:
                    p.grad = None

        self.handle = runner.optim_wrapper.optimizer.register_step_pre_hook(drop)

    def before_train_epoch(self, runner) -> None:
        if self.epochs and runner.epoch in (0, self.epochs):
            state = f"frozen until epoch {self.epochs}" if runner.epoch == 0 else "trained from now"
            runner.logger.info(f"backbone: its weights are {state}")

    def after_train(self, runner) -> None:
        self.handle.remove()
