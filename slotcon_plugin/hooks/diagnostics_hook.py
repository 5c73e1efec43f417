"""What is logged, without making the step wait for the device."""

import torch
from mmengine.hooks import Hook, LoggerHook

from ..functional.collectives import mean_over_processes


def logged_iterations(runner, batch_idx: int) -> bool:
    """Whether `LoggerHook` writes a line after this iteration. True if there is no `LoggerHook`."""
    logger = next((hook for hook in runner.hooks if isinstance(hook, LoggerHook)), None)
    if logger is None:
        return True
    length = len(runner.train_dataloader)
    short = not logger.ignore_last or length <= logger.interval
    return (batch_idx + 1) % logger.interval == 0 or (batch_idx + 1 == length and short)


class OutputsWindowHook(Hook):
    """Keeps the step's losses and diagnostics on the device until a line is logged, then hands on
    their means.

    MMEngine's `RuntimeInfoHook` reads every output of every iteration, and each reading makes the
    host wait until the device has finished the step. This hook comes before it, takes the outputs
    away, and on the iterations that are logged puts back the mean of each since the last line and
    over all processes, as plain floats. Later hooks therefore see an empty `outputs` in between; a
    hook that wants every loss has to stand before this one, as `LossGuardHook` does.
    """

    priority = "HIGHEST"

    def before_train(self, runner) -> None:
        """Begin with an empty window."""
        self.window: list[dict[str, torch.Tensor]] = []

    def after_train_iter(
        self, runner, batch_idx: int, data_batch=None, outputs: dict | None = None
    ) -> None:
        """Keep this iteration's outputs; empty the window if a line is logged."""
        if not outputs:
            return
        self.window.append({name: value.detach() for name, value in outputs.items()})
        outputs.clear()
        if logged_iterations(runner, batch_idx):
            names = list(self.window[0])
            table = torch.stack(
                [torch.stack([step[name].float() for name in names]) for step in self.window]
            )
            means = mean_over_processes(table.mean(0)).tolist()  # the one transfer
            outputs.update(zip(names, means, strict=True))
            self.window = []


class DiagnosticsHook(Hook):
    """Logs the gradient norm and the share of the time that was spent waiting for data.

    `grad_norm` is the L2 norm over all gradients just before the optimizer uses them: after
    accumulation, after the exchange between processes, after the loss scale of mixed precision is
    taken off. It is computed only in steps that are logged. `data_wait` is data time / time, 0-1,
    over the iterations since the last line; well below 0.1 is healthy, more means too few or too
    slow workers.
    """

    # After IterTimerHook (50), which measures, and before LoggerHook (60), which writes.
    priority = 55

    def before_train(self, runner) -> None:
        """Stand between the gradients and the optimizer."""
        self.wanted, self.norm, self.since = False, None, 0
        optimizer = runner.optim_wrapper.optimizer
        self.handle = optimizer.register_step_pre_hook(self._measure)

    def after_train(self, runner) -> None:
        """Leave the optimizer as it was."""
        self.handle.remove()

    def _measure(self, optimizer: torch.optim.Optimizer, args: tuple, kwargs: dict) -> None:
        if not self.wanted:
            return
        params = [p for group in optimizer.param_groups for p in group["params"]]
        grads = [p.grad for p in params if p.grad is not None]
        if grads:
            self.norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(grads)))

    def before_train_iter(self, runner, batch_idx: int, data_batch=None) -> None:
        """Ask for the norm if this iteration's step will be the last before a line."""
        accumulation = runner.optim_wrapper._accumulative_counts
        self.wanted = any(logged_iterations(runner, batch_idx + i) for i in range(accumulation))

    def after_train_iter(
        self, runner, batch_idx: int, data_batch=None, outputs: dict | None = None
    ) -> None:
        """Put the two numbers where the logger finds them."""
        self.since += 1
        if not logged_iterations(runner, batch_idx):
            return
        hub = runner.message_hub
        if self.norm is not None:
            hub.update_scalar("train/grad_norm", self.norm.item())
            self.norm = None
        if "train/time" in hub.log_scalars and "train/data_time" in hub.log_scalars:
            waited, took = (
                hub.get_scalar(f"train/{name}").mean(self.since) for name in ("data_time", "time")
            )
            hub.update_scalar("train/data_wait", float(waited / max(took, 1e-12)))
        self.since = 0
