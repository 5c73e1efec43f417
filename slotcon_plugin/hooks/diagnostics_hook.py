"""Logging of losses and diagnostics that waits for the device only when a line is logged."""

import torch
from mmengine.hooks import Hook, LoggerHook

from ..functional.collectives import mean_over_processes


def is_logged(runner, batch_idx: int) -> bool:
    """Whether `LoggerHook` writes a line after this iteration. True if there is no `LoggerHook`."""
    logger = next((hook for hook in runner.hooks if isinstance(hook, LoggerHook)), None)
    if logger is None:
        return True
    length = len(runner.train_dataloader)
    short = not logger.ignore_last or length <= logger.interval
    return (batch_idx + 1) % logger.interval == 0 or (batch_idx + 1 == length and short)


class AverageOutputsHook(Hook):
    """Averages the model's outputs over the iterations between two log lines and all processes.

    MMEngine's `RuntimeInfoHook` reads every output, which waits for the device. This hook empties
    `outputs` before it and keeps the tensors; on logged iterations it puts back their means as
    floats. Only hooks of a higher priority, such as `LossGuardHook`, see every iteration's outputs.
    """

    priority = 5  # after LossGuardHook (HIGHEST, 0), before RuntimeInfoHook (VERY_HIGH, 10)

    def before_train(self, runner) -> None:
        self.since_line: list[dict[str, torch.Tensor]] = []

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
        if not outputs:
            return
        self.since_line.append({name: value.detach() for name, value in outputs.items()})
        outputs.clear()
        if is_logged(runner, batch_idx):
            names = list(self.since_line[0])
            table = [torch.stack([o[name].float() for name in names]) for o in self.since_line]
            means_n = mean_over_processes(torch.stack(table).mean(0))
            outputs.update(zip(names, means_n.tolist(), strict=True))  # the one wait for the device
            self.since_line = []


class DiagnosticsHook(Hook):
    """Logs the gradient norm and the share of the time that was spent waiting for data.

    `grad_norm` is the L2 norm of all gradients just before the optimizer uses them: accumulated,
    averaged over processes and unscaled. `data_wait` is data time / time, 0-1, since the last line;
    above 0.1 there are too few or too slow loading workers.
    """

    priority = 55  # after IterTimerHook (NORMAL, 50), before LoggerHook (BELOW_NORMAL, 60)

    def before_train(self, runner) -> None:
        self.wanted, self.norm, self.since = False, None, 0
        self.handle = runner.optim_wrapper.optimizer.register_step_pre_hook(self._measure)

    def after_train(self, runner) -> None:
        self.handle.remove()

    def _measure(self, optimizer: torch.optim.Optimizer, args: tuple, kwargs: dict) -> None:
        if not self.wanted:
            return
        params = [p for group in optimizer.param_groups for p in group["params"]]
        grads = [p.grad for p in params if p.grad is not None]
        if grads:
            self.norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(grads)))

    def before_train_iter(self, runner, batch_idx: int, data_batch=None) -> None:
        """Request the norm if this iteration's optimizer step is the last one before a line."""
        accumulation = runner.optim_wrapper._accumulative_counts
        self.wanted = any(is_logged(runner, batch_idx + i) for i in range(accumulation))

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
        self.since += 1
        if not is_logged(runner, batch_idx):
            return
        hub = runner.message_hub
        if self.norm is not None:
            hub.update_scalar("train/grad_norm", self.norm.item())
            self.norm = None
        if {"train/time", "train/data_time"} <= hub.log_scalars.keys():
            time = hub.get_scalar("train/time").mean(self.since)
            data_time = hub.get_scalar("train/data_time").mean(self.since)
            hub.update_scalar("train/data_wait", float(data_time / max(time, 1e-12)))
        self.since = 0
