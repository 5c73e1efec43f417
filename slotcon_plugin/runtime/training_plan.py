"""What a training is going to do, before it does it."""

import torch
from mmengine.config import Config
from mmengine.registry import MODELS
from mmengine.runner import Runner

from ..errors import DataError
from .launch import global_batch


def describe_plan(cfg: Config, world_size: int) -> str:
    """Build the model and the data as training would, and say in a few lines what training will be.

    Args:
        cfg: config, already fitted to the machine.
        world_size: number of processes.

    Raises:
        DataError: fewer images than a batch.
    """
    model = MODELS.build(cfg.model)
    loader = Runner.build_dataloader(cfg.train_dataloader, seed=cfg.randomness.seed)
    check_enough_images(loader)
    epochs, accumulation = cfg.train_cfg.max_epochs, cfg.optim_wrapper.get("accumulative_counts", 1)
    steps = -(-epochs * len(loader) // accumulation)
    batch = global_batch(cfg, world_size)
    weights = sum(p.numel() for p in model.parameters() if p.requires_grad)
    rows = {
        "images": f"{len(loader.dataset):,}",
        "model": f"{type(model).__name__}, {weights / 1e6:.1f} M trained weights, "
        f"{model.num_prototypes} prototypes",
        "batch": f"{batch} = {world_size} processes x {cfg.train_dataloader.batch_size} images"
        + f" x {accumulation} accumulated" * (accumulation > 1),
        "length": f"{epochs} epochs of {len(loader):,} iterations: {steps:,} steps, "
        f"{steps * batch:,} images seen",
    }
    return as_text(rows | start_rows(cfg, world_size))


def start_rows(cfg: Config, world_size: int) -> dict[str, str]:
    """The rows that the plans of all trainings end with: how, on what, from where, to where."""
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"
    return {
        "learning rate": f"{cfg.optim_wrapper.optimizer.lr:g} at the peak",
        "precision": cfg.optim_wrapper.get("type", "OptimWrapper"),
        "device": f"{world_size} x {device}",
        "resume": str(cfg.load_from) if cfg.get("resume") else "no",
        "work dir": cfg.work_dir,
    }


def as_text(rows: dict[str, str]) -> str:
    """A line a row, the values below each other."""
    return "\n".join(f"{name + ':':15}{value}" for name, value in rows.items())


def check_enough_images(loader) -> None:
    """Training on an epoch of no iterations would end at once, with nothing learnt.

    Raises:
        DataError: the data set has fewer images than one batch.
    """
    if len(loader) == 0:
        raise DataError(
            f"The data set has {len(loader.dataset)} images, fewer than one batch of "
            f"{loader.batch_size} a process: no step can be taken. Add images, or set "
            "--cfg-options train_dataloader.batch_size=N, or show each image N times an epoch: "
            "+train_dataloader.sampler.rounds=N."
        )
