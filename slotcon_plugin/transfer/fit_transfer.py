"""Fits a detection or segmentation config to the machine: backbone, batch, batch norm."""

from collections.abc import Iterator

import torch
from mmengine.config import Config

from ..errors import ConfigError
from .data_layout import check_layout
from .fill_backbone import RANDOM, check_source

PRETRAINING = "SlotCon"


def is_transfer(cfg: Config) -> bool:
    """Whether a config trains something else than SlotCon."""
    return cfg.model.type != PRETRAINING


def name_backbone(cfg: Config, source: str | None) -> list[str]:
    """Write into the config which weights fill the backbone.

    Args:
        cfg: any config; a `BackboneHook` is added where there is none.
        source: a file, 'supervised' or 'none'; None leaves the config's own wish.

    Raises:
        ConfigError: neither `source` nor the config's BackboneHook names anything.
        CheckpointError: the file that is named cannot be used.
    """
    hooks = cfg.get("custom_hooks") or []
    ours = [hook for hook in hooks if hook["type"] == "BackboneHook"]
    if not ours:
        if source is None:
            return []
        ours = [dict(type="BackboneHook")]
        hooks = [*ours, *hooks]
    if source is not None:
        ours[0]["source"] = source
    cfg.custom_hooks = hooks
    if cfg.get("resume") or cfg.get("load_from"):
        return ["backbone: from the checkpoint, with everything else"]
    check_source(ours[0].get("source"))
    if ours[0]["source"] == RANDOM:
        return ["backbone: random weights"]
    return [f"backbone: {ours[0]['source']}"]


def fit_total_batch(cfg: Config, world_size: int, scale_lr: bool | None = None) -> list[str]:
    """Divide `total_batch_size` among the processes, unless the learning rate is to follow.

    Args:
        cfg: config; without `total_batch_size` nothing is done.
        world_size: number of processes.
        scale_lr: True keeps the configured batch per process; the learning rate is then scaled.

    Raises:
        ConfigError: it does not divide.
    """
    total = cfg.get("total_batch_size")
    if not total or scale_lr:
        return []
    steps = cfg.optim_wrapper.get("accumulative_counts", 1)
    each, rest = divmod(total, world_size * steps)
    if rest or not each:
        fits = [str(n) for n in range(1, total + 1) if total % (n * steps) == 0]
        raise ConfigError(
            f"A total batch of {total} cannot be divided among {world_size} processes"
            + f" and {steps} accumulated iterations" * (steps > 1)
            + f". Use {', '.join(fits)} processes; or keep the config's "
            f"{cfg.train_dataloader.batch_size} images a process and scale the learning rate "
            "with --auto-scale-lr; or set --cfg-options total_batch_size=N, another recipe."
        )
    cfg.train_dataloader.batch_size = each
    return [
        f"total batch {total} = {world_size} processes x {each}"
        + f" x {steps} accumulated (batch norm sees {world_size * each})" * (steps > 1)
    ]


def fit_batch_norm(cfg: Config) -> list[str]:
    """Plain batch norm instead of synchronized where there is no GPU, which it needs.

    A detectron2 model, which has a device of its own, is put on the CPU too.
    """
    if torch.cuda.is_available():
        return []
    if "detector" in cfg.model:
        cfg.model.detector.device = "cpu"
    replaced = _replace(cfg.model, "SyncBN", "BN")
    if not replaced:
        return []
    return ["no GPU: batch norm of each process instead of synchronized batch norm"]


def _replace(node: object, old: str, new: str) -> int:
    """Replace the string `old` wherever it is a value in nested dictionaries and lists."""
    count = 0
    if isinstance(node, dict | list):
        for key in list(node) if isinstance(node, dict) else range(len(node)):
            if node[key] == old:
                node[key] = new
                count += 1
            else:
                count += _replace(node[key], old, new)
    return count


def check_precision(cfg: Config, precision: str | None) -> None:
    """mmcv's RoIAlign and NMS know no bfloat16 on a CPU.

    Raises:
        ConfigError: it is asked for.
    """
    detection = "roi_head" in cfg.model or "detector" in cfg.model
    if precision == "bf16" and detection and not torch.cuda.is_available():
        raise ConfigError(
            "--amp bf16 cannot be used for detection on a CPU: NMS and RoIAlign have no bfloat16 "
            "there. Leave --amp away for float32. (Pretraining and segmentation can use it.)"
        )


def fit_random_numbers(cfg: Config) -> list[str]:
    """Let chance follow from the seed, the iteration and the image alone, so that a training that
    was interrupted ends as it would have without; for trainings over MMEngine's InfiniteSampler."""
    loader = cfg.train_dataloader
    if loader.sampler.get("type") != "InfiniteSampler":
        return []
    loader.sampler.type = "EndlessSampler"
    for dataset in _leaves(loader.dataset):
        dataset.pipeline = [dict(type="mmengine.SeedFromDraw"), *dataset.pipeline]
    cfg.custom_hooks = [*(cfg.get("custom_hooks") or []), dict(type="StepSeedHook")]
    return ["random numbers: of each image's draw and of each iteration, also after a resume"]


def _leaves(dataset: dict) -> Iterator[dict]:
    """The data sets with a pipeline that a config's data set is made of."""
    if "pipeline" in dataset:
        yield dataset
    for part in [*dataset.get("datasets", []), *filter(None, [dataset.get("dataset")])]:
        yield from _leaves(part)


def fit_transfer(
    cfg: Config, world_size: int, precision: str | None = None, scale_lr: bool | None = None
) -> list[str]:
    """All of this but the backbone, and the check of the data's layout. Nothing for pretraining.

    Returns:
        What was changed, a line each.
    """
    if not is_transfer(cfg):
        return []
    check_precision(cfg, precision)
    check_layout(cfg)
    return [
        *fit_total_batch(cfg, world_size, scale_lr),
        *fit_batch_norm(cfg),
        *fit_random_numbers(cfg),
    ]
