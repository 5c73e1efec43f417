"""Adapts the config of a detection or segmentation network to the machine, or to evaluation."""

import torch
from mmengine.config import Config
from mmengine.registry import DATASETS, MODELS

from ..datasets.unlabeled_images import UnlabeledImages
from ..errors import ConfigError
from ..models.slotcon import SlotCon
from ..runtime.config_options import find_class
from ..runtime.fit_batch import fit_batch_norm, fit_random_numbers, fit_total_batch, seed_iterations
from .data_layout import check_layout


def is_slotcon(cfg: Config) -> bool:
    """Whether a config trains SlotCon or a registered subclass of it."""
    kind = find_class(cfg.model.get("type"), MODELS)
    return isinstance(kind, type) and issubclass(kind, SlotCon)


def is_transfer(cfg: Config) -> bool:
    """Whether a config trains neither SlotCon nor on images without labels."""
    dataset = (cfg.get("train_dataloader") or {}).get("dataset") or {}
    kind = find_class(dataset.get("type"), DATASETS)
    is_unlabeled = isinstance(kind, type) and issubclass(kind, UnlabeledImages)
    return not is_unlabeled and not is_slotcon(cfg)


def fit_transfer(
    cfg: Config, world_size: int, precision: str | None = None, scale_lr: bool | None = None
) -> list[str]:
    """Check the data's layout, and adapt batch size, batch norm and random numbers in place.

    Of a pretraining by another method than SlotCon batch norm and random numbers are adapted, of
    SlotCon nothing. Returns the changes, one line each. `precision` and `scale_lr` are those of
    `fit_machine.fit_to_machine`.
    """
    if is_slotcon(cfg):
        return []
    if not is_transfer(cfg):
        return [*fit_batch_norm(cfg), *seed_iterations(cfg)]
    is_detection = "roi_head" in cfg.model or "detector" in cfg.model
    if precision == "bf16" and is_detection and not torch.cuda.is_available():
        raise ConfigError(
            "--amp bf16 cannot be used for detection on a CPU: NMS and RoIAlign have no bfloat16 "
            "there. Omit --amp for float32. (Pretraining and segmentation can use it.)"
        )
    check_layout(cfg)
    changes = fit_total_batch(cfg, world_size, scale_lr)
    return [*changes, *fit_batch_norm(cfg), *fit_random_numbers(cfg)]


def keep_only_test(cfg: Config, name: str) -> None:
    """Remove the entries of training and validation in place, so that their data are not needed.

    Raises ConfigError if the config, called `name`, has no test set.
    """
    if not cfg.get("test_dataloader") or not cfg.get("test_evaluator"):
        raise ConfigError(
            f"{name} has no test_dataloader and test_evaluator, so there is nothing to evaluate. "
            "Use a config of configs/det or configs/seg."
        )
    parts = ("dataloader", "cfg", "evaluator")
    entries = [f"{phase}_{part}" for phase in ("train", "val") for part in parts]
    for entry in (*entries, "optim_wrapper", "param_scheduler", "auto_scale_lr"):
        cfg.pop(entry, None)
