"""Which ResNet a set of weights is, and whether it is a whole one."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import CheckpointError
from ..models.backbones import TorchvisionResNet
from .name_tables import DEEP_STEM
from .renaming import listed, match

# Depth -> blocks of the stages, and whether a block is a bottleneck (three convolutions).
DEPTHS = {
    18: ((2, 2, 2, 2), False),
    34: ((3, 4, 6, 3), False),
    50: ((3, 4, 6, 3), True),
    101: ((3, 4, 23, 3), True),
    152: ((3, 8, 36, 3), True),
}


@dataclass(frozen=True)
class Architecture:
    """A ResNet of torchvision's kind: 7x7 stem, stride in the 3x3 convolutions.

    Attributes:
        depth: 18, 34, 50, 101 or 152.
        num_stages: 1-4; with fewer than four the last ones are absent.
    """

    depth: int
    num_stages: int

    @property
    def name(self) -> str:
        return f"resnet{self.depth}"

    @property
    def complete(self) -> bool:
        return self.num_stages == 4

    def shapes(self) -> dict[str, torch.Size]:
        """The name and shape of every tensor."""
        with torch.device("meta"):
            state = TorchvisionResNet(self.depth, self.num_stages).state_dict()
        return {name: value.shape for name, value in state.items()}

    def __str__(self) -> str:
        absent = [f"layer{i + 1}" for i in range(self.num_stages, 4)]
        return f"ResNet-{self.depth}" + f" without {', '.join(absent)}" * bool(absent)


def refuse_deep_stem(names: Mapping[str, object], what: str) -> None:
    """A ResNetV1c or V1d is another network: its stem cannot be filled from SlotCon's encoder.

    Raises:
        CheckpointError: `names` has the stem of three 3x3 convolutions.
    """
    if DEEP_STEM in names:
        raise CheckpointError(
            f"{what} has a deep stem of three 3x3 convolutions (ResNetV1c or ResNetV1d, "
            "deep_stem=True); SlotCon's encoder has one 7x7 convolution there, so the first layers "
            "would stay random. Use type='ResNet', in mmseg as in mmdet."
        )


def recognize(state: Mapping[str, Tensor], source: str) -> Architecture:
    """The ResNet that weights with torchvision's names are, every tensor of it checked.

    Args:
        state: names (without the classifier) -> tensors.
        source: where they come from, for messages.

    Raises:
        CheckpointError: another architecture, tensors missing or of another shape.
    """
    refuse_deep_stem(state, source)
    blocks: dict[int, int] = {}
    for stage in (1, 2, 3, 4):
        found = [match(name, f"layer{stage}.{{block}}.conv{{n}}.weight") for name in state]
        numbers = [int(fields["block"]) for fields in found if fields]
        if numbers:
            blocks[stage] = max(numbers) + 1
    counts, bottleneck = tuple(blocks.values()), "layer1.0.conv3.weight" in state
    if tuple(blocks) != tuple(range(1, len(blocks) + 1)) or not blocks:
        raise CheckpointError(
            f"{source} holds the stages {list(blocks)} of a ResNet, expected 1 to 4 without gaps."
        )
    fitting = [
        depth
        for depth, (stages, wide) in DEPTHS.items()
        if stages[: len(counts)] == counts and wide == bottleneck
    ]
    if not fitting:
        kind = "bottleneck" if bottleneck else "basic"
        raise CheckpointError(
            f"{source} holds a ResNet of {list(counts)} {kind} blocks; known are ResNet-"
            f"{', '.join(map(str, DEPTHS))}. Another architecture cannot be converted."
        )
    # Two stages of ResNet-50 are two of ResNet-101 too: the names are the same, so either will do.
    architecture = Architecture(fitting[0], len(counts))
    expected = architecture.shapes()
    missing, extra = sorted(expected.keys() - state.keys()), sorted(state.keys() - expected.keys())
    wrong = [
        f"{name} {tuple(state[name].shape)} instead of {tuple(shape)}"
        for name, shape in expected.items()
        if name in state and state[name].shape != shape
    ]
    problems = [
        f"{title}: {listed(names)}"
        for title, names in (
            ("missing", missing),
            ("not of it", extra),
            ("of another shape", wrong),
        )
        if names
    ]
    if problems:
        raise CheckpointError(
            f"{source} looks like a {architecture} but is not a whole one. " + "; ".join(problems)
        )
    return architecture


def check_finite(state: Mapping[str, Tensor], source: str) -> None:
    """Weights that are not numbers are not worth converting.

    Raises:
        CheckpointError: one is infinite or NaN.
    """
    for name, value in state.items():
        if value.is_floating_point() and not torch.isfinite(value).all():
            raise CheckpointError(f"{source}: `{name}` is not finite. Take an earlier checkpoint.")
