"""The plan of a training, printed by `--dry-run`."""

import torch
from mmengine.config import Config
from mmengine.registry import HOOKS, MODELS, init_default_scope
from mmengine.runner import Runner

from ..checkpoints.fill import check_state_dict
from ..errors import DataError
from ..runtime.config_options import hooks_of
from ..runtime.fit_machine import global_batch
from ..transfer.data_layout import check_listed_files
from ..transfer.fill_backbone import backbone_hook, fill_backbone
from ..transfer.fit_transfer import is_transfer


def describe_plan(cfg: Config, world_size: int, start: dict | None = None) -> str:
    """Build model and data as for training, fill the backbone, and describe the training.

    `cfg` must already be adapted to the machine; `start` is the checkpoint that it starts from, if
    any. Returns a table, one row per line.
    """
    init_default_scope(cfg.get("default_scope", "mmengine"))
    for hook in hooks_of(cfg).values():
        if isinstance(hook, dict):
            HOOKS.build(hook)  # hooks check their arguments
    model = MODELS.build(cfg.model)
    loader = Runner.build_dataloader(cfg.train_dataloader, seed=cfg.randomness.seed)
    check_enough_images(loader)
    if is_transfer(cfg):
        check_listed_files(loader.dataset, cfg)
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad) / 1e6
    accumulated = cfg.optim_wrapper.get("accumulative_counts", 1)
    batch = global_batch(cfg, world_size)
    prototypes = "" if is_transfer(cfg) else f", {model.num_prototypes} prototypes"
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"
    rows = {
        "images": f"{len(loader.dataset):,}",
        "model": f"{type(model).__name__}, {trained:.1f} M trained weights{prototypes}",
        "backbone": _backbone(cfg, model, start),
        "batch": f"{batch} = {world_size} processes x {cfg.train_dataloader.batch_size} images"
        + f" x {accumulated} accumulated" * (accumulated > 1),
        "length": _length(cfg, len(loader), accumulated, batch),
        "learning rate": f"{cfg.optim_wrapper.optimizer.lr:g} at the peak",
        "precision": cfg.optim_wrapper.get("type", "OptimWrapper"),
        "device": f"{world_size} x {device}",
        "resume": str(cfg.load_from) if cfg.get("resume") else "no",
        "work dir": cfg.work_dir,
    }
    return "\n".join(f"{name + ':':15}{value}" for name, value in rows.items())


def _backbone(cfg: Config, model: torch.nn.Module, start: dict | None) -> str:
    hook = backbone_hook(cfg)
    if start is not None:
        check_state_dict(model, start, cfg.load_from)
        return "from the checkpoint"
    if hook is None:
        return "random weights"
    return fill_backbone(model, cfg.model, hook.get("source")).removeprefix("backbone: ")


def _length(cfg: Config, iterations_per_epoch: int, accumulated: int, batch: int) -> str:
    if "max_iters" in cfg.train_cfg:
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


def check_enough_images(loader) -> None:
    """An epoch must have at least one iteration, or training would end at once."""
    if len(loader) == 0:
        raise DataError(
            f"The dataset has {len(loader.dataset)} images, fewer than one batch of "
            f"{loader.batch_size} a process: no step can be taken. Add images, or set with "
            "--cfg-options train_dataloader.batch_size=N, or +train_dataloader.sampler.rounds=N "
            "to use each image N times an epoch."
        )
