"""The plan of a training, printed by `--dry-run`, and its first step."""

import copy
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path
from typing import NamedTuple

import torch
from mmengine.config import Config
from mmengine.dataset import InfiniteSampler
from mmengine.registry import VISBACKENDS
from mmengine.runner import EpochBasedTrainLoop, Runner
from mmengine.visualization import LocalVisBackend, TensorboardVisBackend, Visualizer
from torch.utils.data import DataLoader
from torch.utils.flop_counter import FlopCounterMode

from ..checkpoints.encoder import ALL
from ..checkpoints.fill import check_state_dict
from ..checkpoints.left_out import LeftOut, check_initial_weights
from ..datasets.dataset_facts import dataset_facts
from ..datasets.samplers import EndlessSampler
from ..errors import ConfigError, DataError
from ..evaluation.limits import describe_limits, measure_encoder
from ..functional.collectives import rank, world_size
from ..hooks.diagnostics_hook import DiagnosticsHook
from ..hooks.teacher_sample import TeacherSampleHook
from ..hooks.weights_hook import WeightsHook, left_out_of
from ..models.training_cost import TrainingCost
from ..runtime.amp import precision_of
from ..runtime.config_options import find_class
from ..runtime.disk_space import check_space
from ..runtime.fit_machine import global_batch
from ..runtime.process_agreement import check_agreement
from ..runtime.wrapping import unwrapped
from ..transfer.annotations import check_annotations
from ..transfer.fill_backbone import backbone_hook, fill_backbone
from ..transfer.fit_transfer import is_transfer
from .first_step import batch_cost, build_evaluation, draw_batch, first_step


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


def _starts_a_run(backend: dict) -> bool:
    """Whether a logger writes outside the work dir, as to a server."""
    kind = find_class(backend.get("type"), VISBACKENDS)  # None: the Runner says what is wrong
    return isinstance(kind, type) and not issubclass(kind, LocalVisBackend | TensorboardVisBackend)


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
        if cfg.get("visualizer"):
            backends = cfg.visualizer.get("vis_backends") or []
            cfg.visualizer.vis_backends = [one for one in backends if not _starts_a_run(one)]
        runner = _rehearsal(at_end).from_cfg(cfg)
        runner._hooks = [one for one in runner.hooks if not isinstance(one, TeacherSampleHook)]
        for hook in runner.hooks:
            if isinstance(hook, DiagnosticsHook):
                hook.estimate = False
        check_start(runner, cfg, start)
        yield runner


class Rehearsed(NamedTuple):
    """A training that was built, and its first step."""

    rows: dict[str, str]  # of the plan
    cost: TrainingCost | None  # of a whole batch; None if it cannot be found out
    iterations: int  # of the whole training
    images: int = 0  # of the first step; 0 if it was not taken
    seconds: float = 0.0  # of the first step
    flops: float | None = None  # of an image; None if they were not counted


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
    return table(rehearse_training(cfg, world_size, start, step).rows)


def table(rows: dict[str, str]) -> str:
    """One row per line."""
    return "\n".join(f"{name + ':':15}{value}" for name, value in rows.items())


def rehearse_training(
    cfg: Config, processes: int, start: dict | None = None, step: bool = True
) -> Rehearsed:
    """See `rehearse`; `processes` are those of the training that is planned."""
    found = []
    with rehearsal(cfg, start) as runner:
        rows = _plan(cfg, runner, processes, start)

        def run() -> None:
            batch, drawn = draw_batch(runner)
            cost = batch_cost(runner, batch)
            rows["memory"] = cost.describe() if cost else "cannot be estimated for this model"
            if cost and cost.device == "GPU" and not cost.fits:
                raise ConfigError(f"The training does not fit: {rows['memory']}.")
            flops = cost.step.flops / cost.batch_size if cost and cost.step.whole else None
            iterations, _ = training_length(cfg, runner.train_dataloader, processes)
            images, seconds = 0, 0.0
            if step:
                with FlopCounterMode(display=False) if flops is None else nullcontext() as counted:
                    rows["first step"], images, seconds = first_step(runner, batch, drawn)
                if counted and images:
                    flops = counted.get_total_flops() / images
            found.append(Rehearsed(rows, cost, iterations, images, seconds, flops))

        runner.train_loop.run = run
        runner.train()
        build_evaluation(runner, cfg, step)
    return found[0]


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
    check_queue(unwrapped(runner.model), loader.batch_size)
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


def check_queue(model: torch.nn.Module, batch_size: int | None) -> None:
    """MoCo's and DenseCL's queue must hold a whole number of batches of all processes."""
    length, batch = getattr(model, "queue_len", None), (batch_size or 1) * world_size()
    if length and length % batch:
        raise ConfigError(
            f"model.queue_len is {length}, expected a multiple of the batch of all processes, "
            f"{batch}: set --cfg-options model.queue_len={-(-length // batch) * batch}."
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


def _plan(cfg: Config, runner: Runner, processes: int, start: dict | None) -> dict[str, str]:
    model, loader = unwrapped(runner.model), runner.train_dataloader
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad) / 1e6
    accumulated = cfg.optim_wrapper.get("accumulative_counts", 1)
    batch = global_batch(cfg, processes)
    levels = getattr(model, "prototypes_of_levels", {})
    prototypes = f", {' + '.join(map(str, levels.values()))} prototypes" * bool(levels)
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"
    left_out = left_out_of(runner)
    rows = {
        "images": f"{len(loader.dataset):,}",
        "model": f"{type(model).__name__}, {trained:.1f} M trained weights{prototypes}",
        "backbone": _backbone(cfg, model, start, left_out),
        "batch": f"{batch} = {processes} processes x {cfg.train_dataloader.batch_size} images"
        + f" x {accumulated} accumulated" * (accumulated > 1),
        "length": _length(cfg, loader, processes),
        "learning rate": f"{cfg.optim_wrapper.optimizer.lr:g} at the peak",
        "precision": precision_of(cfg.optim_wrapper).replace("16", "16 mixed"),
        "device": f"{processes} x {device}",
        "resume": str(cfg.load_from) if cfg.get("resume") else "no",
        "work dir": cfg.work_dir,
        "disk": check_space(cfg, model, cfg.work_dir),
    }
    if left_out.names:
        rows["not loaded"] = "; ".join(left_out.lines())
    if not is_transfer(cfg) and hasattr(model, "backbone"):
        lines = describe_limits(model, cfg, measure_encoder(model))
        words = "; ".join(line.rstrip(".") for line in lines)
        rows["encoder"] = words or "trained as a whole, and read by all tools"
    return rows


def _backbone(cfg: Config, model: torch.nn.Module, start: dict | None, left_out: LeftOut) -> str:
    hook, source = backbone_hook(cfg), "random weights"
    if start is not None:
        source = "from the checkpoint"
    elif hook is not None:
        parts = hook.get("parts", ALL)
        source = fill_backbone(model, cfg.model, hook.get("source"), left_out, parts)
    if not cfg.get("resume"):
        left_out.check_used()
    return source.removeprefix("backbone: ").replace("\n", "; ")


def training_length(cfg: Config, loader: DataLoader, processes: int) -> tuple[int, int | None]:
    """Iterations of a whole training of so many processes, and those of an epoch, if it has any.

    `loader` is that of this process, one of `world_size()`.
    """
    if cfg.train_cfg.get("max_iters") is not None:
        return cfg.train_cfg.max_iters, None
    epoch = len(loader)
    if processes != world_size():  # `ImageSampler` rounds up
        images = -(-len(loader.sampler) * world_size() // processes)
        epoch = -(-(images - loader.drop_last * (loader.batch_size - 1)) // loader.batch_size)
    if epoch <= 0:
        raise DataError(
            f"The dataset has {len(loader.dataset)} images, fewer than one batch of "
            f"{loader.batch_size} for each of {processes} processes: no step can be taken."
        )
    return cfg.train_cfg.max_epochs * epoch, epoch


def _length(cfg: Config, loader: DataLoader, processes: int) -> str:
    iterations, epoch = training_length(cfg, loader, processes)
    words = f"{iterations:,} iterations"
    if epoch is not None:
        words = f"{cfg.train_cfg.max_epochs} epochs of {epoch:,} iterations"
    steps = -(-iterations // cfg.optim_wrapper.get("accumulative_counts", 1))
    words += f": {steps:,} steps, {steps * global_batch(cfg, processes):,} images seen"
    if cfg.get("val_dataloader"):
        words += f", evaluation every {cfg.train_cfg.get('val_interval', 1):,}"
    return words
