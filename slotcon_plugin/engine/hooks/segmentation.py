"""Unsupervised segmentation while pretraining runs: a collapse or a plateau is seen early."""

import colorsys

import numpy as np
import torch
from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from torch import Tensor

from ...data.labelled import LabelledPictures
from ...functional.collectives import rank, sum_over_processes, world_size
from ...functional.dense import upsampled_argmax
from ...functional.matching import (
    confusion_counts,
    match_majority,
    match_one_to_one,
    matched_counts,
    segmentation_scores,
)
from ..wrapping import unwrapped

MATCHINGS = {"one_to_one": match_one_to_one, "many_to_one": match_majority}


class UnsupervisedSegHook(Hook):
    """Score the teacher's prototypes on a small labelled set, and draw the groups.

    Labels are only compared with; nothing of this reaches the training, which takes the same steps
    with and without the hook. Written to the log and, as `unsupervised/…`, to TensorBoard.

    Args:
        pictures, labels, kind, size, names: as of `LabelledPictures`.
        interval: epochs between two evaluations; the last epoch is evaluated too.
        batch_size: pictures at a time.
        overlays: pictures that are drawn, the first of the set.
    """

    priority = "LOW"  # after the hooks that move the model

    def __init__(
        self,
        pictures: str | list[str],
        labels: str,
        kind: str,
        size: int = 320,
        names: str | None = None,
        interval: int = 10,
        batch_size: int = 16,
        overlays: int = 4,
    ):
        if interval < 1 or batch_size < 1 or overlays < 0:
            raise ValueError(
                f"interval is {interval}, batch_size {batch_size}, overlays {overlays}; expected "
                "at least 1, 1 and 0."
            )
        self.dataset = LabelledPictures(pictures, labels, kind, size, names)
        self.interval, self.batch_size, self.overlays = interval, batch_size, overlays

    def after_train_epoch(self, runner) -> None:
        """Evaluate every `interval` epochs and after the last."""
        if self.every_n_epochs(runner, self.interval) or self.is_last_train_epoch(runner):
            self.evaluate(runner)

    def evaluate(self, runner) -> dict[str, float]:
        """Segment, score, log and draw. Returns the scores, in percent."""
        model = unwrapped(runner.model)
        was_training = model.training
        model.eval()  # the teacher's running statistics, as in the protocol
        counts_kl = self._count(model)
        scores = {}
        for mode, match in MATCHINGS.items():
            found = segmentation_scores(matched_counts(counts_kl, match(counts_kl)))
            scores[f"unsupervised/miou_{mode}"] = 100 * found.mean_iou
            scores[f"unsupervised/accuracy_{mode}"] = 100 * found.accuracy
        used = int((counts_kl.sum(dim=1) > 0).sum())
        scores["unsupervised/prototypes_used"] = used
        if is_main_process():
            step = runner.iter
            runner.visualizer.add_scalars(scores, step=step)
            for i in range(min(self.overlays, len(self.dataset))):
                picture_3hw = self.dataset[i]["inputs"]
                (assignment_hw,) = self._segment(model, picture_3hw[None])
                drawn = overlay(picture_3hw, assignment_hw.cpu(), model.num_prototypes)
                runner.visualizer.add_image(f"groups_{i}", drawn, step=step)
        model.train(was_training)
        runner.logger.info(
            f"Unsupervised segmentation of {self.dataset.selection}: "
            + ", ".join(f"{name.split('/')[1]} {value:.4g}" for name, value in scores.items())
            + f" of {model.num_prototypes}"
        )
        return scores

    def _count(self, model) -> Tensor:
        """Confusion counts (k, l) of all processes' pictures, on the CPU."""
        device = next(model.parameters()).device
        classes = len(self.dataset.classes)
        counts_kl = torch.zeros(model.num_prototypes, classes, dtype=torch.int64, device=device)
        # No DataLoader: it would draw a number from the generator that training draws from.
        mine = range(rank(), len(self.dataset), world_size())
        for start in range(0, len(mine), self.batch_size):
            items = [self.dataset[i] for i in mine[start : start + self.batch_size]]
            labels_byx = torch.stack([item["labels"] for item in items]).to(device)
            clusters_byx = self._segment(model, torch.stack([item["inputs"] for item in items]))
            counts_kl += confusion_counts(clusters_byx, labels_byx, *counts_kl.shape)
        return sum_over_processes(counts_kl).cpu()

    @torch.no_grad()
    def _segment(self, model, pictures_b3hw: Tensor) -> Tensor:
        """The prototype of each pixel, (b, h, w)."""
        samples = model.test_step(dict(inputs=pictures_b3hw))
        maps_bkhw = torch.stack([sample.scores for sample in samples])
        return upsampled_argmax(maps_bkhw, *pictures_b3hw.shape[2:])


def overlay(picture_3hw: Tensor, assignment_hw: Tensor, num_prototypes: int) -> np.ndarray:
    """Groups painted over the picture in grey: (h, w, 3) uint8, one colour a prototype for ever."""
    grey_hw = picture_3hw.float().mean(dim=0).numpy()
    # Steps of the golden ratio round the colour circle keep any few prototypes apart.
    colours_k3 = np.array(
        [
            colorsys.hsv_to_rgb(k * 0.618034 % 1, 0.55 + 0.4 * (k % 2), 0.95)
            for k in range(num_prototypes)
        ]
    )
    return (0.6 * 255 * colours_k3[assignment_hw.numpy()] + 0.4 * grey_hw[..., None]).astype(
        np.uint8
    )
