"""The first step of a training, and the first evaluated image, before the training."""

import math
import time

import torch
from mmengine.config import Config
from mmengine.hooks import CheckpointHook
from mmengine.logging import MMLogger
from mmengine.optim import OptimWrapperDict
from mmengine.runner import Runner

from ..errors import DataError, TrainingStopped
from ..models.slotcon import SlotCon
from ..models.training_cost import TrainingCost, training_cost
from ..runtime.wrapping import unwrapped

FEW = 2  # images of the step without a GPU


def draw_batch(runner: Runner) -> tuple[dict, int]:
    """The first batch, without a GPU its first FEW images; and the number of all its images."""
    loader = runner.train_dataloader
    drawn = next(iter(loader.batch_sampler))
    used = drawn if torch.cuda.is_available() else drawn[:FEW]
    return loader.collate_fn([loader.dataset[index] for index in used]), len(drawn)


def batch_cost(runner: Runner, batch: dict) -> TrainingCost | None:
    """What a step with the config's batch size costs, from a batch of any number of images."""
    runner.model.train()
    batch_size = runner.cfg.train_dataloader.batch_size
    model, declared = unwrapped(runner.model), None
    if isinstance(model, SlotCon):  # without a hook that moves the teacher, the step is refused
        declared = model.teacher_moves
        model.expect_teacher_moves()
    try:
        return training_cost(runner.model, runner.optim_wrapper, batch, batch_size)
    finally:
        if declared is not None:
            model.teacher_moves = declared


def first_step(runner: Runner, batch: dict, drawn: int) -> tuple[str, int, float]:
    """Take a training step as MMEngine's loops do, without a checkpoint.

    Returns a description with the losses, the number of its images and its seconds. The batch is
    that of `draw_batch`.
    """
    if runner.iter >= runner.max_iters:
        return f"none: all {runner.max_iters:,} iterations are done", 0, 0.0
    used = min(drawn, drawn if torch.cuda.is_available() else FEW)
    for place in ("before_train", "before_train_epoch"):
        runner.call_hook(place)
    runner.model.train()
    started = time.monotonic()
    runner.call_hook("before_train_iter", batch_idx=0, data_batch=batch)
    wrapper = runner.optim_wrapper
    for one in wrapper.values() if isinstance(wrapper, OptimWrapperDict) else [wrapper]:
        one._accumulative_counts = 1  # the optimizer's step comes at once
    outputs = runner.model.train_step(batch, optim_wrapper=runner.optim_wrapper)
    found = {name: torch.as_tensor(loss) for name, loss in outputs.items() if "loss" in name}
    losses = {name: loss.item() for name, loss in found.items()}  # waits for the GPU
    seconds = time.monotonic() - started
    for hook in runner.hooks:
        if not isinstance(hook, CheckpointHook):
            hook.after_train_iter(runner, batch_idx=0, data_batch=batch, outputs=dict(outputs))
    listed = ", ".join(f"{name} {loss:.4g}" for name, loss in losses.items())
    if not all(map(math.isfinite, losses.values())):
        raise TrainingStopped(
            f"A loss of the first step is not finite: {listed}. Check mean and std of "
            "model.data_preprocessor, the images and the precision (--amp off)."
        )
    memory = ""
    if torch.cuda.is_available():
        memory = f", {torch.cuda.max_memory_allocated() / 2**30:.1f} GiB of the GPU"
    words = f"{listed} ({used} of {drawn} images, {seconds:.1f} s{memory})"
    return words, used, seconds


def build_evaluation(runner: Runner, cfg: Config, step: bool) -> None:
    """Build what is evaluated during and after the training, and evaluate one image of it."""
    if loop := runner.val_loop:
        loader = loop.dataloader
        if len(loader) == 0:
            raise DataError("The config's val_dataloader has no image to evaluate.")
        if step:
            batch = loader.collate_fn([loader.dataset[0]])
            runner.model.eval()
            with torch.no_grad():
                samples = runner.model.val_step(batch)
            loop.evaluator.process(data_samples=samples, data_batch=batch)
            logger = MMLogger.get_current_instance()
            logger.setLevel("CRITICAL")  # scores of one image mean nothing
            loop.evaluator.evaluate(len(samples))
    parts = ("dataloader", "evaluator")
    differ = any(cfg.get(f"val_{part}") != cfg.get(f"test_{part}") for part in parts)
    if differ and cfg.get("test_dataloader"):
        _ = runner.test_loop  # is built
