"""Hooks that look at a few fixed training images and do not change the training."""

from collections.abc import Callable

import torch
from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from PIL import Image
from torch import Tensor

from ..datasets.seeding import draw_seeds
from ..datasets.unlabeled_images import UnlabeledImages
from ..evaluation.labeled_images import center_square
from ..functional.checks import check_integers, check_numbers
from ..models.slotcon import SlotCon
from ..runtime.wrapping import unwrapped
from .precise_bn_hook import restored_random_state

BATCH = 8  # images that the teacher gets at a time


class TeacherSampleHook(Hook):
    """The base of hooks that look at the teacher on a sample of the training images.

    The sample is the same in every run with the same seed and images. Only the first process runs
    the teacher, in evaluation mode, in float32 and without torch.compile. Mode, statistics and all
    random states are as before afterwards. An error is one warning, and the training continues.
    Of a method without a teacher the encoder is looked at, see `handed_on`.

    Args:
        images: the size of the sample; all images if there are fewer.
        scale: side of the images for the teacher, in sides of the training's views. The center
            square of each image is used.
        seed: chooses the images.
    """

    priority = 95  # after the checkpoint (VERY_LOW, 90)
    purpose = "the teacher is not looked at"  # for the warning
    needs_groups = False  # only SlotCon has them

    def __init__(self, images: int, scale: float = 1, seed: int = 0) -> None:
        check_integers(1, images=images)
        check_numbers("(0, inf)", scale=scale)
        check_integers(0, seed=seed)
        self.images, self.scale, self.seed = images, scale, seed

    def before_train(self, runner) -> None:
        self.sample: Tensor | None = None
        self.warned = False
        model, dataset = unwrapped(runner.model), runner.train_dataloader.dataset
        known = SlotCon if self.needs_groups else BaseModel
        is_known = isinstance(model, known) and hasattr(model, "backbone")
        self.active = is_known and isinstance(dataset, UnlabeledImages)
        if not self.active:
            kinds = "SlotCon" if self.needs_groups else "a model with a backbone"
            found = f"{type(model).__name__} on {type(dataset).__name__}"
            runner.logger.info(f"{self.purpose}: it is for {kinds} on UnlabeledImages, not {found}")

    def look(self, runner, use: Callable[[BaseModel, Tensor], None]) -> None:
        """Call `use` with the model and the sample, uint8 RGB (n, 3, s, s) on the CPU."""
        if not self.active or not is_main_process():
            return
        model = unwrapped(runner.model)
        part = model.teacher if isinstance(model, SlotCon) else model.backbone
        modes = {one: one.training for one in part.modules()}
        try:
            with restored_random_state(), torch.no_grad():
                if self.sample is None:
                    self.sample = self._read(runner.train_dataloader.dataset)
                part.eval()
                with torch.compiler.set_stance("force_eager"):  # other sizes would be compiled anew
                    use(model, self.sample)
        except (
            Exception
        ) as error:  # of an encoder, a library or a disk: nothing that training needs
            if not self.warned:
                runner.logger.warning(f"{self.purpose}, and the training continues: {error}")
            self.warned = True
        finally:
            for one, was_training in modes.items():
                one.training = was_training

    def _read(self, dataset: UnlabeledImages) -> Tensor:
        side = round(self.scale * getattr(dataset.views, "size", 224))
        order = torch.randperm(len(dataset), generator=torch.Generator().manual_seed(self.seed))
        chosen = order[: self.images].tolist()
        seeds = draw_seeds(self.seed, 0, chosen).tolist()
        images = [dataset.read(*pair) for pair in zip(chosen, seeds)]
        return torch.stack([center_square(Image.fromarray(image), side) for image in images])


def in_batches(model: BaseModel, images_n3hw: Tensor, run: Callable[[Tensor], Tensor]) -> Tensor:
    """What `run` returns for the normalized images, a few at a time."""
    parts = images_n3hw.split(BATCH)
    return torch.cat([run(model.data_preprocessor(dict(inputs=part))["inputs"]) for part in parts])
