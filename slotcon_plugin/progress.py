"""How far the work is and how long it will still take: bars on a terminal, lines in a file."""

import sys

from mmengine.hooks import Hook
from tqdm import tqdm

from .functional.collectives import rank

# Seconds between two signs of life: a file gets a line each time.
EVERY = 0.5 if sys.stderr.isatty() else 30


class ProgressBar(tqdm):
    """A bar of the first process: done, speed, time left. In a file, a line every half minute."""

    def __init__(self, total: int, title: str, unit: str = "picture", start: int = 0):
        super().__init__(
            total=total,
            initial=start,
            desc=title,
            unit=unit,
            mininterval=EVERY,
            smoothing=0.1,
            disable=rank() != 0,
        )


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
