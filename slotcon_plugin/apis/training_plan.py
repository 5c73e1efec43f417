"""The plan of a training, printed by `--dry-run`, and its first step."""

import copy
import math
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.dataset import InfiniteSampler
from mmengine.hooks import CheckpointHook
from mmengine.logging import MMLogger
from mmengine.optim import OptimWrapperDict
from mmengine.runner import EpochBasedTrainLoop, Runner
from mmengine.visualization import Visualizer

from ..checkpoints.fill import check_state_dict
from ..checkpoints.left_out import LeftOut, check_initial_weights
from ..datasets.dataset_facts import dataset_facts
from ..datasets.samplers import EndlessSampler
from ..errors import ConfigError, DataError, TrainingStopped
from ..evaluation.limits import describe_limits, measure_encoder
from ..functional.collectives import rank, world_size
from ..hooks.teacher_sample import TeacherSampleHook
from ..hooks.weights_hook import WeightsHook, left_out_of
from ..models.slotcon import SlotCon
from ..runtime.config_options import type_name
from ..runtime.disk_space import check_space
from ..runtime.fit_machine import global_batch
from ..runtime.process_agreement import check_agreement
from ..runtime.wrapping import unwrapped
from ..transfer.annotations import check_annotations
from ..transfer.fill_backbone import backbone_hook, fill_backbone
from ..transfer.fit_transfer import is_transfer

FEW = 2  # images of the step without a GPU


def _rehearsal(at_end: ExitStack) -> type[Runner]:
    """A Runner that does not start programs to describe the machine, which takes a second."""

    class Rehearsal(Runner):
        def _log_env(self, env_cfg: dict) -> None:
            pass

        def build_visualizer(self, visualizer: dict | None = None) -> Visualizer:
            built = super().build_visualizer(visualizer)
            at_end.callback(built.close)  # or TensorBoard's thread would miss its folder
            return built

    return Rehearsal


@contextmanager
def rehearsal(cfg: Config, start: dict | None = None) -> Iterator[Runner]:
    """The Runner of a training, built and checked, in a temporary folder, which is removed.

    It logs to no logger and does not look at the teacher. For the arguments see `rehearse`. Replace
    `train_loop.run` before calling `train`.
    """
    cfg = copy.deepcopy(cfg)
    cfg.log_level = "WARNING"
    with tempfile.TemporaryDirectory(prefix="slotcon_dry_run_") as folder, ExitStack() as at_end:
        cfg.work_dir = folder
        cfg.experiment_name = Path(folder).name  # MMEngine keeps a logger for each name
        if cfg.get("visualizer"):  # loggers would start a run
            cfg.visualizer.vis_backends = [dict(type="LocalVisBackend")]
        runner = _rehearsal(at_end).from_cfg(cfg)
        runner._hooks = [one for one in runner.hooks if not isinstance(one, TeacherSampleHook)]
        check_start(runner, cfg, start)
        yield runner


def rehearse(cfg: Config, world_size: int, start: dict | None = None, step: bool = True) -> str:
    """Build everything for a training, take one step on one batch, and describe the training.

    The Runner is the training's, but works in a temporary folder, which is removed. Without a GPU
    the batch has at most FEW images of each process. If there is a validation, one image is
    evaluated too.

    Args:
        cfg: adapted to the machine; it is not changed.
        start: the content of the checkpoint that the training starts from, if any.
        step: take the step; otherwise only build.

    Returns a table, one row per line.
    """
    with rehearsal(cfg, start) as runner:
        rows = _plan(cfg, runner, world_size, start)
        runner.train_loop.run = lambda: rows.update(_first_step(runner) if step else {})
        runner.train()
        _build_evaluation(runner, cfg, step)
    return "\n".join(f"{name + ':':15}{value}" for name, value in rows.items())


def check_start(runner: Runner, cfg: Config, start: dict | None) -> None:
    """Check weights and images of a built training, before it starts."""
    if not any(isinstance(hook, WeightsHook) for hook in runner.hooks):
        runner.register_hook(WeightsHook())
    if cfg.get("resume"):
        check_state_dict(runner.model, start, cfg.load_from)
    else:
        check_initial_weights(runner.model, left_out_of(runner))
        if start is not None:
            check_state_dict(runner.model, start, cfg.load_from, left_out_of(runner))
    if is_transfer(cfg):
        lines = check_annotations(cfg, lambda name: getattr(runner, name).dataset)
        if rank() == 0:
            print("\n".join(lines), flush=True)
    loader = runner.train_dataloader
    if world_size() > 1:
        check_agreement(dataset_facts(loader.dataset), rank(), world_size())
    check_enough_images(loader)
    endless = isinstance(loader.sampler, InfiniteSampler | EndlessSampler)
    if endless and isinstance(runner.train_loop, EpochBasedTrainLoop):
        raise ConfigError(
            f"train_dataloader.sampler is an {type(loader.sampler).__name__}, with which an epoch "
            "never ends. Take train_cfg = dict(type='IterBasedTrainLoop', max_iters=N), or the "
            "sampler ImageSampler (of images without labels) or DefaultSampler."
        )


def check_enough_images(loader) -> None:
    """An epoch must have at least one iteration, or training would end at once."""
    if len(loader) == 0:
        raise DataError(
            f"The dataset has {len(loader.dataset)} images, fewer than one batch of "
            f"{loader.batch_size} a process: no step can be taken. Add images, or set with "
            "--cfg-options train_dataloader.batch_size=N, or +train_dataloader.sampler.rounds=N "
            "to use each image N times an epoch."
        )


def _precision(wrapper: dict) -> str:
    mixed = {"AmpOptimWrapper": wrapper.get("dtype") or "float16", "CpuAmpOptimWrapper": "bfloat16"}
    dtype = mixed.get(type_name(wrapper.get("type", "OptimWrapper")))
    return f"{dtype} mixed" if dtype else "float32"


def _plan(cfg: Config, runner: Runner, world_size: int, start: dict | None) -> dict[str, str]:
    model, loader = unwrapped(runner.model), runner.train_dataloader
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad) / 1e6
    accumulated = cfg.optim_wrapper.get("accumulative_counts", 1)
    batch = global_batch(cfg, world_size)
    levels = getattr(model, "prototypes_of_levels", {})
    prototypes = f", {' + '.join(map(str, levels.values()))} prototypes" * bool(levels)
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"
    left_out = left_out_of(runner)
    rows = {
        "images": f"{len(loader.dataset):,}",
        "model": f"{type(model).__name__}, {trained:.1f} M trained weights{prototypes}",
        "backbone": _backbone(cfg, model, start, left_out),
        "batch": f"{batch} = {world_size} processes x {cfg.train_dataloader.batch_size} images"
        + f" x {accumulated} accumulated" * (accumulated > 1),
        "length": _length(cfg, len(loader), accumulated, batch),
        "learning rate": f"{cfg.optim_wrapper.optimizer.lr:g} at the peak",
        "precision": _precision(cfg.optim_wrapper),
        "device": f"{world_size} x {device}",
        "resume": str(cfg.load_from) if cfg.get("resume") else "no",
        "work dir": cfg.work_dir,
        "disk": check_space(cfg, model, cfg.work_dir),
    }
    if getattr(model, "decoder", None) is not None:
        rows["decoder"] = f"{type_name(cfg.model.decoder.type)}; exports and transfers omit it"
    if left_out.names:
        rows["not loaded"] = "; ".join(left_out.lines())
    if isinstance(model, SlotCon):
        lines = describe_limits(model, cfg, measure_encoder(model))
        words = "; ".join(line.rstrip(".") for line in lines)
        rows["encoder"] = words or "trained as a whole, and read by all tools"
    return rows


def _backbone(cfg: Config, model: torch.nn.Module, start: dict | None, left_out: LeftOut) -> str:
    hook, source = backbone_hook(cfg), "random weights"
    if start is not None:
        source = "from the checkpoint"
    elif hook is not None:
        source = fill_backbone(model, cfg.model, hook.get("source"), left_out)
    if not cfg.get("resume"):
        left_out.check_used()
    return source.removeprefix("backbone: ")


def _length(cfg: Config, iterations_per_epoch: int, accumulated: int, batch: int) -> str:
    if cfg.train_cfg.get("max_iters") is not None:
        iterations = cfg.train_cfg.max_iters
        words = f"{iterations:,} iterations"
    else:
        epochs = cfg.train_cfg.max_epochs
        iterations = epochs * iterations_per_epoch
        words = f"{epochs} epochs of {iterations_per_epoch:,} iterations"
    steps = -(-iterations // accumulated)
    words += f": {steps:,} steps, {steps * batch:,} images seen"
    if cfg.get("val_dataloader"):
        words += f", evaluation every {cfg.train_cfg.get('val_interval', 1):,}"
    return words


def _first_step(runner: Runner) -> dict[str, str]:
    """Take a training step as MMEngine's loops do, without a checkpoint; describe it."""
    if runner.iter >= runner.max_iters:
        return {"first step": f"none: all {runner.max_iters:,} iterations are done"}
    loader = runner.train_dataloader
    drawn = next(iter(loader.batch_sampler))
    used = drawn if torch.cuda.is_available() else drawn[:FEW]
    batch = loader.collate_fn([loader.dataset[index] for index in used])
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
    words = f"{listed} ({len(used)} of {len(drawn)} images, {seconds:.1f} s{memory})"
    return {"first step": words}


def _build_evaluation(runner: Runner, cfg: Config, step: bool) -> None:
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
