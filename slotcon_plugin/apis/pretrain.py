"""Pretraining on a folder of images, in one call."""

from collections.abc import Sequence
from pathlib import Path

from .train import train


def pretrain(
    data: str | Path | Sequence[str | Path],
    out: str | Path | None = None,
    config: str | Path = "slotcon_r18_own",
    epochs: int | None = None,
    progress: bool = True,
    **options,
) -> Path:
    """Pretrain on images without labels; returns the work dir, which `load` takes.

    It is `apis.train.train` with a config for one's own images and a progress bar: a ResNet-18 of
    four stages, whose batch, learning rate and number of prototypes follow from the images.

    Args:
        data: the images: a folder, a glob, a list file, or what else
            `datasets.sources.list_images` takes.
        out: the work dir: the folder of checkpoints and logs; None: the config's.
        config: path or name of a config of a pretraining; `list_configs` has the names.
        epochs: length of the training; None: `budget`, or the config's: an hour.
        progress: a progress bar instead of log lines, which are then only in the log file.
        options: the other options of `train`, with its defaults, e.g. `budget="45min"` instead of
            `epochs`, `overwrite=True` to start anew in a work dir with checkpoints, `resume="auto"`
            to continue, `amp="bf16"`.

    Raises:
        SlotConError: for everything that a user can repair; no work dir stays locked.
    """
    return train(config, data=data, epochs=epochs, work_dir=out, progress=progress, **options)
