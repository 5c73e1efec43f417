"""Public weights for timm's models: timm's own, and files in the layouts of other code."""

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from textwrap import shorten
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import CheckpointError
from ..models.timm_encoder import create, with_any_size
from ..runtime.extras import import_extra
from ..runtime.text_formats import listed
from .configured import ConfiguredEncoder
from .names import differences

# What training code has beside the encoder: MAE's and SimMIM's decoders, BEiT's head; the tokens
# of masked images in MAE, DINOv2 and iBOT, and the heads of DINO and iBOT.
DECODERS = ("decoder.", "decoder_", "lm_head.")
HEADS = ("mask_token", "masked_embed", "head.", "fc.", "dino_head.", "ibot_head.")
HALF = (torch.float16, torch.bfloat16)


def find_own_weights(known: ConfiguredEncoder) -> dict[str, Any]:
    """What timm states of its weights of a model, its `pretrained_cfg`; nothing is downloaded.
    CheckpointError if it has none."""
    cfg = _whole_model(known).pretrained_cfg
    if not any(cfg.get(key) for key in ("url", "file", "hf_hub_id")):
        raise CheckpointError(
            f"--backbone timm: timm has no weights of {known.config['name']}. "
            "timm.list_pretrained() lists the names that have; or give --backbone FILE."
        )
    return cfg


def read_own_weights(known: ConfiguredEncoder) -> tuple[dict, Path, tuple[str, ...]]:
    """timm's own weights of a model, which timm downloads once: content, name and remarks.

    Raises:
        CheckpointError: there are none, or they could not be downloaded or loaded.
    """
    cfg = find_own_weights(known)
    timm = import_extra("timm", "timm", "--backbone timm")
    name = ".".join(filter(None, (cfg.get("architecture"), cfg.get("tag"))))
    options = _options(known)
    model = options.pop("name")
    try:
        net = timm.create_model(model, pretrained=True, **with_any_size(model, options))
    except Exception as error:  # of timm, of the Hugging Face Hub and of the network
        place = cfg.get("file") or cfg.get("url")
        if cfg.get("hf_hub_id"):
            place = f"https://huggingface.co/{cfg['hf_hub_id']}"
        reason = shorten(f"{type(error).__name__}: {error}", 300).rstrip(".")
        raise CheckpointError(
            f"timm's weights {name} could not be loaded: {reason}. If the network is the reason, "
            f"download them from {place} on another machine and give --backbone FILE."
        ) from None
    side = cfg["input_size"][-1]
    mean, std = (tuple(cfg[key]) for key in ("mean", "std"))
    remarks = (
        f"license {cfg.get('license') or 'not stated'}",
        f"trained on {side} x {side} pixels with mean {mean}, std {std}",
    )
    return {"state_dict": net.state_dict()}, Path(f"timm:{name}"), remarks


def adapt(
    known: ConfiguredEncoder, values: Mapping[str, Tensor]
) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """The weights of one of timm's models from a file that is not exactly timm's.

    Half precision becomes float32; decoders, heads and tokens of the training are left out; timm's
    rules for files of other code are applied, which resize position embeddings. Returns tensors,
    which need not be complete, and what was done.
    """
    remarks = []
    halves = {n: v.float() for n, v in values.items() if v.dtype in HALF}
    if halves:
        remarks.append(f"{len(halves)} tensors in half precision are now float32")
    left = [name for name in values if name.startswith(DECODERS)]
    values = {n: v for n, v in {**values, **halves}.items() if n not in left}
    shapes = known.shapes()
    net = _whole_model(known)
    rules = getattr(sys.modules[type(net).__module__], "checkpoint_filter_fn", None)
    if rules and differences({n: v for n, v in values.items() if n in shapes}, shapes):
        before, values = values, _by_rules(rules, values, net, shapes)
        gone = [n for n in before if n not in values]
        new = [n for n in values if n not in before]
        if gone or new:
            remarks.append(f"timm's rules: {listed(gone)}" + f" became {listed(new)}" * bool(new))
        remarks += [
            f"{n} resized from {tuple(before[n].shape)} to {tuple(v.shape)}"
            for n, v in values.items()
            if n in before and v.shape != before[n].shape
        ]
    left += [name for name in values if name not in shapes and name.startswith(HEADS)]
    if left:
        remarks.append(f"left out: {listed(left)}")
    return {n: v for n, v in values.items() if n not in left}, tuple(remarks)


def _by_rules(
    rules: Callable, values: dict[str, Tensor], net: nn.Module, shapes: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Tensors by timm's rules; as they are if these fail or give other shapes than the model's.

    Tensors without data show the shapes before anything is computed.
    """
    most = sum(v.numel() for one in (values, shapes) for v in one.values())
    try:
        found = rules({n: v.to("meta") for n, v in values.items()}, net)
        fits = all(v.shape == found[n].shape for n, v in shapes.items() if n in found)
        if fits and sum(v.numel() for v in found.values()) <= most:
            return rules(dict(values), net)
    except Exception:  # of any file; the difference to the model is reported
        pass
    return values


def _options(known: ConfiguredEncoder) -> dict[str, Any]:
    return {n: v for n, v in known.config.items() if n not in ("type", "out_indices")}


def _whole_model(known: ConfiguredEncoder) -> nn.Module:
    """timm's model with its classifier, without data."""
    with torch.device("meta"):
        return create(**_options(known))
