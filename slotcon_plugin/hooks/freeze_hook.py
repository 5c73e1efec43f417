"""Trains all but the encoder at first."""

import torch
from mmengine.hooks import Hook
from mmengine.runner import IterBasedTrainLoop

from ..errors import ConfigError
from ..functional.checks import check_integers
from ..runtime.wrapping import unwrapped


class FreezeHook(Hook):
    """Keeps the encoder's weights during the first epochs: new decoders and heads train alone.

    The optimizer gets no gradients of the model's `backbone` then: no step, no momentum, no weight
    decay. They are computed nevertheless, because distributed training expects all of them. Batch
    norms still normalize by the batch and update their statistics. An epoch that is resumed is
    counted as before. The training must have epochs, more than these.
    """

    def __init__(self, epochs: int) -> None:
        check_integers(0, epochs=epochs)
        self.epochs = epochs

    def before_run(self, runner) -> None:
        """Check model and length, in dry runs too."""
        loop, model = runner._train_loop, unwrapped(runner.model)  # None in an evaluation
        if loop is None or not self.epochs:
            return
        problem = advice = None
        if not hasattr(model, "backbone"):
            problem = f"the model, {type(model).__name__}, has no `backbone` to freeze"
        elif isinstance(loop, IterBasedTrainLoop):
            problem = f"the training has iterations (max_iters={loop.max_iters}) and no epochs"
            advice = ", or train by epochs (train_cfg.max_epochs)"
        elif self.epochs >= loop.max_epochs:
            problem = f"the training ends after {loop.max_epochs} (train_cfg.max_epochs)"
            advice = f", or set its epochs below {loop.max_epochs}"
        if problem:
            raise ConfigError(
                f"FreezeHook(epochs={self.epochs}) keeps the backbone's weights during the first "
                f"epochs, but {problem}. Leave the hook out{advice or ''}."
            )

    def before_train(self, runner) -> None:
        if not self.epochs:
            return
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
        if self.epochs:
            self.handle.remove()
