"""Recognizes the ResNet that a state dict belongs to."""

from collections.abc import Mapping
from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor

from ..errors import CheckpointError
from ..models.backbones import DEPTHS, TorchvisionResNet
from .names import DEEP_STEM, differences


class Architecture(NamedTuple):
    """A ResNet of torchvision's kind, with one 7x7 convolution in its stem and the stride in the
    3x3 convolutions of its blocks. With fewer than four stages the last ones are absent."""

    depth: int
    num_stages: int

    def __str__(self) -> str:
        absent = [f"layer{i + 1}" for i in range(self.num_stages, 4)]
        return f"ResNet-{self.depth}" + f" without {', '.join(absent)}" * bool(absent)


@cache
def _state_dict(architecture: Architecture) -> dict[str, Tensor]:
    """Every tensor, without data (device "meta")."""
    with torch.device("meta"):
        return TorchvisionResNet(*architecture).state_dict()


def refuse_deep_stem(names: Mapping[str, object], owner: str) -> None:
    """Raise CheckpointError for ResNetV1c and ResNetV1d, whose stem SlotCon's encoder lacks."""
    if DEEP_STEM in names:
        raise CheckpointError(
            f"{owner} has a deep stem of three 3x3 convolutions (ResNetV1c or ResNetV1d), but "
            "SlotCon's encoder has one 7x7 convolution, so the first layers would stay random. Use "
            "type='ResNet', in mmseg as in mmdet."
        )


def recognize(state: Mapping[str, Tensor], source: str) -> Architecture:
    """The ResNet that has exactly these tensors, under torchvision's names without the classifier.

    The first two stages of ResNet-50, 101 and 152 are equal; then the smallest one is returned.
    For any other architecture, missing tensors or other shapes CheckpointError is raised.
    """
    refuse_deep_stem(state, source)
    stages = [n for n in (1, 2, 3, 4) if any(name.startswith(f"layer{n}.") for name in state)]
    candidates = [Architecture(depth, max(stages, default=4)) for depth in DEPTHS]
    closest = min(candidates, key=lambda one: len(_shapes(state) ^ _shapes(_state_dict(one))))
    if problems := differences(state, _state_dict(closest)):
        raise CheckpointError(
            f"{source} is not a complete ResNet of torchvision's kind. Compared with the most "
            f"similar one, {closest}: {problems}. Known are ResNet-{', '.join(map(str, DEPTHS))}; "
            "other architectures cannot be converted."
        )
    return closest


def _shapes(state: Mapping[str, Tensor]) -> set[tuple[str, torch.Size]]:
    return {(name, value.shape) for name, value in state.items()}
