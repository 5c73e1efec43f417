"""A progress bar in place of log lines."""

from mmengine.hooks import Hook

from ..evaluation.progress import ProgressBar


class ProgressBarHook(Hook):
    """Shows how far the training is, the time that is left, and the loss that was logged last.

    In place of log lines: `runner.register_hook(ProgressBarHook())`.
    """

    priority = "VERY_LOW"  # after LoggerHook, whose figures it shows

    def before_train(self, runner) -> None:
        """Open the bar."""
        self.bar = ProgressBar(runner.max_iters, "training", "step", runner.iter)

    def after_train_iter(
        self, runner, batch_idx: int, data_batch=None, outputs: dict | None = None
    ) -> None:
        """Advance by a step."""
        scalars = runner.message_hub.log_scalars
        if outputs and "train/loss" in scalars:
            self.bar.set_postfix_str(f"loss {scalars['train/loss'].current():.3f}", refresh=False)
        self.bar.update()

    def after_train(self, runner) -> None:
        """Close the bar."""
        self.bar.close()
