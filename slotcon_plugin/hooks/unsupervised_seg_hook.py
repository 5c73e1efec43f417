"""Segmentation without training while pretraining runs: a collapse or a plateau is seen early."""

import torch
import torch.distributed as dist
from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from torch import Tensor

from ..evaluation.batches import Reading, batches, check_apart
from ..evaluation.labeled_images import LabeledImages
from ..evaluation.retrieval import retrieve
from ..evaluation.unsupervised_segmentation import MATCHINGS, unsupervised
from ..functional.collectives import world_size
from ..functional.dense import upsampled_argmax
from ..runtime.wrapping import unwrapped
from ..visualization.painting import overlay


class UnsupervisedSegHook(Hook):
    """Score the teacher on a small labeled set, and draw its groups.

    Two questions: do the prototypes coincide with classes (unsupervised segmentation), and, where
    `train_names` or `train_images` gives images to remember, are the nearest cells of the
    encoder's map of the same class (dense retrieval). Labels are only compared with; nothing of
    this reaches the training, which takes the same steps with and without the hook. Written to the
    log and, as `unsupervised/…` and `retrieval/…`, to TensorBoard.

    Args:
        images, labels, kind, size, names: as of `LabeledImages`.
        train_names: a list of the images to remember; by default no retrieval, or all of
            `train_images`.
        train_images, train_labels: where they are; by default where the others are.
        interval: epochs between two evaluations; the last epoch is evaluated too.
        batch_size: images at a time.
        overlays: images that are drawn, the first of the set.
        memory: cells to remember, at most, which bounds what retrieval costs: each cell of each
            image is compared with each of them.

    Raises:
        DataError: at construction, if images or labels are missing; before the training, if one
            of them cannot be used.
        ConfigError: at construction, if images to remember are scored too; before the training,
            if there are fewer images than processes.
    """

    priority = 95  # after the checkpoint (VERY_LOW, 90): a failure here must not cost the epoch

    def __init__(
        self,
        images: str | list[str],
        labels: str,
        kind: str,
        size: int = 320,
        names: str | None = None,
        train_names: str | None = None,
        train_images: str | list[str] | None = None,
        train_labels: str | None = None,
        interval: int = 10,
        batch_size: int = 16,
        overlays: int = 4,
        memory: int = 20_000,
    ):
        if interval < 1 or batch_size < 1 or overlays < 0 or memory < 1:
            raise ValueError(
                f"interval is {interval}, batch_size {batch_size}, overlays {overlays}, memory "
                f"{memory}; expected at least 1, 1, 0 and 1."
            )
        self.dataset = LabeledImages(images, labels, kind, size, names)
        self.train = None
        if train_names or train_images:
            train = train_images or images, train_labels or labels
            self.train = LabeledImages(*train, kind, size, train_names)
            advice = "Give `names` and `train_names` lists without an image in common."
            check_apart(self.train, self.dataset, advice)
        self.interval, self.batch_size = interval, batch_size
        self.overlays, self.memory = overlays, memory

    def before_train(self, runner) -> None:
        """Read every image and its labels once: a broken one would stop the first evaluation,
        hours from now."""
        for dataset in filter(None, (self.dataset, self.train)):
            for _ in batches(dataset, Reading(batch_size=self.batch_size), "checking"):
                pass

    def after_train_epoch(self, runner) -> None:
        """Evaluate every `interval` epochs and after the last."""
        if self.every_n_epochs(runner, self.interval) or self.is_last_train_epoch(runner):
            self.evaluate(runner)

    @torch.no_grad()
    def evaluate(self, runner) -> dict[str, float]:
        """Segment, retrieve, score, log and draw. Returns the scores, in percent."""
        model = unwrapped(runner.model)
        was_training = model.training
        model.eval()  # the teacher's running statistics, as in the protocol
        own_buffers = _take_first_buffers(model)
        reading = Reading(next(model.parameters()).device, self.batch_size)
        scores = self._segment(model, reading)
        if self.train is not None:
            scores |= self._retrieve(model, reading)
        if is_main_process():
            runner.visualizer.add_scalars(scores, step=runner.iter)
            for i in range(min(self.overlays, len(self.dataset))):
                drawn = _draw(model, self.dataset[i]["inputs"])
                runner.visualizer.add_image(f"groups_{i}", drawn, step=runner.iter)
        for buffer, value in zip(model.buffers(), own_buffers):
            buffer.copy_(value)
        model.train(was_training)
        runner.logger.info(
            f"Evaluation on {self.dataset.selection}: "
            + ", ".join(f"{name} {value:.4g}" for name, value in scores.items())
            + f" ({model.num_prototypes} prototypes)"
        )
        return scores

    def _segment(self, model, reading: Reading) -> dict[str, float]:
        found = unsupervised(
            lambda images: _scores(model, images),
            model.num_prototypes,
            self.dataset,
            list(MATCHINGS),
            reading,
        )
        scores = {}
        for mode, values in found["matchings"].items():
            for score in ("miou", "accuracy"):
                scores[f"unsupervised/{score}_{mode.replace('-', '_')}"] = values[score]
        return scores | {"unsupervised/prototypes_used": found["prototypes_used"]}

    def _retrieve(self, model, reading: Reading) -> dict[str, float]:
        found = retrieve(
            lambda images: model(_prepared(model, images), mode="tensor"),
            self.train,
            self.dataset,
            reading,
            most=self.memory,
        )
        return {f"retrieval/{score}": found[score] for score in ("miou", "accuracy")}


def _take_first_buffers(model) -> list[Tensor]:
    """Give every process the first one's buffers, which checkpoints hold; returns the own ones.

    Without synchronized batch norm each process has statistics of its own.
    """
    if world_size() == 1:
        return []
    own_buffers = [buffer.clone() for buffer in model.buffers()]
    for buffer in model.buffers():
        dist.broadcast(buffer, 0)
    return own_buffers


def _prepared(model, images_b3hw: Tensor) -> Tensor:
    return model.data_preprocessor(dict(inputs=images_b3hw))["inputs"]


def _scores(model, images_b3hw: Tensor) -> Tensor:
    """The teacher's scores, (b, k, h, w)."""
    samples = model.test_step(dict(inputs=images_b3hw))
    return torch.stack([sample.scores for sample in samples])


def _draw(model, image_3hw: Tensor):
    """The groups of one image painted over it, (h, w, 3) uint8."""
    (assignment_hw,) = upsampled_argmax(_scores(model, image_3hw[None]), *image_3hw.shape[1:])
    return overlay(image_3hw.permute(1, 2, 0).numpy(), assignment_hw.cpu().numpy())
