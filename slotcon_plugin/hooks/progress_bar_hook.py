"""A progress bar instead of log lines."""

from mmengine.hooks import Hook

from ..evaluation.progress import ProgressBar


class ProgressBarHook(Hook):
    """Shows the progress of training, the remaining time, and the last logged loss.

    Used instead of log lines: `runner.register_hook(ProgressBarHook())`.
    """

    priority = "VERY_LOW"  # after LoggerHook, whose values it shows

    def before_train(self, runner) -> None:
        self.bar = ProgressBar(runner.max_iters, "training", "step", runner.iter)

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
        scalars = runner.message_hub.log_scalars
        if outputs and "train/loss" in scalars:
            self.bar.set_postfix_str(f"loss {scalars['train/loss'].current():.3f}", refresh=False)
        self.bar.update()

    def after_train(self, runner) -> None:
        self.bar.close()
