"""A progress bar instead of log lines."""

from collections.abc import Iterator
from contextlib import contextmanager

from mmengine.hooks import Hook
from mmengine.runner import Runner

from ..evaluation.batches import progress_bar


class ProgressBarHook(Hook):
    """Shows the steps, the remaining time and the last logged loss."""

    priority = "VERY_LOW"  # after LoggerHook, whose loss it shows
    bar = None

    def before_train(self, runner) -> None:
        self.bar = progress_bar(runner.max_iters, "training", "step", runner.iter)

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
        scalars = runner.message_hub.log_scalars
        if outputs and "train/loss" in scalars:
            self.bar.set_postfix_str(f"loss {scalars['train/loss'].current():.3f}", refresh=False)
        self.bar.update()


@contextmanager
def progress_shown(runner: Runner) -> Iterator[None]:
    """Show the progress of a runner's training; the bar also ends after an error."""
    hook = ProgressBarHook()
    runner.register_hook(hook)
    try:
        yield
    finally:
        if hook.bar is not None:
            hook.bar.close()
