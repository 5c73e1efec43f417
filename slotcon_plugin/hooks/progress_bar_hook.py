"""A progress bar instead of log lines."""

from mmengine.hooks import Hook

from ..evaluation.batches import progress_bar


class ProgressBarHook(Hook):
    """Shows the steps, the remaining time and the last logged loss."""

    priority = "VERY_LOW"  # after LoggerHook, whose loss it shows

    def before_train(self, runner) -> None:
        self.bar = progress_bar(runner.max_iters, "training", "step", runner.iter)

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
        scalars = runner.message_hub.log_scalars
        if outputs and "train/loss" in scalars:
            self.bar.set_postfix_str(f"loss {scalars['train/loss'].current():.3f}", refresh=False)
        self.bar.update()

    def after_train(self, runner) -> None:
        self.bar.close()
