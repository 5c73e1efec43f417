"""Logging of losses and diagnostics that waits for the device only when a line is logged."""

import torch
from mmengine.hooks import Hook, LoggerHook

from ..functional.collectives import mean_over_processes, rank, world_size
from ..models.training_cost import TrainingCost, training_cost
from ..runtime.amp import precision_of
from ..runtime.device_peaks import peak_flops


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
    """Logs the gradient norm, the speed and the share of the time that was spent waiting for data.

    `grad_norm` is the L2 norm of all gradients just before the optimizer uses them: accumulated,
    averaged over processes and unscaled. `data_wait` is data time / time, 0-1, since the last line;
    above 0.1 there are too few or too slow loading workers. `images_per_second` is that of all
    processes since the last line. `mfu`, model FLOPs utilization, is the share, 0-1, of
    the device's peak arithmetic that the steps use; it is logged where `device_peaks` has the
    device and all of the step's arithmetic is known before it is taken, unlike a detector's.

    Before the first step it warns if the memory that the training needs is not free.
    """

    estimate = True  # find out the cost of a step before the first one

    priority = 55  # after IterTimerHook (NORMAL, 50), before LoggerHook (BELOW_NORMAL, 60)

    def before_train(self, runner) -> None:
        self.wanted, self.norm, self.since = False, None, 0
        self.cost: TrainingCost | None = None
        self.peak: float | None = None
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
        if self.estimate and rank() == 0:
            self._find_cost(runner, data_batch)
            self.estimate = False
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
            images = _batch_size(runner) * world_size()
            hub.update_scalar("train/images_per_second", float(images / max(time, 1e-12)))
            if self.peak and self.cost and self.cost.step.whole:
                mfu = self.cost.step.flops / max(time, 1e-12) / self.peak
                hub.update_scalar("train/mfu", float(mfu))
        self.since = 0

    def _find_cost(self, runner, batch: dict) -> None:
        """Once; where the device has no known peak, only if the memory might not be enough."""
        device = next(runner.model.parameters()).device
        name = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
        self.peak = peak_flops(name, precision_of(runner.cfg.get("optim_wrapper") or {}))
        sure, wrapper = self.peak is not None, runner.optim_wrapper
        self.cost = training_cost(runner.model, wrapper, batch, _batch_size(runner), sure)
        if self.cost and not self.cost.fits:
            runner.logger.warning(f"memory: {self.cost.describe()}")


def _batch_size(runner) -> int:
    """Images of one process in an iteration."""
    loader = runner.train_dataloader
    return loader.batch_size or loader.batch_sampler.batch_size  # mmdet's by aspect ratio
