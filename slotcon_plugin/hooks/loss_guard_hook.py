"""Stops a training that is lost, and says so when the groups collapse."""

import math
from collections import deque

import torch
from mmengine.dist import all_reduce
from mmengine.hooks import Hook

from ..errors import TrainingStopped
from ..runtime.wrapping import unwrapped


class LossGuardHook(Hook):
    """Stops training when the loss stays infinite or NaN, with the last checkpoint untouched; warns
    on collapse.

    Args:
        patience: so many steps in a row without a finite loss stop the training. One or two can
            happen under float16, where the loss scale is being searched.
        min_feature_std: warn when `feature_std` (1: evenly spread, 0: all alike) falls below this.
        min_prototypes: warn when the running share of used prototypes falls to this number of
            prototypes or less.
        grace_epochs: no warning in the first so many epochs.

    The loss is copied to the host without waiting for it, so on a GPU the stop can come a few steps
    late. A checkpoint with a weight that is not finite is never written: when the loss was not
    finite just before one is due, the weights are looked at.
    """

    # Before OutputsWindowHook takes the outputs: list it first in custom_hooks.
    priority = "HIGHEST"

    def __init__(
        self,
        patience: int = 5,
        min_feature_std: float = 0.05,
        min_prototypes: int = 2,
        grace_epochs: int = 1,
    ):
        if patience < 1:
            raise ValueError(
                "patience is the number of steps without a finite loss, at least 1, but got "
                f"{patience}"
            )
        self.patience, self.grace_epochs = patience, grace_epochs
        self.min_feature_std, self.min_prototypes = min_feature_std, min_prototypes

    def before_train(self, runner) -> None:
        """Start counting."""
        self.streak, self.last_finite = 0, None
        self.pending: deque[tuple[int, torch.Tensor, torch.cuda.Event | None]] = deque()

    def after_train_iter(
        self, runner, batch_idx: int, data_batch=None, outputs: dict | None = None
    ) -> None:
        """Send this step's loss on its way to the host, and look at those that have arrived."""
        if not outputs or "loss" not in outputs:
            return
        loss = outputs["loss"].detach()
        arrived = None
        if loss.is_cuda:
            loss, arrived = loss.to("cpu", non_blocking=True), torch.cuda.Event()
            arrived.record()
        self.pending.append((runner.iter + 1, loss, arrived))
        self._look(runner)

    def after_train_epoch(self, runner) -> None:
        """Stop before `CheckpointHook` if weights are lost on any process; warn on collapse."""
        self._look(runner, wait=True)
        lost_after = torch.tensor(self.streak if self._weights_are_lost(runner) else 0)
        all_reduce(lost_after, op="max")
        if lost_after:
            self._stop(runner, int(lost_after), "at the end of the epoch")
        if runner.epoch >= self.grace_epochs:
            self._warn_on_collapse(runner)

    def before_save_checkpoint(self, runner, checkpoint: dict) -> None:
        """The same for checkpoints that are written within an epoch."""
        self._look(runner, wait=True)
        if self._weights_are_lost(runner):
            self._stop(runner, self.streak, "when a checkpoint was due")

    def _weights_are_lost(self, runner) -> bool:
        """One step without a finite loss may have spoilt them, or have been passed over."""
        if not self.streak:
            return False
        floats = [t for t in runner.model.state_dict().values() if t.is_floating_point()]
        return not all(bool(t.isfinite().all()) for t in floats)

    def _look(self, runner, wait: bool = False) -> None:
        while self.pending:
            step, loss, arrived = self.pending[0]
            if arrived is not None and not arrived.query():
                if not wait:
                    return
                arrived.synchronize()
            self.pending.popleft()
            if math.isfinite(loss):
                self.streak, self.last_finite = 0, (step, float(loss))
                continue
            self.streak += 1
            if self.streak >= self.patience:
                self._stop(runner, self.streak, f"at step {step}")

    def _stop(self, runner, streak: int, where: str) -> None:
        last = "no step had a finite loss"
        if self.last_finite:
            step, loss = self.last_finite
            last = f"the last finite loss was {loss:.4g} at step {step}"
        saved = runner.message_hub.runtime_info.get("last_ckpt")
        kept = "There is no checkpoint yet."
        if saved:
            kept = f"The last checkpoint, {saved}, is intact: --resume continues from it."
        raise TrainingStopped(
            f"The loss was not finite for {streak} step{'s' * (streak > 1)} {where}; {last}. "
            f"{kept} What helps, in this order: --amp bf16 instead of fp16 (or --amp off to see "
            "whether precision is the cause), a lower learning rate or a longer warm-up, and a "
            "look at the images: broken files, a wrong mean and std."
        )

    def _warn_on_collapse(self, runner) -> None:
        scalars = runner.message_hub.log_scalars
        model = unwrapped(runner.model)
        if "train/feature_std" in scalars:
            std = scalars["train/feature_std"].current()
            if std < self.min_feature_std:
                runner.logger.warning(
                    f"Epoch {runner.epoch + 1}: the features are collapsing: their standard "
                    f"deviation is {std:.2g}, below {self.min_feature_std}. All pixels look alike "
                    "to the model. Is the learning rate that of the global batch (1.0 x batch / "
                    "256)? Is a batch per process of 1 starving batch norm?"
                )
        if "train/prototypes_used_running" in scalars:
            used = scalars["train/prototypes_used_running"].current() * model.num_prototypes
            if used <= self.min_prototypes + 1e-3:
                runner.logger.warning(
                    f"Epoch {runner.epoch + 1}: the groups are collapsing: about {used:.0f} of "
                    f"{model.num_prototypes} prototypes get all pixels. Check the center momentum "
                    "and the teacher temperature against the recipe; with few images or a "
                    "small model, use fewer prototypes and a longer warm-up."
                )
