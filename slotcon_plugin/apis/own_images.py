"""What `apis.train` does with one's own images: `data` and `epochs` written into a config."""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from mmengine.config import Config

from ..errors import ConfigError
from ..runtime.config_options import type_name
from ..runtime.config_rules import check_value, whole
from ..transfer.fit_transfer import is_transfer

LONGEST_WARMUP = 0.2  # of the training, where --epochs shortens it


def choose_images(cfg: Config, config: str | Path, data: str | Path | Iterable | None) -> None:
    """Pretrain on the images of `data`: everything that `datasets.sources.list_images` takes."""
    if data is None:
        return
    if is_transfer(cfg):
        kind = type_name(cfg.train_dataloader.dataset.get("type"))
        raise ConfigError(
            f"--data names the images of a pretraining, but {config} trains "
            f"{type_name(cfg.model.type)} on images with labels ({kind}). The first lines of the "
            "config say how its data are named."
        )
    dataset = cfg.train_dataloader.dataset
    is_one = isinstance(data, str | os.PathLike)
    dataset.source = os.fspath(data) if is_one else [os.fspath(one) for one in data]
    dataset.preset = None


def choose_epochs(cfg: Config, config: str | Path, epochs: int | None) -> Iterator[str]:
    """Train for `epochs` epochs; a warm-up of epochs is shortened to a fifth of them at most."""
    if epochs is None:
        return
    check_value("--epochs", epochs, whole(1))
    if cfg.train_cfg.get("max_epochs") is None:
        raise ConfigError(
            f"--epochs {epochs}: {config} is trained for {cfg.train_cfg.max_iters:,} iterations, "
            "not for epochs. Set --cfg-options train_cfg.max_iters=N."
        )
    cfg.train_cfg.max_epochs = epochs
    schedules = cfg.get("param_scheduler") or []
    for schedule in schedules if isinstance(schedules, list) else [schedules]:
        longest = LONGEST_WARMUP * epochs
        if schedule.get("by_epoch", True) and schedule.get("warmup", 0) > longest:
            yield f"warm-up of {longest:g} epochs instead of {schedule.warmup}: a fifth of {epochs}"
            schedule.warmup = longest
