"""What a pretraining cannot hand on, found before it starts."""

from collections.abc import Callable
from pathlib import Path
from textwrap import shorten

import torch
from mmengine.config import Config
from torch import nn

from ..checkpoints.architecture import describe_module, recognize
from ..checkpoints.encoder import encoder_of
from ..checkpoints.export_formats import LIBRARIES, check_format
from ..checkpoints.metadata import MEASURED, lookup
from ..checkpoints.model_folder import folder_model
from ..checkpoints.published import to_published
from ..errors import CheckpointError, ConfigError, SlotConError
from ..models.handed_on import handed_on
from ..models.measure import SIDE, run_on_meta
from ..models.slotcon import SlotCon
from ..runtime.text_formats import listed
from .group_weights import levels_in, read_grouping

MAX_REASON = 300  # characters
GROUPS = "slotcon visualize, slotcon evaluate unsupervised and --projected"


def measure_encoder(model: nn.Module) -> dict | None:
    """What `meta.encoder` has of a pretraining's encoder: its stages, or the `problem` with them.

    None for an encoder that no table of weights has.
    """
    backbone = handed_on(model)
    name = type(backbone).__name__
    try:
        recognize(backbone.state_dict(), name)
    except CheckpointError:
        return None
    try:
        found = describe_module(backbone, name)
    except CheckpointError as error:
        return {"problem": str(error)}
    measured = {"strides": list(found.strides), "dilations": list(found.dilations)}
    return measured | {"contract_dilation": True} if found.contract_dilation else measured


@torch.random.fork_rng(devices=())
def find_limits(model: nn.Module, cfg: Config, measured: dict | None) -> list[str]:
    """What the tools cannot do with the checkpoints of a pretraining, and why; [] for nothing.

    The tools' own functions are tried on the model's weights. Random numbers stay as they are.

    Args:
        model: that of a pretraining, with a `backbone`.
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
        backbone = handed_on(model)
        name = type(backbone).__name__
        reason = _failure(recognize, backbone.state_dict(), name) or str(error)
        return [
            "slotcon export, slotcon evaluate, slotcon visualize and --backbone, which do not "
            f"read the encoder {name}: {shorten(reason, MAX_REASON)}"
        ]
    found = []
    reasons = {t: _failure(check_format, t, ".pth", encoder.architecture) for t in LIBRARIES}
    reasons["hub"] = reasons["timm"]
    if failed := [target for target, reason in reasons.items() if reason]:
        found.append(f"slotcon export --to {' or '.join(failed)}: {reasons[failed[0]]}")
    if not reasons["timm"] and (reason := _failure(folder_model, encoder.architecture)):
        found.append(f"slotcon export --to hub or a folder --to timm: {reason}")
    found += encoder.architecture.limits()
    if encoder.decoder and not encoder.decoder.is_known:
        found.append(f"slotcon evaluate and visualize --level 0: the decoder is {encoder.decoder}")
    if not isinstance(model, SlotCon):
        return [*found, f"{GROUPS}, which need SlotCon's prototypes"]
    for use, function in (
        ("slotcon export --to published", to_published),
        (GROUPS, _read_groupings),
    ):
        if reason := _failure(function, content, str(path)):
            found.append(f"{use}: {shorten(reason, MAX_REASON)}")
    return found


def _read_groupings(content: dict, source: str) -> None:
    """Try to read every level."""
    for level in levels_in(content, source):
        read_grouping(content, source, level=level)


def find_untrained(model: nn.Module, size: int | None) -> list[str]:
    """The encoder's layers that no loss reaches, since the maps in use do not depend on them.

    A copy without data is run. The result is [] if it cannot be run so. A TimmEncoder that does not
    take images of this size is an error.

    Args:
        model: that of a pretraining, with a `backbone`.
        size: side of the views, pixels; None is 224.
    """
    try:
        twin, maps = run_on_meta(model.backbone, side=size or SIDE)
        used = maps if getattr(model, "decoder", None) is not None else maps[-1:]
        sum(one.sum() for one in used).backward()
    except ConfigError:  # of a TimmEncoder, for images of another size
        raise
    except Exception:  # of any module: it only means that this cannot be found out
        return []
    return [n for n, p in twin.named_parameters() if p.requires_grad and p.grad is None]


def describe_limits(model: nn.Module, cfg: Config, measured: dict | None) -> list[str]:
    """The lines of `find_limits` and `find_untrained` for the log and the plan."""
    lines = []
    if limits := find_limits(model, cfg, measured):
        words = "; ".join(limit.rstrip(".") for limit in limits)
        lines.append(f"its checkpoints are not for {words}")
    size = lookup(cfg.get("train_dataloader"), "dataset.views.size")
    if untrained := find_untrained(model, size if isinstance(size, int) else None):
        lines.append(
            f"{len(untrained)} tensors of the encoder are not trained, since the map in use does "
            f"not depend on them: {listed(untrained)}. Let out_indices name the last stage alone, "
            "and leave out the stages after it"
        )
    return lines


def _failure(function: Callable, *arguments) -> str | None:
    """Why a function refuses its arguments; None if it does not."""
    try:
        function(*arguments)
    except SlotConError as error:
        return str(error)
    return None
