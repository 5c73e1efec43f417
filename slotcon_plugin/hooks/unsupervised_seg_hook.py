"""Segmentation without training while pretraining runs: it shows a collapse or a plateau early."""

import torch
import torch.distributed as dist
from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from torch import Tensor

from ..evaluation.batches import Reading, batches, check_apart
from ..evaluation.labeled_images import LabeledImages
from ..evaluation.retrieval import retrieve
from ..evaluation.unsupervised_segmentation import MATCHINGS, unsupervised
from ..functional.checks import check_integers
from ..functional.collectives import world_size
from ..functional.dense import upsampled_argmax
from ..runtime.wrapping import unwrapped
from ..visualization.painting import overlay


class UnsupervisedSegHook(Hook):
    """Scores the teacher on a small labeled dataset, and draws its groups.

    Unsupervised segmentation measures whether the prototypes coincide with classes; dense
    retrieval, if `train_names` or `train_images` is given, whether the nearest cells of the
    encoder's feature map are of the same class. Labels are used for scores only: training takes
    the same steps with and without the hook. The scores are written to the log and, as
    `unsupervised/…` and `retrieval/…`, to TensorBoard.

    Args:
        images, labels, kind, size, names: see `LabeledImages`.
        train_names: a list of the images whose cells are retrieved; by default no retrieval, or
            all of `train_images`.
        train_images, train_labels: their folders; by default `images` and `labels`.
        interval: epochs between two evaluations; the last epoch is evaluated too.
        batch_size: images at a time.
        overlays: number of images that are drawn, the first of the dataset.
        memory: maximum number of cells to retrieve from. Each cell of each image is compared with
            each of them.

    Raises:
        DataError: at construction, if images or labels are missing; before the training, if one
            of them cannot be used.
        ConfigError: at construction, if the two datasets share images; before the training, if
            there are fewer images than processes.
    """

    priority = 95  # after the checkpoint (VERY_LOW, 90), so that an error here does not lose it

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
    ) -> None:
        check_integers(1, interval=interval, batch_size=batch_size, memory=memory)
        check_integers(0, overlays=overlays)
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
        """Read every image and its labels once, to find a broken one before hours of training."""
        for dataset in filter(None, (self.dataset, self.train)):
            for _ in batches(dataset, Reading(batch_size=self.batch_size), "checking"):
                pass

    def after_train_epoch(self, runner) -> None:
        """Evaluate every `interval` epochs and after the last."""
        if self.every_n_epochs(runner, self.interval) or self.is_last_train_epoch(runner):
            self.evaluate(runner)

    @torch.no_grad()
    def evaluate(self, runner) -> dict[str, float]:
        """Compute, log and return the scores, in percent; draw the groups."""
        model = unwrapped(runner.model)
        was_training = model.training
        model.eval()  # with the teacher's running statistics, as tools/evaluate.py
        own_buffers = _use_first_buffers(model)
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
        listed = ", ".join(f"{name} {value:.4g}" for name, value in scores.items())
        runner.logger.info(
            f"Evaluation on {self.dataset.selection}: {listed} ({model.num_prototypes} prototypes)"
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
        scores = {
            f"unsupervised/{score}_{mode.replace('-', '_')}": values[score]
            for mode, values in found["matchings"].items()
            for score in ("miou", "accuracy")
        }
        return scores | {"unsupervised/prototypes_used": found["prototypes_used"]}

    def _retrieve(self, model, reading: Reading) -> dict[str, float]:
        def encode(images_b3hw: Tensor) -> Tensor:
            inputs = model.data_preprocessor(dict(inputs=images_b3hw))["inputs"]
            return model(inputs, mode="tensor")

        found = retrieve(encode, self.train, self.dataset, reading, most=self.memory)
        return {f"retrieval/{score}": found[score] for score in ("miou", "accuracy")}


def _use_first_buffers(model) -> list[Tensor]:
    """Copy the first process's buffers, which checkpoints contain, to all processes.

    Without synchronized batch norm each process has statistics of its own, which are returned.
    """
    if world_size() == 1:
        return []
    own_buffers = [buffer.clone() for buffer in model.buffers()]
    for buffer in model.buffers():
        dist.broadcast(buffer, 0)
    return own_buffers


def _scores(model, images_b3hw: Tensor) -> Tensor:
    """The teacher's scores, (b, k, h, w)."""
    samples = model.test_step(dict(inputs=images_b3hw))
    return torch.stack([sample.scores for sample in samples])


def _draw(model, image_3hw: Tensor):
    """The groups of one image painted over it, (h, w, 3) uint8."""
    (assignment_hw,) = upsampled_argmax(_scores(model, image_3hw[None]), *image_3hw.shape[1:])
    return overlay(image_3hw.permute(1, 2, 0).numpy(), assignment_hw.cpu().numpy())
