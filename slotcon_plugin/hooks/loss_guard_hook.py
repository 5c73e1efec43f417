"""Stops training when the loss is lost, and warns when features or groups collapse."""

import math
from collections import deque

import torch
from mmengine.dist import all_reduce
from mmengine.hooks import Hook
from mmengine.runner import find_latest_checkpoint

from ..errors import TrainingStopped
from ..functional.checks import check_integers, check_numbers
from ..runtime.wrapping import unwrapped


class LossGuardHook(Hook):
    """Stops training when the loss stays infinite or NaN; warns on collapse.

    The loss is copied to the host without waiting for it, so on a GPU the stop can be a few steps
    late. If the last loss before a checkpoint was not finite, the weights are checked, so that no
    checkpoint has a weight that is infinite or NaN.

    Args:
        patience: training stops after so many successive steps without a finite loss, at least 1.
            One or two can happen under float16, which searches for its loss scale.
        min_feature_std: warn when `feature_std` (1: evenly spread, 0: all equal) is below this.
        min_prototypes: warn when at most so many prototypes were used recently.
        grace_epochs: no warning in so many first epochs.
    """

    priority = "HIGHEST"  # before AverageOutputsHook (5), which removes the losses

    def __init__(
        self,
        patience: int = 5,
        min_feature_std: float = 0.05,
        min_prototypes: int = 2,
        grace_epochs: int = 1,
    ) -> None:
        check_integers(1, patience=patience)
        check_numbers("[0, inf)", min_feature_std=min_feature_std, min_prototypes=min_prototypes)
        check_integers(0, grace_epochs=grace_epochs)
        self.patience, self.grace_epochs = patience, grace_epochs
        self.min_feature_std, self.min_prototypes = min_feature_std, min_prototypes

    def before_train(self, runner) -> None:
        self.streak, self.last_finite = 0, None
        self.pending: deque[tuple[int, torch.Tensor, torch.cuda.Event | None]] = deque()

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
        if not outputs or "loss" not in outputs:
            return
        loss, arrived = outputs["loss"].detach(), None
        if loss.is_cuda:
            loss, arrived = loss.to("cpu", non_blocking=True), torch.cuda.Event()
            arrived.record()
        self.pending.append((runner.iter + 1, loss, arrived))
        self._read(runner)

    def after_train_epoch(self, runner) -> None:
        """Stop before `CheckpointHook` if a process has lost its weights; warn on collapse."""
        self._read(runner, wait=True)
        streak = torch.tensor(self.streak if self._weights_are_lost(runner) else 0)
        all_reduce(streak, op="max")
        if not 0 <= streak <= runner.iter:
            raise TrainingStopped(
                f"The processes are not at the same step: they exchanged {int(streak)} at the end "
                "of the epoch, which cannot be a number of steps. Give every process the same "
                f"images, batch size and config. {_last_checkpoint(runner)}"
            )
        if streak:
            self._stop(runner, int(streak), "at the end of the epoch")
        if runner.epoch >= self.grace_epochs:
            self._warn_on_collapse(runner)

    def before_save_checkpoint(self, runner, checkpoint: dict) -> None:
        self._read(runner, wait=True)
        if self._weights_are_lost(runner):
            self._stop(runner, self.streak, "when a checkpoint was due")

    def _weights_are_lost(self, runner) -> bool:
        """A step without a finite loss may have changed the weights, or have been skipped."""
        if not self.streak:
            return False
        floats = [t for t in runner.model.state_dict().values() if t.is_floating_point()]
        return not all(bool(t.isfinite().all()) for t in floats)

    def _read(self, runner, wait: bool = False) -> None:
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

    def _stop(self, runner, streak: int, when: str) -> None:
        last = "no step had a finite loss"
        if self.last_finite:
            step, loss = self.last_finite
            last = f"the last finite loss was {loss:.4g} at step {step}"
        raise TrainingStopped(
            f"The loss was not finite for {streak} step{'s' * (streak > 1)} {when}; {last}. "
            f"{_last_checkpoint(runner)} Try, in this order: --amp bf16 or off instead of fp16; a "
            "lower learning rate or a longer warm-up; then check the images and their mean and std."
        )

    def _warn_on_collapse(self, runner) -> None:
        scalars, epoch = runner.message_hub.log_scalars, f"Epoch {runner.epoch + 1}"
        std = scalars.get("train/feature_std")
        if std and std.current() < self.min_feature_std:
            runner.logger.warning(
                f"{epoch}: the features are collapsing: their standard deviation is "
                f"{std.current():.2g}, below {self.min_feature_std}. Is the learning rate 1.0 x "
                "global batch / 256? Is the batch per process 1, too small for batch norm?"
            )
        share = scalars.get("train/prototypes_used_running")
        total = unwrapped(runner.model).num_prototypes if share else 0
        used = share.current() * total if share else math.inf
        if used <= self.min_prototypes + 1e-3:
            runner.logger.warning(
                f"{epoch}: the groups are collapsing: about {used:.0f} of {total} prototypes get "
                "all pixels. Compare center momentum and teacher temperature with the recipe; with "
                "few images or a small model, use fewer prototypes and a longer warm-up."
            )


def _last_checkpoint(runner) -> str:
    # The message hub's `last_ckpt` is missing after a resume, or names a file elsewhere.
    saved = find_latest_checkpoint(runner.work_dir)
    if not saved:
        return f"There is no checkpoint in {runner.work_dir} yet."
    return f"The last checkpoint, {saved}, is intact: --resume continues from it."
