"""Reports the images that cannot be read, and stops training when they are too many."""

import torch
from mmengine.dist import all_gather, all_reduce
from mmengine.hooks import Hook

from ..datasets.unlabeled_images import UnlabeledImages
from ..errors import DataError
from ..functional.checks import check_integers, check_numbers
from ..runtime.regular_files import printable


class UnreadableImagesHook(Hook):
    """Counts unreadable files of an `UnlabeledImages` over all processes, and logs the number.

    Training stops with a `DataError` if more than the share `max_unreadable`, 0-1, of the images is
    unreadable. This is checked after each epoch and every `interval` iterations.
    """

    priority = "LOWEST"  # after the checkpoint, so that the finished epoch is saved

    def __init__(self, max_unreadable: float = 0.01, interval: int = 100) -> None:
        check_numbers("[0, 1]", max_unreadable=max_unreadable)
        check_integers(1, interval=interval)
        self.max_unreadable, self.interval = max_unreadable, interval
        self.dataset: UnlabeledImages | None = None

    def before_train(self, runner) -> None:
        """Check that all processes have the same number of images."""
        dataset = runner.train_dataloader.dataset
        self.dataset = dataset if isinstance(dataset, UnlabeledImages) else None
        if self.dataset is None:
            return
        counts = [int(count) for count in all_gather(torch.tensor(len(dataset)))]
        if len(set(counts)) > 1:
            raise DataError(
                f"The processes found different numbers of images: {', '.join(map(str, counts))}, "
                "in the order of ranks. Give every process the same files, such as a shared folder."
            )

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
        if self.dataset is not None and self.every_n_train_iters(runner, self.interval):
            self._check(runner)

    def after_train_epoch(self, runner) -> None:
        if self.dataset is not None:
            count = self._check(runner)
            runner.logger.info(f"Unreadable images: {count} of {len(self.dataset)}.")

    def _check(self, runner) -> int:
        mask = self.dataset.unreadable_mask
        union = mask.clone()  # loading workers write into the mask meanwhile: only ones are added
        all_reduce(union, op="max")  # several processes may have found the same file
        mask.masked_fill_(union.bool(), 1)
        count, total = int(mask.sum()), len(self.dataset)
        runner.message_hub.update_scalar("train/unreadable_images", count)
        if count / total > self.max_unreadable:
            names = printable(", ".join(self.dataset.unreadable[:5]))
            more = f" and {count - 5} more" if count > 5 else ""
            raise DataError(
                f"{count} of {total} images ({count / total:.1%}) cannot be read, more than "
                f"max_unreadable={self.max_unreadable:.1%}: {names}{more}. The warnings above name "
                "the causes. Repair or remove them, or increase max_unreadable of the "
                "UnreadableImagesHook, default_hooks.unreadable_images in the package's configs."
            )
        return count
