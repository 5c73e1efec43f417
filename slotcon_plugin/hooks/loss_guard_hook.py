"""Stops training when the loss is lost, and warns when features or groups collapse."""

from typing import NamedTuple

import torch
import torch.distributed as dist
from mmengine.hooks import Hook
from mmengine.runner import find_latest_checkpoint
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from ..errors import TrainingStopped
from ..functional.checks import check_integers, check_numbers
from ..functional.collectives import any_process, world_size
from ..runtime.wrapping import unwrapped
from .collapse_warnings import collapse_warnings
from .step_recorder import StepRecorder


class Verdict(NamedTuple):
    """What is known about a step's loss, on its way from the device."""

    values: Tensor  # (4,) float64: lost in any process, highest iteration, -lowest iteration, loss
    arrived: torch.cuda.Event | None


class LossGuardHook(Hook):
    """Stops training when the loss stays infinite or NaN; warns on collapse.

    The loss is examined before the optimizer changes the weights, on all processes alike. On a GPU
    the host waits only for the forward pass while the backward pass runs. The first of successive
    steps without a finite loss, or on a CPU without a finite gradient, is kept in the work dir, in
    `nonfinite_step/rank*.pth`, one file per process; slotcon replay repeats it. A later one
    replaces it.

    If the last loss before a checkpoint was not finite, the weights are checked, so that no
    checkpoint has a weight that is infinite or NaN.

    Args:
        patience: training stops after so many successive steps without a finite loss, at least 1.
            One or two can happen under float16, which searches for its loss scale.
        min_feature_std: warn when `feature_std` (1: evenly spread, 0: all equal) is below this.
        min_prototypes: warn when at most so many prototypes were used recently.
        min_active_slots: warn when a view has fewer groups on average, at least 1.
        grace_epochs: no warning in so many first epochs.
        keep_step: keep the first step without a finite loss.
    """

    priority = "HIGHEST"  # before AverageOutputsHook (5), which removes the losses

    def __init__(
        self,
        patience: int = 5,
        min_feature_std: float = 0.05,
        min_prototypes: int = 2,
        min_active_slots: float = 1.2,
        grace_epochs: int = 1,
        keep_step: bool = True,
    ) -> None:
        check_integers(1, patience=patience)
        check_numbers("[0, inf)", min_feature_std=min_feature_std, min_prototypes=min_prototypes)
        check_numbers("[0, inf)", min_active_slots=min_active_slots)
        check_integers(0, grace_epochs=grace_epochs)
        self.patience, self.grace_epochs, self.keep_step = patience, grace_epochs, keep_step
        self.limits = min_feature_std, min_prototypes, min_active_slots

    def before_train(self, runner) -> None:
        self.streak, self.last_finite, self.kept = 0, None, None
        self.was_bad, self.in_step, self.verdict = False, False, None
        self.recorder = StepRecorder(runner.model)
        model, optimizer = runner.model, runner.optim_wrapper.optimizer
        self.handles: list[RemovableHandle] = [
            model.register_forward_pre_hook(self._record, with_kwargs=True),
            model.register_forward_hook(lambda model, args, losses: self._examine(runner, losses)),
            optimizer.register_step_pre_hook(lambda own, *_: self._judge(runner, own)),
        ]

    def after_train(self, runner) -> None:
        for handle in self.handles:
            handle.remove()

    def before_train_iter(self, runner, batch_idx: int, data_batch=None) -> None:
        self.in_step, self.verdict = True, None

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
        """Judge a step in which the optimizer took no step: the weights are the same still."""
        self._judge(runner)
        self.in_step = False
        self.recorder.end()
        if self.streak >= self.patience:
            self._stop(runner, self.streak, f"at step {runner.iter + 1}")

    def _record(self, model: nn.Module, args: tuple, kwargs: dict) -> None:
        if self.in_step and self.keep_step:
            self.recorder.begin(args, kwargs)

    @torch.no_grad()
    def _examine(self, runner, outputs) -> None:
        """Send a step's loss to the host, and whether it is lost in any process."""
        if not self.in_step or not isinstance(outputs, dict):
            return
        losses = {name: value for name, value in outputs.items() if "loss" in name}
        self.recorder.losses = losses
        parts = [p for v in losses.values() for p in (v if isinstance(v, list) else [v])]
        if not parts:
            return
        loss = sum(part.mean() for part in parts)
        step = torch.full((), runner.iter, device=loss.device)
        shared = torch.stack([(~loss.isfinite()).to(step.dtype), step, -step])
        if world_size() > 1:
            dist.all_reduce(shared, op=dist.ReduceOp.MAX)
        values, arrived = torch.cat([shared.double(), loss.double()[None]]), None
        if values.is_cuda:
            values, arrived = values.to("cpu", non_blocking=True), torch.cuda.Event()
            arrived.record()
        self.verdict = Verdict(values, arrived)

    def _judge(self, runner, optimizer: torch.optim.Optimizer | None = None) -> None:
        """Count a step whose loss or gradient is not finite, and keep the first one."""
        if self.verdict is None:
            return
        (values, arrived), self.verdict = self.verdict, None
        if arrived is not None:
            arrived.synchronize()
        lost, last, first, loss = values.tolist()
        if lost not in (0, 1) or not last == runner.iter == -first:
            raise TrainingStopped(
                f"The processes are not at the same step: this one is at step {runner.iter + 1}. "
                f"Give all the same images, batch size and config. {_last_checkpoint(runner)}"
            )
        self.streak = self.streak + 1 if lost else 0
        if not lost:
            self.last_finite = runner.iter + 1, loss
        is_bad = lost or not _gradient_is_finite(optimizer)
        if is_bad and not self.was_bad and self.keep_step:
            self._keep(runner, "loss" if lost else "gradient")
        self.was_bad = is_bad

    def _keep(self, runner, what: str) -> None:
        try:
            self.kept = self.recorder.save(runner, f"the {what} was not finite")
        except (OSError, TypeError, MemoryError) as error:
            self.kept = None
            runner.logger.warning(f"Step {runner.iter + 1}, not finite, is not kept: {error}")
        else:
            runner.logger.warning(
                f"The {what} of step {runner.iter + 1} is not finite; "
                f"to repeat the step: slotcon replay {self.kept}"
            )

    def after_train_epoch(self, runner) -> None:
        """Stop before `CheckpointHook` if a process has lost its weights; warn on collapse."""
        if self.streak:
            device = next(runner.model.parameters()).device
            lost = torch.tensor(self._weights_are_lost(runner), device=device)
            if any_process(lost):
                self._stop(runner, self.streak, "at the end of the epoch")
        if runner.epoch >= self.grace_epochs:
            levels = getattr(unwrapped(runner.model), "prototypes_of_levels", {})
            for line in collapse_warnings(runner.message_hub.log_scalars, levels, *self.limits):
                runner.logger.warning(f"Epoch {runner.epoch + 1}: {line}")

    def before_save_checkpoint(self, runner, checkpoint: dict) -> None:
        if self._weights_are_lost(runner):
            self._stop(runner, self.streak, "when a checkpoint was due")

    def _weights_are_lost(self, runner) -> bool:
        """A step without a finite loss may have changed the weights, or have been skipped."""
        if not self.streak:
            return False
        floats = [t for t in runner.model.state_dict().values() if t.is_floating_point()]
        return not all(bool(t.isfinite().all()) for t in floats)

    def _stop(self, runner, streak: int, when: str) -> None:
        last = "no step had a finite loss"
        if self.last_finite:
            step, loss = self.last_finite
            last = f"the last finite loss was {loss:.4g} at step {step}"
        kept = f"slotcon replay {self.kept} repeats the first. " if self.kept else ""
        raise TrainingStopped(
            f"The loss was not finite for {streak} step{'s' * (streak > 1)} {when}; {last}. {kept}"
            f"{_last_checkpoint(runner)} Try, in this order: --amp bf16 or off instead of fp16; a "
            "lower learning rate or a longer warm-up; then check the images and their mean and std."
        )


def _gradient_is_finite(optimizer: torch.optim.Optimizer | None) -> bool:
    """Only looked at on a CPU: a GPU would have to be waited for."""
    groups = optimizer.param_groups if optimizer else []
    grads = [p.grad for group in groups for p in group["params"] if p.grad is not None]
    if not grads or grads[0].is_cuda:
        return True
    # The sum is not finite if a value is not, and takes little time.
    return bool(torch.stack([grad.sum() for grad in grads]).isfinite().all())


def _last_checkpoint(runner) -> str:
    # The message hub's `last_ckpt` is missing after a resume, or names a file elsewhere.
    saved = find_latest_checkpoint(runner.work_dir)
    if not saved:
        return f"There is no checkpoint in {runner.work_dir} yet."
    return f"The last checkpoint, {saved}, is intact: --resume continues from it."
