"""Label-free figures of the teacher's features, measured during a pretraining."""

from functools import partial
from itertools import count

from mmengine.model import BaseModel
from mmengine.runner import IterBasedTrainLoop
from torch import Tensor

from ..functional.checks import check_integers, check_numbers
from ..functional.spectrum import rank_figures
from ..models.handed_on import last_map
from .collapse_warnings import rank_warning
from .diagnostics_hook import is_logged
from .teacher_sample import TeacherSampleHook, in_batches

NAMES = ("train/rankme", "train/alpha_req")


class FeatureRankHook(TeacherSampleHook):
    """Logs RankMe and α-ReQ of the last map of the encoder that transfers use, the teacher's.

    The features are those of all cells of the maps of the sample's images, without labels, and the
    same in any number of processes. They are measured for the last line of the log in each of
    `points` equal parts of the training, and are only in these lines.

    Args:
        images, scale, seed: see `TeacherSampleHook`.
        points: how often they are measured.
        min_rank: warn when RankMe is below this.
    """

    priority = 55  # before LoggerHook (BELOW_NORMAL, 60)
    purpose = "RankMe and alpha_req of the features are not logged"

    def __init__(
        self,
        images: int = 64,
        scale: float = 1,
        seed: int = 0,
        points: int = 20,
        min_rank: float = 5.0,
    ) -> None:
        super().__init__(images, scale, seed)
        check_integers(1, points=points)
        check_numbers("[0, inf)", min_rank=min_rank)
        self.points, self.min_rank = points, min_rank

    def before_train_iter(self, runner, batch_idx: int, data_batch=None) -> None:
        for name in NAMES:  # or they would be in all later lines
            runner.message_hub.log_scalars.pop(name, None)

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
        if self._is_due(runner, batch_idx):

            def measure(model: BaseModel, images_n3hw: Tensor) -> None:
                found = measure_features(model, images_n3hw)
                for name, value in zip(NAMES, found, strict=True):
                    runner.message_hub.update_scalar(name, value)
                if found[0] < self.min_rank:
                    line = rank_warning(found[0], self.min_rank)
                    runner.logger.warning(f"Epoch {runner.epoch + 1}: {line}")

            self.look(runner, measure)

    def _is_due(self, runner, batch_idx: int) -> bool:
        """Whether this iteration's line is the last one in its part of the training."""
        if not is_logged(runner, batch_idx):
            return False
        length = len(runner.train_dataloader)
        if isinstance(runner.train_loop, IterBasedTrainLoop):
            length = runner.max_iters
        left = runner.max_iters - runner.iter
        ahead = (n for n in count(1) if n >= left or is_logged(runner, (batch_idx + n) % length))
        following = runner.iter + next(ahead)
        if following >= runner.max_iters:
            return True
        part = self.points * (runner.iter + 1) // runner.max_iters
        return self.points * (following + 1) // runner.max_iters > part


def measure_features(model: BaseModel, images_n3hw: Tensor) -> tuple[float, float]:
    """RankMe and α-ReQ of the cells of the encoder's last map; images are uint8."""
    maps_nchw = in_batches(model, images_n3hw, partial(last_map, model))
    return rank_figures(maps_nchw.permute(0, 2, 3, 1).flatten(0, 2))
