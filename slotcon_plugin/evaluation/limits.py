"""What a pretraining cannot hand on, found before it starts."""

from collections.abc import Callable
from pathlib import Path
from textwrap import shorten

import torch
from mmengine.config import Config
from torch import nn

from ..checkpoints.architecture import describe_module, recognize
from ..checkpoints.encoder import encoder_of
from ..checkpoints.export_formats import USAGES, check_format
from ..checkpoints.metadata import MEASURED
from ..checkpoints.published import to_published
from ..errors import CheckpointError
from .networks import read_grouping

MAX_REASON = 300  # characters


def measure_encoder(model: nn.Module) -> dict | None:
    """What `meta.encoder` has of SlotCon's encoder: its stages, or the `problem` with them.

    None for an encoder that no table of weights has.
    """
    backbone = model.teacher.backbone
    name = type(backbone).__name__
    try:
        recognize(backbone.state_dict(), name)
    except CheckpointError:
        return None
    try:
        found = describe_module(backbone, name)
    except CheckpointError as error:
        return {"problem": str(error)}
    return {"strides": list(found.strides), "dilations": list(found.dilations)}


@torch.random.fork_rng(devices=())
def find_limits(model: nn.Module, cfg: Config, measured: dict | None) -> list[str]:
    """What the tools cannot do with the checkpoints of a pretraining, and why; [] for nothing.

    The tools' own functions are tried on the model's weights. Random numbers stay as they are.

    Args:
        model: a SlotCon.
        cfg: the config of the training.
        measured: of `measure_encoder`.
    """
    path = Path("its checkpoint")
    text = Config(dict(model=cfg.get("model") or {})).pretty_text
    meta = {"cfg": text, MEASURED: measured}
    content = {"meta": meta, "state_dict": model.state_dict()}
    try:
        encoder = encoder_of(content, path)
    except CheckpointError as error:
        backbone = model.teacher.backbone
        name = type(backbone).__name__
        reason = _failure(recognize, backbone.state_dict(), name) or str(error)
        return [
            "tools/export.py, tools/evaluate.py, tools/visualize.py and --backbone, which do not "
            f"read the encoder {name}: {shorten(reason, MAX_REASON)}"
        ]
    found, (_, num_stages, *_) = [], encoder.architecture
    reasons = {t: _failure(check_format, t, ".pth", encoder.architecture) for t in USAGES}
    if failed := [target for target, reason in reasons.items() if reason]:
        found.append(f"tools/export.py --to {' or '.join(failed)}: {reasons[failed[0]]}")
    if num_stages < 4:
        found.append(f"--backbone for a network of four stages: the encoder has {num_stages}")
    for use, function in (
        ("tools/export.py --to published", to_published),
        ("tools/visualize.py, tools/evaluate.py unsupervised and --projected", read_grouping),
    ):
        if reason := _failure(function, content, str(path)):
            found.append(f"{use}: {shorten(reason, MAX_REASON)}")
    return found


def _failure(function: Callable, *arguments) -> str | None:
    """Why a function refuses its arguments; None if it does not."""
    try:
        function(*arguments)
    except CheckpointError as error:
        return str(error)
    return None
