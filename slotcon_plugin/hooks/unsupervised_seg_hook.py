"""Segmentation scores during pretraining, so that a collapse or a plateau is seen early."""

from functools import partial

import torch
from mmengine.dist import broadcast, is_main_process
from mmengine.hooks import Hook
from torch import Tensor

from ..evaluation.batches import LoaderOptions, batches, check_disjoint
from ..evaluation.labeled_images import LabeledImages
from ..evaluation.retrieval import retrieve
from ..evaluation.unsupervised_segmentation import unsupervised
from ..functional.checks import check_integers
from ..functional.dense import upsampled_argmax
from ..models.slotcon import SlotCon
from ..runtime.wrapping import unwrapped
from ..visualization.painting import overlay


class UnsupervisedSegHook(Hook):
    """Score the teacher on a small labeled dataset, and draw its groups.

    Scores unsupervised segmentation (do the prototypes agree with classes?) and, if `train_names`
    or `train_images` is given, dense retrieval (are the most similar cells of the encoder's map of
    the same class?). Training takes the same steps without the hook. Scores are written to the log
    and, as `unsupervised/…` and `retrieval/…`, to TensorBoard.

    Args:
        images, labels, kind, size, names: see `LabeledImages`.
        train_names: a list of the images for the memory of the retrieval; by default all of
            `train_images`.
        train_images, train_labels: by default `images` and `labels`.
        interval: epochs between two evaluations; the last epoch is evaluated too.
        overlays: the number of images that are drawn, the first ones of the dataset.
        memory: the largest number of cells in the memory, to which the retrieval's cost is
            proportional.
        level: of the groups, with a decoder: "encoder" or a number; None: 0, the finest. The
            retrieval's map is always the encoder's.
    """

    priority = 95  # after the checkpoint (VERY_LOW, 90): an error here must not lose the epoch

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
        level: str | int | None = None,
    ):
        check_integers(1, interval=interval, batch_size=batch_size, memory=memory)
        check_integers(0, overlays=overlays)
        self.dataset = LabeledImages(images, labels, kind, size, names)
        self.train = None
        if train_names or train_images:
            train = train_images or images, train_labels or labels
            self.train = LabeledImages(*train, kind, size, train_names)
            advice = "Give `names` and `train_names` lists without an image in common."
            check_disjoint(self.train, self.dataset, advice)
        self.interval, self.batch_size = interval, batch_size
        self.overlays, self.memory, self.level = overlays, memory, level

    def before_train(self, runner) -> None:
        """Read all images and labels once: a broken one would stop the evaluation hours later."""
        for dataset in filter(None, (self.dataset, self.train)):
            for _ in batches(dataset, LoaderOptions(batch_size=self.batch_size), "checking"):
                pass
        model = unwrapped(runner.model)
        self.active = isinstance(model, SlotCon)
        if self.active:
            model.position(self.level)  # an error if there is no such level
        else:
            name = type(model).__name__
            runner.logger.info(f"no scores of groups are logged: they are SlotCon's, not {name}'s")

    def after_train_epoch(self, runner) -> None:
        due = self.every_n_epochs(runner, self.interval) or self.is_last_train_epoch(runner)
        if due and self.active:
            self.evaluate(runner)

    @torch.no_grad()
    def evaluate(self, runner) -> dict[str, float]:
        """Segment, retrieve, score, log and draw. Returns the scores, in percent."""
        model = unwrapped(runner.model)
        was_training = model.training
        model.eval()  # the teacher's running statistics, as in the protocol
        # Without synchronized batch norm each process has its own statistics: use the first one's,
        # which checkpoints contain.
        own_buffers = [buffer.clone() for buffer in model.buffers()]
        for buffer in model.buffers():
            broadcast(buffer)
        scores = self._score(model)
        if is_main_process():
            runner.visualizer.add_scalars(scores, step=runner.iter)
            for i in range(min(self.overlays, len(self.dataset))):
                image_3hw = self.dataset[i]["inputs"]
                maps_bkhw = self._score_maps(model, image_3hw[None])
                (groups_hw,) = upsampled_argmax(maps_bkhw, *image_3hw.shape[1:])
                drawn = overlay(image_3hw.permute(1, 2, 0).numpy(), groups_hw.cpu().numpy())
                runner.visualizer.add_image(f"groups_{i}", drawn, step=runner.iter)
        for buffer, value in zip(model.buffers(), own_buffers):
            buffer.copy_(value)
        model.train(was_training)
        listed = ", ".join(f"{name} {value:.4g}" for name, value in scores.items())
        count = model.levels[model.position(self.level)].head.num_prototypes
        runner.logger.info(f"Evaluation on {self.dataset.selection}: {listed} ({count} prototypes)")
        return scores

    def _score(self, model) -> dict[str, float]:
        def encode(images_b3hw: Tensor) -> Tensor:
            return model(model.data_preprocessor(dict(inputs=images_b3hw))["inputs"])

        loader = LoaderOptions(next(model.parameters()).device, self.batch_size)
        found = unsupervised(partial(self._score_maps, model), None, self.dataset, loader)
        scores = {
            f"unsupervised/{score}_{matching.replace('-', '_')}": values[score]
            for matching, values in found["matchings"].items()
            for score in ("miou", "accuracy")
        }
        scores["unsupervised/prototypes_used"] = found["prototypes_used"]
        if self.train is not None:
            found = retrieve(encode, self.train, self.dataset, loader, memory=self.memory)
            scores |= {f"retrieval/{score}": found[score] for score in ("miou", "accuracy")}
        return scores

    def _score_maps(self, model, images_b3hw: Tensor) -> Tensor:
        """The teacher's scores, (b, k, h, w)."""
        inputs = model.data_preprocessor(dict(inputs=images_b3hw))["inputs"]
        return torch.stack([sample.scores for sample in model.predict(inputs, self.level)])
