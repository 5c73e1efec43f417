"""What must travel with weights: which network, which pixels it wants, how it was trained."""

import argparse
import json
import platform
from typing import Any

import mmengine
import torch
import torchvision

from ..datasets.photometric import IMAGENET_MEAN, IMAGENET_STD
from ..errors import CheckpointError
from .architecture import Architecture
from .literals import lookup, read_literals

# Name in our notes -> where a config of ours has it.
OURS = {
    "optimizer": "optim_wrapper.optimizer.type",
    "lr": "optim_wrapper.optimizer.lr",
    "weight_decay": "optim_wrapper.optimizer.weight_decay",
    "precision": "optim_wrapper.dtype",
    "epochs_planned": "train_cfg.max_epochs",
    "batch_per_process": "train_dataloader.batch_size",
    "accumulation": "optim_wrapper.accumulative_counts",
    "images": "train_dataloader.dataset.preset",
    "view_size": "train_dataloader.dataset.views.size",
    "prototypes": "model.head.prototypes.num_prototypes",
}
# Name in our notes -> name in the command line that the published checkpoints keep.
THEIRS = {
    "optimizer": "optimizer",
    "base_lr_per_256": "base_lr",
    "weight_decay": "weight_decay",
    "epochs_planned": "epochs",
    "batch_per_process": "batch_size",
    "processes": "world_size",
    "images": "dataset",
    "view_size": "image_size",
    "prototypes": "num_prototypes",
    "seed": "seed",
}


def arguments_of(content: dict) -> dict:
    """The command line in a published checkpoint, as a dictionary; empty if there is none."""
    args = content.get("args")
    return vars(args) if isinstance(args, argparse.Namespace) else dict(args or {})


def config_of(content: dict) -> dict:
    """The literals of the config in a checkpoint of ours."""
    text = lookup(content, "meta.cfg")
    return read_literals(text) if isinstance(text, str) else {}


def training_of(content: dict) -> dict[str, Any]:
    """How the weights in a full checkpoint, ours or a published one, were trained."""
    published = lookup(content, "meta.published.args") or arguments_of(content)
    config = config_of(content)
    found = {ours: published.get(theirs) for ours, theirs in THEIRS.items()}
    found |= {name: value for name, path in OURS.items() if (value := lookup(config, path))}
    meta = content.get("meta") or content
    found |= {name: meta.get(name) for name in ("epoch", "iter", "seed") if meta.get(name)}
    started = meta.get("experiment_name")
    if started:
        found["config"] = started.rsplit("_", 2)[0]  # MMEngine adds date and time
    plain = {name: v for name, v in found.items() if isinstance(v, str | int | float)}
    return {"method": "SlotCon", **plain}


def pixels_of(config: dict) -> dict[str, Any]:
    """What the encoder was fed: channel order, and mean and std in both usual units."""
    mean = lookup(config, "model.data_preprocessor.mean") or IMAGENET_MEAN
    std = lookup(config, "model.data_preprocessor.std") or IMAGENET_STD
    return {
        "channel_order": "RGB",
        "mean_0_1": list(mean),
        "std_0_1": list(std),
        "mean_0_255": [round(255 * value, 6) for value in mean],
        "std_0_255": [round(255 * value, 6) for value in std],
    }


def check_stride_place(config: dict, source: str) -> None:
    """mmdet's `style='caffe'` strides in the 1x1 convolution: the same names, another network.

    Raises:
        CheckpointError: the checkpoint's config has it.
    """
    if lookup(config, "model.backbone.style") == "caffe":
        raise CheckpointError(
            f"{source} was trained with a backbone of style='caffe', which strides in the 1x1 "
            "convolutions. The formats here stride in the 3x3 ones (STRIDE_IN_1X1: False): the "
            "weights would load and compute something else."
        )


def describe(architecture: Architecture, pixels: dict, origin: dict, training: dict) -> dict:
    """The notes that are stored with exported weights: plain values, fit for JSON."""
    from ..version import __version__

    notes = {
        "architecture": {
            "name": architecture.name,
            "depth": architecture.depth,
            "num_stages": architecture.num_stages,
            "stem": "7x7 convolution, stride 2, 3x3 max pooling (not a deep stem)",
            "stride_in_1x1": False,
        },
        "pixels": pixels,
        "origin": origin,
        "training": training,
        "versions": {
            "slotcon_plugin": __version__,
            "torch": torch.__version__,
            "torchvision": torchvision.__version__,
            "mmengine": mmengine.__version__,
            "python": platform.python_version(),
        },
    }
    return json.loads(json.dumps(notes))  # torch's version, for one, is a class of its own
