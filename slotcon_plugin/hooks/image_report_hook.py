"""Reports the images that cannot be read, and stops when they are too many."""

from mmengine.dist import all_reduce
from mmengine.hooks import Hook
from mmengine.runner import Runner

from ..datasets.unlabeled_images import UnlabeledImages
from ..errors import DataError

NAMED = 5


class ImageReportHook(Hook):
    """Count unreadable files over all processes; log the number after every epoch.

    Active when the training data set is an `UnlabeledImages`.

    Args:
        max_unreadable: share of the data set, 0-1, above which training stops with a `DataError`.
        interval: iterations between two checks. A check is one small exchange between processes.
    """

    priority = "LOWEST"  # after the checkpoint: stopping must not cost the epoch that is done

    def __init__(self, max_unreadable: float = 0.01, interval: int = 100):
        if not 0 <= max_unreadable <= 1:
            raise ValueError(f"max_unreadable is a share, 0 to 1, not {max_unreadable!r}")
        self.max_unreadable = max_unreadable
        self.interval = interval
        self.dataset: UnlabeledImages | None = None

    def before_train(self, runner: Runner) -> None:
        dataset = runner.train_dataloader.dataset
        self.dataset = dataset if isinstance(dataset, UnlabeledImages) else None

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch=None, outputs=None):
        if self.every_n_train_iters(runner, self.interval):
            self._check(runner)

    def after_train_epoch(self, runner: Runner) -> None:
        if self.dataset is not None:
            count = self._check(runner)
            runner.logger.info(f"Unreadable images: {count} of {len(self.dataset)}.")

    def _check(self, runner: Runner) -> int:
        if self.dataset is None:
            return 0
        mask = self.dataset.unreadable_mask
        union = mask.clone()  # workers write into the mask meanwhile: never write a 0 there
        all_reduce(union, op="max")  # two processes may have met the same file
        mask.masked_fill_(union.bool(), 1)
        count = int(mask.sum())
        runner.message_hub.update_scalar("train/unreadable_images", count)
        share = count / len(self.dataset)
        if share > self.max_unreadable:
            names = self.dataset.unreadable
            more = f" and {count - NAMED} more" if count > NAMED else ""
            raise DataError(
                f"{count} of {len(self.dataset)} images ({share:.1%}) cannot be read, more than "
                f"max_unreadable={self.max_unreadable:.1%}: {', '.join(names[:NAMED])}{more}. "
                "Repair or remove these files, or raise max_unreadable of the ImageReportHook."
            )
        return count
