"""Converts full checkpoints between the published format and ours.

Weights are copied bit by bit. The state that an exact continuation needs (momentum, iteration, loss
scale) is converted if it is there; remarks say what is not.
"""

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
from mmengine.config import Config
from mmengine.registry import MODELS
from torch import Tensor, nn

from ..errors import CheckpointError
from ..models.slotcon import RECENT_STEPS
from ..runtime.safe_loading import check_finite
from . import optimizer_state
from .architecture import ResNetArchitecture, recognize
from .encoder import digest, find_tensors
from .metadata import lookup, read_config, read_options, read_stages
from .names import NOT_PUBLISHED, PUBLISHED, WRAPPER, differences, rename, reverse

# Path in a config of ours -> option in the published command line.
OPTIONS = {
    "model.head.prototypes.num_prototypes": "num_prototypes",
    "model.neck.hidden_channels": "dim_hidden",
    "model.neck.out_channels": "dim_out",
    "model.teacher_momentum": "teacher_momentum",
    "model.head.group_loss.teacher_temperature": "teacher_temp",
    "model.head.group_loss.student_temperature": "student_temp",
    "model.head.group_loss.center_momentum": "center_momentum",
    "model.head.group_loss_weight": "group_loss_weight",
    "optim_wrapper.optimizer.weight_decay": "weight_decay",
    "optim_wrapper.optimizer.momentum": "momentum",
    "train_cfg.max_epochs": "epochs",
}


class Converted(NamedTuple):
    """A full checkpoint in the other format."""

    content: dict  # what is to be saved; the weights are in `state_dict` or `model`
    old_names: dict[str, str]  # new name -> old name of each weight
    dropped: tuple[str, ...]  # names of weights that were left out
    digest: str  # of the weights under our names, so it is the same in both formats
    remarks: tuple[str, ...]  # what else was converted, and what was not and why


def _build(state: dict[str, Tensor], source: str) -> tuple[dict, nn.Module]:
    """The config of the `model` that has exactly these weights, and the model without data."""
    check_finite(state, source)
    start = "backbone."
    encoder = {name.removeprefix(start): v for name, v in state.items() if name.startswith(start)}
    architecture = recognize(encoder, f"{source} (student's encoder)")
    sizes = []
    for part in ("head.prototypes", "neck.mlp.0", "neck.mlp.6", "head.predictor.mlp.0"):
        name = f"{part}.weight"
        if name not in state or state[name].ndim < 2:
            raise CheckpointError(
                f"{source} lacks {name}, or it is no matrix: this is no full checkpoint. Export "
                "an encoder with --to openmmlab, torchvision, timm or detectron2."
            )
        sizes.append(state[name].shape)
    (num_prototypes, channels), (hidden, inputs, *_), (outputs, *_), (wide, narrow, *_) = sizes
    config = dict(
        type="SlotCon",
        backbone=dict(type="TorchvisionResNet", **architecture._asdict()),
        neck=dict(
            type="PixelProjector", in_channels=inputs, hidden_channels=hidden, out_channels=outputs
        ),
        head=dict(
            type="PrototypeHead",
            prototypes=dict(type="Prototypes", num_prototypes=num_prototypes, channels=channels),
            group_loss=dict(type="GroupingLoss"),
            slot_loss=dict(type="SlotLoss"),
            predictor=dict(type="SlotPredictor", channels=narrow, hidden_channels=wide),
        ),
        data_preprocessor=dict(type="TwoViewPreprocessor"),
    )
    with torch.device("meta"):
        model = MODELS.build(config)
    expected = {k: v for k, v in model.state_dict().items() if k not in NOT_PUBLISHED}
    if problems := differences(state, expected):
        raise CheckpointError(f"{source} is not a complete SlotCon model: {problems}.")
    return config, model


@contextmanager
def _training_state(source: str) -> Iterator[None]:
    """Turn the errors of a damaged training state, whose parts can be of any type, into one."""
    try:
        yield
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"The state of optimizer or schedule in {source} is damaged ({error!r}). Use another "
            "checkpoint, or export only its encoder."
        ) from error


def to_ours(content: dict, source: str) -> Converted:
    """Convert a published full checkpoint into one for slotcon train (--resume, `load_from`)."""
    tensors, kind = find_tensors(content, source)
    if kind != "published":
        raise CheckpointError(
            f"{source} is of the kind {kind!r}, not a published SlotCon checkpoint; --to slotcon "
            "converts published full checkpoints (model: module.encoder_q.*, …)."
        )
    named = rename(tensors, reverse(PUBLISHED), (), source)
    config, model = _build(named.values, source)
    weights = {  # in the order of our modules
        name: torch.full(value.shape, RECENT_STEPS) if name in NOT_PUBLISHED else named.values[name]
        for name, value in model.state_dict().items()
    }
    parameters = [name for name, _ in model.named_parameters()]
    with _training_state(source):
        training, remarks = optimizer_state.to_ours(content, list(tensors), parameters)
    training["meta"]["cfg"] = Config(dict(model=config)).pretty_text
    training["meta"]["published"]["args"] = read_options(content)
    size = f"ResNet-{config['backbone']['depth']}, {model.num_prototypes} prototypes"
    remarks = (
        f"to continue training, use a config with the same encoder and prototypes: {size}",
        f"set to the initial value: {', '.join(NOT_PUBLISHED)} (a counter for the log)",
        *remarks,
    )
    content = {"meta": training.pop("meta"), "state_dict": weights, **training}
    return Converted(content, named.old_names, named.dropped, digest(named.values), remarks)


def to_published(content: dict, source: str) -> Converted:
    """Convert a full checkpoint of ours into one for the published code."""
    tensors, kind = find_tensors(content, source)
    if kind != "slotcon":
        raise CheckpointError(
            f"{source} is of the kind {kind!r}; --to published converts full checkpoints of "
            "slotcon train (teacher.backbone.*, head.prototypes.*, …)."
        )
    named = rename(tensors, PUBLISHED, NOT_PUBLISHED, source)
    ours = {old: tensors[old] for old in named.old_names.values()}
    config, model = _build(ours, source)
    stages = read_stages(content, read_config(content), source)
    architecture = ResNetArchitecture(*(config["backbone"][key] for key in ("depth", "num_stages")))
    if not (found := architecture.with_stages(*stages, source)).is_plain:
        raise CheckpointError(
            f"{source} has a {found}; the published code has a ResNet without dilation, which "
            "would compute something else with these weights."
        )
    parameters = [name for name, _ in model.named_parameters()]
    with _training_state(source):
        training, remarks = optimizer_state.to_published(content, list(named.values), parameters)
    args = read_options(content)
    if lookup(content, "meta.published.args") is None:
        args = {"arch": f"resnet{config['backbone']['depth']}"}
        for known in ({"model": config}, read_config(content)):  # the second one has precedence
            found = {name: lookup(known, path) for path, name in OPTIONS.items()}
            args |= {name: value for name, value in found.items() if value is not None}
        remarks.append("args: only the published options that our config contains")
    weights = {f"{WRAPPER}{name}": value for name, value in named.values.items()}
    old_names = {f"{WRAPPER}{new}": old for new, old in named.old_names.items()}
    content = {"args": argparse.Namespace(**args), "model": weights, **training}
    return Converted(content, old_names, named.dropped, digest(ours), tuple(remarks))
