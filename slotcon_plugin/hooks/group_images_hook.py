"""Images with their groups, drawn during a pretraining."""

from pathlib import Path

import numpy as np
import torch.nn.functional as F
from mmengine.runner import IterBasedTrainLoop
from mmengine.visualization import LocalVisBackend
from PIL import Image
from torch import Tensor

from ..functional.dense import upsampled_argmax
from ..models.slotcon import SlotCon
from ..runtime.atomic_files import write_atomically
from ..runtime.work_dir import GROUPS
from ..visualization.contact_sheet import draw_sheet, png_bytes
from .teacher_sample import TeacherSampleHook, in_batches

SIDE = 160  # of an image in the file, pixels
MARGIN = 32  # of reflected pixels around an image for the teacher
FIRST_DIGITS = ("1", "2", "5")


class GroupImagesHook(TeacherSampleHook):
    """Draws some training images with the teacher's groups at the start, at epochs 1, 2, 5, 10, 20,
    50, … and at the end; at iterations in a training that counts them.

    The files are `groups/epoch_N.png` in the work dir, about 0.4 MB each; TensorBoard and other
    loggers get the same images as `groups`. A prototype always has the same color. With a decoder,
    the groups are those of the largest map.

    Args:
        images, scale, seed: see `TeacherSampleHook`.
    """

    purpose = "no images of groups are drawn"
    needs_groups = True

    def __init__(self, images: int = 6, scale: float = 2, seed: int = 0) -> None:
        super().__init__(images, scale, seed)

    def before_train(self, runner) -> None:
        super().before_train(runner)
        self.unit = "iter" if isinstance(runner.train_loop, IterBasedTrainLoop) else "epoch"
        if runner.iter == 0:
            self._draw(runner, 0)

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
        if self.unit == "iter":
            self._draw_if_due(runner, runner.iter + 1, runner.max_iters)

    def after_train_epoch(self, runner) -> None:
        if self.unit == "epoch":
            self._draw_if_due(runner, runner.epoch + 1, runner.max_epochs)

    def _draw_if_due(self, runner, done: int, length: int) -> None:
        if done == length or str(done).rstrip("0") in FIRST_DIGITS:
            self._draw(runner, done)

    def _draw(self, runner, done: int) -> None:
        def draw(model: SlotCon, images_n3hw: Tensor) -> None:
            sheet = draw_sample(model, images_n3hw, f"{self.unit} {done}")
            path = Path(runner.work_dir, GROUPS, f"{self.unit}_{done}.png")
            write_atomically(png_bytes(sheet), path)
            step = runner.iter if self.unit == "epoch" else done
            for backend in runner.visualizer._vis_backends.values():  # no public name
                if not isinstance(backend, LocalVisBackend):  # which would write it once more
                    backend.add_image("groups", np.asarray(sheet), step)

        self.look(runner, draw)


def draw_sample(model: SlotCon, images_n3hw: Tensor, name: str) -> Image.Image:
    """Images, uint8 (n, 3, s, s), and below each its groups on the level with the largest map.

    `name` is written beside the groups.
    """
    margin = min(MARGIN, images_n3hw.shape[3] - 1)
    whole = round(SIDE * (1 + 2 * margin / images_n3hw.shape[3]))
    inside = slice((whole - SIDE) // 2, (whole - SIDE) // 2 + SIDE)

    def best(pixels_b3hw: Tensor) -> Tensor:
        # Convolutions pad the borders with zeros, which would be groups of their own.
        views = model.teacher(F.pad(pixels_b3hw, [margin] * 4, mode="reflect"))
        largest = max(views, key=lambda view: view.scores.shape[2:].numel())
        return upsampled_argmax(largest.scores, whole, whole)[:, inside, inside]

    assignments = in_batches(model, images_n3hw, best).cpu().numpy()
    small = F.interpolate(images_n3hw, (SIDE, SIDE), mode="bilinear", antialias=True)
    images = small.permute(0, 2, 3, 1).numpy()
    return draw_sheet({name: list(zip(images, assignments, strict=True))}, SIDE, gap=4)
