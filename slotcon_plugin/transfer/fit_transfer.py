"""Adapts the config of a detection or segmentation network to the machine, or to evaluation."""

import torch
from mmengine.config import Config
from mmengine.registry import MODELS

from ..errors import ConfigError
from ..models.slotcon import SlotCon
from ..runtime.fit_batch import fit_batch_norm, fit_random_numbers, fit_total_batch
from .data_layout import check_layout


def is_transfer(cfg: Config) -> bool:
    """Whether a config trains another model than SlotCon.

    `model.type` can be a class, a name, or a name with a scope (`mmengine.SlotCon`). Subclasses of
    SlotCon that are registered with MMEngine count as SlotCon.
    """
    kind = cfg.model.get("type")
    if isinstance(kind, str):
        kind = MODELS.module_dict.get(kind.rpartition(".")[2])
    return not (isinstance(kind, type) and issubclass(kind, SlotCon))


def fit_transfer(
    cfg: Config, world_size: int, precision: str | None = None, scale_lr: bool | None = None
) -> list[str]:
    """Check the data's layout, and adapt batch size, batch norm and random numbers.

    Args:
        cfg: is changed in place; nothing is done for pretraining.
        world_size: number of processes.
        precision, scale_lr: see `fit_machine.fit_to_machine`.

    Returns:
        What was changed, one line each.

    Raises:
        ConfigError: the batch cannot be divided, or the precision cannot be used.
        DataError: files or folders are missing.
    """
    if not is_transfer(cfg):
        return []
    is_detection = "roi_head" in cfg.model or "detector" in cfg.model
    if precision == "bf16" and is_detection and not torch.cuda.is_available():
        raise ConfigError(
            "--amp bf16 cannot be used for detection on a CPU: NMS and RoIAlign have no bfloat16 "
            "there. Omit --amp for float32. (Pretraining and segmentation can use it.)"
        )
    check_layout(cfg)
    return [
        *fit_total_batch(cfg, world_size, scale_lr),
        *fit_batch_norm(cfg),
        *fit_random_numbers(cfg),
    ]


def keep_only_test(cfg: Config, name: str) -> None:
    """Remove the training and validation entries, so that their data are not needed.

    Args:
        cfg: is changed in place.
        name: of the config, for the message.

    Raises:
        ConfigError: the config has no test set.
    """
    if not cfg.get("test_dataloader") or not cfg.get("test_evaluator"):
        raise ConfigError(
            f"{name} has no test_dataloader and test_evaluator, so there is nothing to evaluate. "
            "Use a config of configs/det or configs/seg."
        )
    for part in ("train", "val"):
        for entry in (f"{part}_dataloader", f"{part}_cfg", f"{part}_evaluator"):
            cfg.pop(entry, None)
    for entry in ("optim_wrapper", "param_scheduler", "auto_scale_lr"):
        cfg.pop(entry, None)
