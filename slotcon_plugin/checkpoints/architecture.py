"""What is known of an encoder's architecture; recognizes ResNets by their weights."""

import copy
from collections.abc import Mapping
from functools import cache
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from ..errors import CheckpointError, ConfigError
from ..models.backbones import DEPTHS, STRIDES, TorchvisionResNet, spatial_conv
from .names import DEEP_STEM, DETECTRON2, TORCHVISION, Pairs, differences

# How the users of each library load the file of a ResNet.
USAGES = {
    "openmmlab": "backbone=dict(type='ResNet', depth={depth}, {stages}"
    "init_cfg=dict(type='Pretrained', checkpoint='{file}')), in {libraries}",
    "torchvision": "net = torchvision.models.resnet{depth}(); net.fc = torch.nn.Identity(); "
    "net.load_state_dict({load})",
    "timm": "timm.create_model('resnet{depth}', num_classes=0, checkpoint_path='{file}')",
    "detectron2": "MODEL: {{WEIGHTS: {file}, PIXEL_MEAN: {mean}, PIXEL_STD: {std}, "
    "RESNETS: {{DEPTH: {depth}, STRIDE_IN_1X1: False}}}}, INPUT: {{FORMAT: RGB}}",
}
ALWAYS_FOUR_STAGES = ("torchvision", "timm")
# What weights do not show, in a checkpoint's metadata and in the config of a ResNet.
STAGES = ("strides", "dilations", "contract_dilation")
CONTRACTED = "where the first block of each stage has the dilation of the stage before"
DETECTRON2_STEM = "stem.conv1.weight"


class Architecture(Protocol):
    """What the tools know of an encoder: `ResNetArchitecture`, or `ConfiguredEncoder`."""

    @property
    def is_plain(self) -> bool:
        """Whether the network that other libraries build for these weights computes the same."""

    def build(self, stage: int | None = None) -> nn.Module:
        """The encoder with random weights; with `stage`, from 1 on, only up to that stage's map."""

    def shapes(self) -> dict[str, Tensor]:
        """Its state dict without data (device "meta")."""

    def describe(self) -> dict[str, Any]:
        """Plain values for the metadata of an exported file."""

    def table(self, names: Mapping[str, object]) -> Pairs:
        """The table from its names to those of a network that has `names`."""

    def refusal(self, library: str) -> str | None:
        """Why it cannot be exported for a library; None if it can."""

    def usage(self, library: str, file: str, load: str, pixels: dict) -> str:
        """A line that loads an exported file; `load` is code that reads its state dict."""

    def limits(self) -> list[str]:
        """What cannot be done with it beside exports, for the log."""


class ResNetArchitecture(NamedTuple):
    """A ResNet of torchvision's kind, with one 7x7 convolution in its stem and the stride in the
    3x3 convolutions of its blocks. With fewer than four stages the last ones are absent. Strides
    and dilations, one for each stage, are those of mmdet's and mmseg's ResNets, or, if the first
    block of each stage has the dilation of the stage before (`contract_dilation`), torchvision's;
    weights do not show them."""

    depth: int
    num_stages: int
    strides: tuple[int, ...] = STRIDES
    dilations: tuple[int, ...] = (1, 1, 1, 1)
    contract_dilation: bool = False

    @property
    def is_plain(self) -> bool:
        """Whether strides and dilations are torchvision's."""
        return self.strides == STRIDES[: self.num_stages] and set(self.dilations) == {1}

    def with_stages(
        self, strides: Any, dilations: Any, contract: Any, source: str
    ) -> "ResNetArchitecture":
        """The same with other strides and dilations, from metadata; None is the default."""
        defaults = STRIDES[: self.num_stages], (1,) * self.num_stages
        found = [
            default if values is None else values
            for values, default in zip((strides, dilations), defaults)
        ]
        for values in found:
            is_list = isinstance(values, list | tuple) and len(values) == self.num_stages
            if not is_list or not all(type(n) is int and 0 < n <= 64 for n in values):
                raise CheckpointError(
                    f"{source}: strides {strides} and dilations {dilations} are damaged, expected "
                    f"{self.num_stages} numbers from 1 on in each, one for each stage."
                )
        if not isinstance(contract, bool | None):
            raise CheckpointError(
                f"{source}: contract_dilation {contract!r} is damaged, expected true or false."
            )
        strides, dilations = map(tuple, found)
        contract = bool(contract) and set(dilations) != {1}  # or there is no difference
        return self._replace(strides=strides, dilations=dilations, contract_dilation=contract)

    def __str__(self) -> str:
        absent = [f"layer{i + 1}" for i in range(self.num_stages, 4)]
        name = f"ResNet-{self.depth}" + f" without {', '.join(absent)}" * bool(absent)
        name += f", strides {self.strides}, dilations {self.dilations}" * (not self.is_plain)
        return name + ", contract_dilation" * self.contract_dilation

    def build(self, stage: int | None = None) -> TorchvisionResNet:
        net = TorchvisionResNet(**self._asdict())
        if stage is not None:
            if not 1 <= stage <= self.num_stages:
                raise ConfigError(f"--stage {stage}: {self} has the stages 1 to {self.num_stages}.")
            net.stages, net.out_indices = net.stages[:stage], (stage - 1,)
        return net

    def shapes(self) -> dict[str, Tensor]:
        return _state_dict(self)

    def describe(self) -> dict[str, Any]:
        return {
            "name": f"resnet{self.depth}",
            **self._asdict(),
            "stem": "7x7 convolution, stride 2, 3x3 max pooling (not a deep stem)",
            "stride_in_1x1": False,
        }

    def table(self, names: Mapping[str, object]) -> Pairs:
        return DETECTRON2 if DETECTRON2_STEM in names else TORCHVISION

    def refusal(self, library: str) -> str | None:
        count = self.num_stages
        if count == 4 or library not in ALWAYS_FOUR_STAGES:
            return None
        return (
            f"This encoder is a {self}; {library}'s resnet{self.depth} always has "
            "four stages, so the last ones would stay random. Export it --to openmmlab (num_stages="
            f"{count}) or --to detectron2 (OUT_FEATURES up to res{count + 1}), or pretrain with "
            "four stages, as slotcon_r18_own does."
        )

    def usage(self, library: str, file: str, load: str, pixels: dict) -> str:
        depth, count, strides, dilations, contract = self
        stages = f"strides={strides}, dilations={dilations}, "
        stages += "contract_dilation=True, " * contract
        fewer = f"num_stages={count}, {stages}out_indices={tuple(range(count))}, "
        return USAGES[library].format(
            depth=depth,
            stages=fewer if count < 4 else stages * (not self.is_plain),
            libraries="mmseg" if contract else "mmdet and mmseg",
            file=file,
            load=load,
            mean=pixels["mean_0_255"],
            std=pixels["std_0_255"],
        )

    def limits(self) -> list[str]:
        if self.num_stages == 4:
            return []
        return [f"--backbone for a network of four stages: the encoder has {self.num_stages}"]


@cache
def _state_dict(architecture: ResNetArchitecture) -> dict[str, Tensor]:
    with torch.device("meta"):
        return TorchvisionResNet(architecture.depth, architecture.num_stages).state_dict()


def refuse_deep_stem(names: Mapping[str, object], owner: str) -> None:
    """Raise CheckpointError for ResNetV1c and ResNetV1d, whose stem SlotCon's encoder lacks."""
    is_convnext = any(
        name.startswith("stages.") for name in names
    )  # timm's, whose stem has 2 layers
    if DEEP_STEM in names and not is_convnext:
        raise CheckpointError(
            f"{owner} has a deep stem of three 3x3 convolutions (ResNetV1c or ResNetV1d), but "
            "SlotCon's encoder has one 7x7 convolution, so the first layers would stay random. Use "
            "type='ResNet', in mmseg as in mmdet."
        )


def recognize(state: Mapping[str, Tensor], source: str) -> ResNetArchitecture:
    """The ResNet that has exactly these tensors, under torchvision's names without the classifier.

    The first two stages of ResNet-50, 101 and 152 are equal; then the smallest one is returned.
    For any other architecture, missing tensors or other shapes CheckpointError is raised.
    """
    refuse_deep_stem(state, source)
    stages = [n for n in (1, 2, 3, 4) if any(name.startswith(f"layer{n}.") for name in state)]
    candidates = [ResNetArchitecture(depth, max(stages, default=4)) for depth in DEPTHS]
    closest = min(candidates, key=lambda one: len(_shapes(state) ^ _shapes(_state_dict(one))))
    if problems := differences(state, _state_dict(closest)):
        raise CheckpointError(
            f"{source} is not a complete ResNet of torchvision's kind. Compared with the most "
            f"similar one, {closest}: {problems}. Known are ResNet-{', '.join(map(str, DEPTHS))}, "
            "and what the config in a checkpoint describes: TimmEncoder, and some of OpenMMLab's "
            "encoders (docs/encoders.md)."
        )
    return closest.with_stages(None, None, None, source)


def stages_of(backbone: nn.Module) -> tuple[tuple[int, ...], tuple[int, ...], bool]:
    """Strides and dilations of the stages of a ResNet with torchvision's names, and whether the
    dilation of a stage's first block is another one."""
    stages = [
        getattr(backbone, f"layer{n}") for n in (1, 2, 3, 4) if hasattr(backbone, f"layer{n}")
    ]
    first, last = ([spatial_conv(stage[i]) for stage in stages] for i in (0, -1))
    dilations, own = (tuple(conv.dilation[0] for conv in convs) for convs in (last, first))
    return tuple(conv.stride[0] for conv in first), dilations, own != dilations


@torch.no_grad()
def describe_module(backbone: nn.Module, name: str) -> ResNetArchitecture:
    """The ResNet that a module is, of any class: of the same weights it makes the same map.

    This is tried on a copy with other norms, since a norm that starts at 0 hides what precedes it.

    Raises:
        CheckpointError: it has other weights, or computes something else with them.
    """
    found = recognize(backbone.state_dict(), name)
    own = copy.deepcopy(backbone).float().cpu()
    own.eval()  # mmdet's ResNet does not return itself
    try:
        found = found.with_stages(*stages_of(own), name)
        generator = torch.Generator().manual_seed(0)
        for name_, p in own.named_parameters():
            if p.ndim == 1 and name_.endswith("weight"):
                p.uniform_(0.5, 1.5, generator=generator)
        with torch.device("meta"):
            twin = TorchvisionResNet(**found._asdict()).eval()
        twin.load_state_dict(own.state_dict(), assign=True)
        images = torch.randn(1, 3, 96, 96, generator=generator)
        maps, expected = own(images), twin(images)[-1]
        last = maps if isinstance(maps, Tensor) else maps[-1]
        if last.shape == expected.shape and torch.allclose(
            last, expected, rtol=0, atol=1e-4 * float(expected.abs().max())
        ):
            return found
        reason = f"its map differs from that of a {found} with the same weights"
    except (AttributeError, IndexError, ValueError, RuntimeError) as error:
        reason = f"it could not be compared with one ({type(error).__name__}: {error})"
    raise CheckpointError(
        f"{name} has the weights of a ResNet of torchvision's kind, but {reason}. Such are mmdet's "
        "and mmseg's ResNet with style='pytorch' and no multi_grid; with contract_dilation only "
        f"{CONTRACTED}."
    )


def _shapes(state: Mapping[str, Tensor]) -> set[tuple[str, torch.Size]]:
    return {(name, value.shape) for name, value in state.items()}
