"""A progress bar in place of log lines: `runner.register_hook(ProgressBarHook())`."""

import sys

from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from tqdm import tqdm


class ProgressBarHook(Hook):
    """Shows how far the training is, the time that is left, and the loss that was logged last.

    For a terminal; where the output is a file it writes a line every half minute.
    """

    priority = "VERY_LOW"  # after LoggerHook, whose figures it shows

    def before_train(self, runner) -> None:
        """Open the bar."""
        self.bar = tqdm(
            total=runner.max_iters,
            initial=runner.iter,
            desc="training",
            unit="step",
            mininterval=0.5 if sys.stderr.isatty() else 30,
            smoothing=0.1,
            disable=not is_main_process(),
        )

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
