"""Moves the teacher."""

from math import ceil

from ..runtime.wrapping import unwrapped
from .weights_hook import WeightsHook


class TeacherHook(WeightsHook):
    """Moves the teacher once per optimizer step, before its first forward pass.

    MMEngine's `EMAHook` moves it after the step, which is another method. With gradient
    accumulation a step is `accumulative_counts` iterations.
    """

    priority = "NORMAL"

    def before_train(self, runner) -> None:
        """Declare the moves: a resume may begin within an optimizer step, after its move."""
        super().before_train(runner)
        unwrapped(runner.model).expect_teacher_moves()

    def before_train_iter(self, runner, batch_idx: int, data_batch=None) -> None:
        accumulation = runner.optim_wrapper._accumulative_counts  # MMEngine has no public name
        if runner.iter % accumulation:
            return
        step, total_steps = runner.iter // accumulation, ceil(runner.max_iters / accumulation)
        momentum = unwrapped(runner.model).update_teacher(step, total_steps)
        runner.message_hub.update_scalar("train/teacher_momentum", momentum)
