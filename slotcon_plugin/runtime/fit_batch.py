"""Adapts the batches of a detection or segmentation training to the processes.

Like those of `fit_machine`, each function changes a config and returns one line for each change.
"""

from collections.abc import Iterator

import torch
from mmengine.config import Config

from ..errors import ConfigError
from .config_options import type_name

SYNC_BN = ("SyncBN", "SyncBatchNorm")  # its name in the registry, and that of torch's class


def fit_total_batch(cfg: Config, world_size: int, scale_lr: bool | None = None) -> list[str]:
    """Divide the config's `total_batch_size`, if it has one, evenly among `world_size` processes.

    With `scale_lr` the configured batch size per process is kept: the learning rate is scaled
    instead.
    """
    total = cfg.get("total_batch_size")
    if not total or scale_lr:
        return []
    steps = cfg.optim_wrapper.get("accumulative_counts", 1)
    each, rest = divmod(total, world_size * steps)
    if rest or not each:
        fits = [str(n) for n in range(1, total + 1) if total % (n * steps) == 0]
        accumulated = f" and {steps} accumulated iterations" * (steps > 1)
        raise ConfigError(
            f"A total batch of {total} cannot be divided among {world_size} processes{accumulated}."
            f" Use {', '.join(fits)} processes; or keep the config's "
            f"{cfg.train_dataloader.batch_size} images per process and scale the learning rate "
            "with --auto-scale-lr; or change the recipe with --cfg-options total_batch_size=N."
        )
    cfg.train_dataloader.batch_size = each
    seen = f" x {steps} accumulated (batch norm sees {world_size * each})" * (steps > 1)
    return [f"total batch {total} = {world_size} processes x {each}{seen}"]


def fit_batch_norm(cfg: Config) -> list[str]:
    """Replace synchronized batch norm, which needs a GPU, by plain batch norm if there is none.

    A detectron2 model, which has its own `device`, is moved to the CPU.
    """
    if torch.cuda.is_available():
        return []
    if "detector" in cfg.model:
        cfg.model.detector.device = "cpu"
    found = [
        (part, key) for part in _parts(cfg.model) for key in part if type_name(part[key]) in SYNC_BN
    ]
    for part, key in found:
        part[key] = "BN"
    return ["no GPU: batch norm of each process instead of synchronized batch norm"] * bool(found)


def fit_random_numbers(cfg: Config) -> list[str]:
    """Make random numbers depend only on the seed, the iteration and the image, so that a resumed
    training equals an uninterrupted one. For trainings with MMEngine's InfiniteSampler."""
    loader = cfg.train_dataloader
    sampler = loader.get("sampler") or {}
    if type_name(sampler.get("type")) != "InfiniteSampler":
        return []
    sampler.type = "EndlessSampler"
    for dataset in [part for part in _parts(loader.dataset) if "pipeline" in part]:
        dataset.pipeline = [dict(type="mmengine.SeedFromDraw"), *dataset.pipeline]
    return seed_iterations(cfg)


def seed_iterations(cfg: Config) -> list[str]:
    """Add `IterSeedHook`, for models that draw random numbers while they train."""
    cfg.custom_hooks = [*(cfg.get("custom_hooks") or []), dict(type="IterSeedHook")]
    return ["random numbers: seeded for each image and each iteration, also after --resume"]


def _parts(config: object) -> Iterator[dict]:
    """All dictionaries of a part of a config, at every depth."""
    if isinstance(config, dict):
        yield config
    if isinstance(config, dict | list | tuple):
        for part in config.values() if isinstance(config, dict) else config:
            yield from _parts(part)
