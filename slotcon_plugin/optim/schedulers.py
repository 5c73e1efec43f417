"""The learning-rate schedule for MMEngine; the formula is in `functional.schedules`."""

from mmengine.optim.scheduler.param_scheduler import INF, _ParamScheduler

from ..functional.checks import check_numbers
from ..functional.schedules import learning_rate


class WarmupCosineLR(_ParamScheduler):
    """Linear warm-up to the optimizer's learning rate, then cosine decay, over the whole training.

    In a config, in epochs: `dict(type='WarmupCosineLR', warmup=5, by_epoch=True,
    convert_to_iter_based=True)`; in iterations: `dict(type='WarmupCosineLR', warmup=1000,
    by_epoch=False)`.

    Args:
        warmup: length of the warm-up, in iterations (in epochs where the config says so).
        final: learning rate at the end, at least 0; of a group with `lr_scale`, a factor of it.
        start_divisor: the first step has peak / start_divisor, positive.
        end: last step, exclusive; by default the training's.
        last_step, by_epoch, verbose: as in MMEngine, whose runner knows the default of `by_epoch`.
    """

    def __init__(
        self,
        optimizer,
        warmup: int,
        final: float = 1e-6,
        start_divisor: float = 100,
        end: int = INF,
        last_step: int = -1,
        by_epoch: bool = True,
        verbose: bool = False,
    ) -> None:
        check_numbers("[0, inf)", warmup=warmup, final=final)
        check_numbers("(0, inf)", start_divisor=start_divisor, end=end)
        if warmup > end:
            raise ValueError(
                f"warmup is {warmup:g}, expected at most the length of the schedule, {end}: "
                "shorten param_scheduler.warmup or lengthen train_cfg.max_epochs."
            )
        self.warmup, self.final, self.start_divisor = warmup, final, start_divisor
        super().__init__(
            optimizer, "lr", end=end, last_step=last_step, by_epoch=by_epoch, verbose=verbose
        )

    @classmethod
    def build_iter_from_epoch(
        cls, *args, warmup: int, epoch_length: int, end: int = INF, by_epoch=True, **options
    ):
        """Build the per-iteration schedule from lengths in epochs."""
        check_numbers("[0, inf)", warmup=warmup, end=end)
        end = end if end == INF else end * epoch_length
        return cls(*args, warmup=warmup * epoch_length, end=end, by_epoch=False, **options)

    def _get_value(self) -> list[float]:
        step, end, warmup = self.last_step, self.end, self.warmup
        finals = [self.final * g.get("lr_scale", 1.0) for g in self.optimizer.param_groups]
        return [
            learning_rate(step, end, warmup, peak, final, self.start_divisor)
            for peak, final in zip(self.base_values, finals, strict=True)
        ]
