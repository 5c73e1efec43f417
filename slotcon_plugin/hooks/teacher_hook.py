"""Moves the teacher, and records what a checkpoint's encoder is."""

from math import ceil

from ..checkpoints.metadata import MEASURED
from ..evaluation.limits import describe_limits, measure_encoder
from ..runtime.wrapping import unwrapped
from .weights_hook import WeightsHook


class TeacherHook(WeightsHook):
    """Moves the teacher once per optimizer step, before its first forward pass.

    MMEngine's `EMAHook` moves it after the step, which is another method. With gradient
    accumulation a step is `accumulative_counts` iterations. Methods other than SlotCon have no
    teacher that it moves.

    The encoder's strides and dilations, which its weights do not show, are recorded in each
    checkpoint's `meta`, and what its checkpoints cannot be used for is logged.
    """

    priority = "NORMAL"
    measured: dict | None = None  # see `measure_encoder`

    def before_train(self, runner) -> None:
        """Declare the moves: a resume may begin within an optimizer step, after its move."""
        super().before_train(runner)
        model = unwrapped(runner.model)
        self.moves = hasattr(model, "update_teacher")
        if self.moves:
            model.expect_teacher_moves()
        else:
            runner.logger.info(f"{type(model).__name__} has no teacher that TeacherHook moves")
        if hasattr(model, "backbone"):
            self.measured = measure_encoder(model)
            for line in describe_limits(model, runner.cfg, self.measured):
                runner.logger.warning(line)

    def before_save_checkpoint(self, runner, checkpoint: dict) -> None:
        """Record strides and dilations of the encoder."""
        super().before_save_checkpoint(runner, checkpoint)
        if self.measured is not None:
            checkpoint["meta"][MEASURED] = self.measured

    def before_train_iter(self, runner, batch_idx: int, data_batch=None) -> None:
        accumulation = runner.optim_wrapper._accumulative_counts  # MMEngine has no public name
        if not self.moves or runner.iter % accumulation:
            return
        step, total_steps = runner.iter // accumulation, ceil(runner.max_iters / accumulation)
        momentum = unwrapped(runner.model).update_teacher(step, total_steps)
        runner.message_hub.update_scalar("train/teacher_momentum", momentum)
