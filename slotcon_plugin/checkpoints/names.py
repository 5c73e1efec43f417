"""The names that weights have in each library, as tables, and how they are converted.

A table is a sequence of pairs of patterns and works in both directions. A pattern is a name with
fields, e.g. `layer1.{block}.bn{n}.{stat}`; both patterns of a pair have the same fields.
"""

import re
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, NamedTuple

from torch import Tensor

from ..errors import CheckpointError
from ..runtime.text_formats import listed

Pairs = Sequence[tuple[str, str]]

FIELDS = {
    "block": r"\d+",
    "n": "[123]",
    "stat": "weight|bias|running_mean|running_var|num_batches_tracked",
    "rest": ".+",
}

# A ResNet in torchvision and in detectron2, one line for each kind of tensor. detectron2 counts
# stages from 2 and has each norm in its convolution.
DETECTRON2 = (
    ("conv1.weight", "stem.conv1.weight"),
    ("bn1.{stat}", "stem.conv1.norm.{stat}"),
    *(
        (f"layer{stage}.{{block}}.{torchvision}", f"res{stage + 1}.{{block}}.{detectron2}")
        for stage in (1, 2, 3, 4)
        for torchvision, detectron2 in (
            ("conv{n}.weight", "conv{n}.weight"),
            ("bn{n}.{stat}", "conv{n}.norm.{stat}"),
            ("downsample.0.weight", "shortcut.weight"),
            ("downsample.1.{stat}", "shortcut.norm.{stat}"),
        )
    ),
)
TORCHVISION = tuple((name, name) for name, _ in DETECTRON2)  # mmdet, mmseg and timm have it too

# The classifier of supervised weights is dropped. detectron2's converter puts it in the stem.
CLASSIFIER = ("fc.{rest}",)
CLASSIFIER_DETECTRON2 = ("stem.fc.{rest}",)

DEEP_STEM = "stem.0.weight"  # first tensor of three 3x3 convolutions (ResNetV1c, ResNetV1d)
COUNTER = "num_batches_tracked"  # of a batch norm; frozen ones, and files of old torch, have none
WRAPPER = "module."  # DistributedDataParallel puts it before every name
WRAPPERS = (WRAPPER, "_orig_mod.", "model.", "backbone.")  # torch.compile, Lightning, mmpretrain

# Our SlotCon and the published checkpoints, in the order of the published modules.
PUBLISHED = (
    ("head.group_loss.center", "center"),
    ("backbone.{rest}", "encoder_q.{rest}"),
    ("teacher.backbone.{rest}", "encoder_k.{rest}"),
    ("neck.{rest}", "projector_q.{rest}"),
    ("teacher.neck.{rest}", "projector_k.{rest}"),
    ("head.prototypes.{rest}", "grouping_q.slot_embed.{rest}"),
    ("teacher.prototypes.{rest}", "grouping_k.slot_embed.{rest}"),
    ("head.predictor.{rest}", "predictor_slot.{rest}"),
)
# Buffers that only our model has: a counter for the log. (The preprocessor's are not stored.)
NOT_PUBLISHED = ("idle_steps",)
# What a training with a decoder (DeCon) has in addition; the encoder is exported without it.
DECODER = (
    *("decoder.{rest}", "decoder_necks.{rest}", "decoder_heads.{rest}", "teacher.decoder.{rest}"),
    *("teacher.decoder_necks.{rest}", "teacher.decoder_prototypes.{rest}"),
)
PARTS = {"student": PUBLISHED[1], "teacher": PUBLISHED[2]}  # the encoders

# Before an encoder's names in full checkpoints of other methods and networks. Of methods with a
# momentum encoder it is the one that gradients train. The rest of such a file is not used.
NETWORKS = (
    "backbone.body.",  # torchvision's Faster R-CNN, Mask R-CNN and RetinaNet
    "backbone.0.body.",  # DETR
    "body.",  # their backbones alone
    "backbone.",  # mmpretrain's methods, mmdet's and mmseg's networks, DINO
    "encoder_q.",  # MoCo v1 and v2
    "base_encoder.",  # MoCo v3
    "encoder.",  # SimSiam
)
NETWORK_HEADS = ("fc.", "head.")  # which those files have within the encoder


def fpn_in_detectron2(stages: Sequence[int]) -> Pairs:
    """An FPN of mmdet and of detectron2, with laterals of these stages of DETECTRON2."""
    return [
        (f"{ours}.{i}.{layer}", f"fpn_{theirs}{stage}.{other}")
        for i, stage in enumerate(stages)
        for ours, theirs in (("lateral_convs", "lateral"), ("fpn_convs", "output"))
        for layer, other in (("conv.{stat}", "{stat}"), ("bn.{stat}", "norm.{stat}"))
    ]


class Renamed(NamedTuple):
    """The result of `rename`, in the order of the table, then of the source."""

    values: dict[str, Any]  # by new name
    old_names: dict[str, str]  # by new name
    dropped: tuple[str, ...]  # old names on the drop list


@cache
def _compiled(pattern: str) -> re.Pattern:
    escaped = re.escape(pattern)
    return re.compile(re.sub(r"\\{(\w+)\\}", lambda m: f"(?P<{m[1]}>{FIELDS[m[1]]})", escaped))


def match(name: str, pattern: str) -> dict[str, str] | None:
    """The fields of a name that matches the whole pattern, else None."""
    found = _compiled(pattern).fullmatch(name)
    return found.groupdict() if found else None


def reverse(pairs: Pairs) -> list[tuple[str, str]]:
    """The table for the other direction."""
    return [(right, left) for left, right in pairs]


def rename(values: Mapping[str, Any], pairs: Pairs, drop: Sequence[str], source: str) -> Renamed:
    """Rename by a table of (old pattern, new pattern); names that match `drop` are left out.

    `source` says in messages where the values come from.

    Raises:
        CheckpointError: a name matches no pattern, or two names become the same one.
        ValueError: a name matches two patterns, which is a mistake in the table.
    """
    patterns = [*(old for old, _ in pairs), *drop]
    lines: dict[str, int] = {}  # old name -> position of its pattern
    unknown = []
    for name in values:
        fits = [i for i, pattern in enumerate(patterns) if match(name, pattern) is not None]
        if len(fits) > 1:
            raise ValueError(f"{name} matches {len(fits)} lines of the table, expected one.")
        if fits:
            lines[name] = fits[0]
        else:
            unknown.append(name)
    if unknown:
        raise CheckpointError(
            f"{source} contains unknown names: {listed(unknown)}. Nothing was converted, since a "
            "tensor that is silently ignored would spoil a transfer."
        )
    old_names: dict[str, str] = {}
    for old, i in sorted(lines.items(), key=lambda line: line[1]):  # stable: the source's order
        if i < len(pairs):
            new = pairs[i][1].format(**match(old, patterns[i]))
            if new in old_names:
                raise CheckpointError(
                    f"{source} contains two entries for `{new}`: {old_names[new]} and {old}. "
                    "Remove one of them. Nothing was converted."
                )
            old_names[new] = old
    renamed = {new: values[old] for new, old in old_names.items()}
    return Renamed(renamed, old_names, tuple(old for old, i in lines.items() if i >= len(pairs)))


def published_name(name: str, pairs: Pairs = PUBLISHED) -> str | None:
    """The published name (without `module.`) of a tensor of our model; None if it has none."""
    for ours, theirs in pairs:
        if (fields := match(name, ours)) is not None:
            return theirs.format(**fields)
    return None


def differences(given: Mapping[str, Any], expected: Mapping[str, Tensor]) -> str:
    """How names, shapes and types of a state dict differ from the expected one; "" if nothing."""
    problems = {
        "missing": [name for name in expected if name not in given],
        "unexpected": [name for name in given if name not in expected],
        "that are no tensors": [],
        "of another shape": [],
        "of another type": [],
    }
    for name in (name for name in expected if name in given):
        found, wanted = given[name], expected[name]
        if not isinstance(found, Tensor):
            problems["that are no tensors"].append(name)
            continue
        if found.shape != wanted.shape:
            change = f"{name} {tuple(found.shape)} instead of {tuple(wanted.shape)}"
            problems["of another shape"].append(change)
        if found.dtype != wanted.dtype:
            problems["of another type"].append(f"{name} {found.dtype} instead of {wanted.dtype}")
    return "; ".join(f"{len(v)} {name}: {listed(v)}" for name, v in problems.items() if v)
