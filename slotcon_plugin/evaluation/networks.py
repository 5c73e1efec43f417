"""Frozen networks to evaluate: an encoder of any origin, or the whole of SlotCon's grouping."""

import re
from pathlib import Path

import torch
from torch import Tensor, nn

from ..checkpoints import fill
from ..checkpoints.architecture import ResNetArchitecture
from ..checkpoints.containers import read_file
from ..checkpoints.decoder_weights import FPN, Decoder
from ..checkpoints.encoder import ALL, ALONE, encoder_of
from ..checkpoints.fill import supervised_file
from ..checkpoints.metadata import describe_pixels
from ..datasets.data_preprocessor import TwoViewPreprocessor
from ..errors import CheckpointError, ConfigError
from ..functional.grouping import pool_slots, prototype_scores, unit_directions
from ..models.backbones import TorchvisionResNet
from ..models.levels import ENCODER, choose_level
from .group_weights import (
    ENCODER_ALONE,
    GROUPING,
    PAPERS_TEMPERATURE,
    levels_in,
    read_grouping,
    read_temperature,
)
from .untrained import untrained_content

_NO_DECODER = "--level {}: {} has no decoder, only the level encoder."
RANDOM = "random:"  # in front of a config, or of resnet50


class DecodedMap(nn.Module):
    """An encoder that returns the map of a level of the decoder that was pretrained with it.

    `channels` are those of the maps that the decoder takes, the encoder's last ones; None: all.
    """

    def __init__(
        self, encoder: nn.Module, decoder: nn.Module, level: int, channels: list[int] | None = None
    ) -> None:
        super().__init__()
        self.encoder, self.decoder = encoder, decoder
        self.level, self.channels = level, channels

    def forward(self, pixels_b3hw: Tensor) -> Tensor:
        maps = self.encoder(pixels_b3hw)
        if self.channels is not None:
            maps = maps[-len(self.channels) :]
            if (found := [one.shape[1] for one in maps]) != self.channels:
                raise CheckpointError(
                    f"The encoder's last maps have {found} channels, but its decoder takes "
                    f"{self.channels}: a decoder of other stages cannot be evaluated."
                )
        maps = self.decoder(maps)
        return maps if isinstance(maps, Tensor) else maps[self.level]


class DenseFeatures(nn.Module):
    """An encoder, and a projector if there is one, in evaluation mode.

    The last of the encoder's maps is used, or that of a `DecodedMap`. `pixels` has `mean_0_1` and
    `std_0_1` of each RGB channel, for pixels in [0, 1]; `origin` says what the network is.
    """

    def __init__(self, encoder: nn.Module, pixels: dict, origin: str):
        super().__init__()
        encoder.eval()  # mmdet's ResNet does not return itself
        self.encoder = encoder.requires_grad_(False)
        self.projector = nn.Identity()
        self.preprocessor = TwoViewPreprocessor(pixels["mean_0_1"], pixels["std_0_1"])
        self.origin = origin

    def set_output_stride(self, output_stride: int) -> None:
        """Replace strides of a ResNet by dilations; see `TorchvisionResNet.set_output_stride`."""
        if isinstance(self.encoder, DecodedMap):
            raise ConfigError("--output-stride is for an encoder's map, --level N for a decoder's.")
        if not isinstance(self.encoder, TorchvisionResNet):
            raise ConfigError(
                "--output-stride is for torchvision's ResNets, and those that have its layers; "
                f"this is {self.origin}."
            )
        try:
            self.encoder.set_output_stride(output_stride)
        except ValueError as error:
            raise ConfigError(f"--output-stride {output_stride}: {error}; {self.origin}.") from None
        self.origin += f", output stride {output_stride}"

    @torch.no_grad()
    def encode(self, images_b3hw: Tensor, decoded: bool = True) -> Tensor:
        """The encoder's last map (b, c, h, w) of uint8 RGB images, or a decoder's map."""
        pixels = self.preprocessor(dict(inputs=images_b3hw))["inputs"]
        alone = isinstance(self.encoder, DecodedMap) and not decoded
        maps = self.encoder.encoder(pixels) if alone else self.encoder(pixels)
        return maps if isinstance(maps, Tensor) else maps[-1]

    @torch.no_grad()
    def forward(self, images_b3hw: Tensor) -> Tensor:
        """Features (b, c, h, w) of uint8 RGB images, not of unit length."""
        return self.projector(self.encode(images_b3hw))


class PixelGroups(nn.Module):
    """Prototypes on projected features, in evaluation mode; see `Prototypes` for `temperature`."""

    def __init__(
        self,
        features: DenseFeatures,
        projector: nn.Module,
        prototypes_kd: Tensor,
        temperature: float = PAPERS_TEMPERATURE,
    ):
        super().__init__()
        self.temperature = temperature
        self.origin = features.origin
        self.features = features
        features.projector = projector.eval().requires_grad_(False)
        features.origin += ", projected"
        self.register_buffer("prototypes_kd", prototypes_kd)

    def forward(self, images_b3hw: Tensor) -> Tensor:
        """Cosine scores (b, k, h, w) of uint8 RGB images."""
        return prototype_scores(unit_directions(self.features(images_b3hw)), self.prototypes_kd)

    def slots(self, images_b3hw: Tensor) -> tuple[Tensor, Tensor]:
        """Scores (b, k, h, w), and the slots (b, k, d) of all prototypes, see `pool_slots`."""
        features_bdhw = self.features(images_b3hw)
        scores_bkhw = prototype_scores(unit_directions(features_bdhw), self.prototypes_kd)
        every_k = torch.arange(scores_bkhw.shape[1], device=scores_bkhw.device)
        every_bk = every_k.expand(len(scores_bkhw), -1)
        return scores_bkhw, pool_slots(features_bdhw, scores_bkhw, every_bk, self.temperature)


def open_encoder(
    source: str,
    part: str | None = None,
    stage: int | None = None,
    seed: int = 0,
    level: str | int | None = None,
) -> DenseFeatures:
    """Read an encoder, or make a random one.

    Args:
        source: what `read_encoder` reads; "random:CONFIG" for the network of a pretraining's
            config before its training, "random:resnet50" for the initialization of a ResNet; or
            "supervised:resnet50" for torchvision's ImageNet weights (IMAGENET1K_V1), which
            torchvision downloads into its cache once.
        part: "teacher" or "student" of a full checkpoint; by default the teacher.
        stage: the stage whose map is used, of a ResNet from 1 to 4, of timm's models those that
            timm counts; by default the last one.
        seed: of random weights.
        level: a number of the decoder's levels, 0 is the finest: the decoder's map is used. By
            default, or as "encoder", the encoder's.
    """
    depth = _named_depth(source)
    if depth is not None and part is not None:
        raise ConfigError(f"--part {part} cannot be used with {source}.")
    if depth is None or not source.startswith(RANDOM):
        content = read_source(source if depth is None else supervised_file(depth), seed)
        return _features_in(content, source, part, stage, level, seed)
    if level not in (None, ENCODER):
        raise ConfigError(_NO_DECODER.format(level, source))
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(seed)
        try:
            net = ResNetArchitecture(depth, 4).build(stage)
        except ValueError as error:
            raise ConfigError(f"{source}: {error}") from error
    origin = f"{source}, seed {seed}" + _stage(stage)
    return DenseFeatures(net, describe_pixels({}), origin)


def _features_in(
    content: dict,
    source: str,
    part: str | None,
    stage: int | None = None,
    level: str | int | None = None,
    seed: int = 0,
) -> DenseFeatures:
    """The encoder in the content of a file, or its decoder's map; arguments of `open_encoder`."""
    level = None if level == ENCODER else level
    if level is not None and stage is not None:
        raise ConfigError("--stage selects an encoder's map, --level a decoder's: use one.")
    encoder = encoder_of(content, Path(source), part, parts=ALONE if level is None else ALL)
    net = encoder.architecture.build(stage)
    used = encoder.state_dict if stage is None else net.state_dict()
    state = {name: v for name, v in encoder.state_dict.items() if name in used}
    fill(net, encoder._replace(state_dict=state))
    origin = source
    if not source.startswith("supervised:"):
        origin += f", {encoder.meta['origin'].get('part', 'encoder')}, {encoder.architecture}"
    origin += f", untrained, seed {seed}" * source.startswith(RANDOM) + _stage(stage)
    if level is not None:
        if encoder.decoder is None:
            raise ConfigError(_NO_DECODER.format(level, source))
        net, origin = _decoded(net, encoder.decoder, level), f"{origin}, decoder's level {level}"
    return DenseFeatures(net, encoder.meta["pixels"], origin)


def _stage(stage: int | None) -> str:
    return "" if stage is None else f", stage {stage}"


def _decoded(encoder: nn.Module, decoder: Decoder, level: int) -> DecodedMap:
    """The decoder of a file on its encoder."""
    net, channels = decoder.build(), decoder.description["in_channels"]
    channels = channels if isinstance(channels, list) else [channels]
    maps = decoder.description["layers"] if decoder.name == FPN else 1
    choose_level(range(maps), level, f"the decoder, {decoder},")
    if isinstance(encoder, TorchvisionResNet):
        encoder.out_indices = tuple(range(len(encoder.stages)))
    return DecodedMap(encoder, net, level, channels)


def read_source(source: str | Path, seed: int) -> dict:
    """The content of a file, or of the checkpoint that "random:CONFIG" stands for."""
    config = str(source).removeprefix(RANDOM)
    return read_file(source) if config == str(source) else untrained_content(config, seed)


def _named_depth(source: str) -> int | None:
    """The depth of "random:resnet50" or "supervised:resnet50"; None for a file or a config."""
    kind, _, name = source.partition(":")
    is_config = f"{kind}:" == RANDOM and not re.fullmatch(r"resnet\d+", name)
    if kind not in ("random", "supervised") or is_config:
        return None
    depth = name.removeprefix("resnet")
    if not name.startswith("resnet") or not depth.isdigit():
        raise ConfigError(
            f"{source}: expected {kind}:resnet18, :resnet34, :resnet50, :resnet101 or :resnet152."
        )
    return int(depth)


def open_groups(
    path: str | Path, part: str = "teacher", level: str | int | None = None, seed: int = 0
) -> PixelGroups:
    """Read encoder, projector and prototypes of a full checkpoint, ours or a published one.

    `path` may be "random:CONFIG", with weights of `seed`, see `open_encoder`. With a decoder,
    `level` is "encoder" or the number of a decoder's level; None: 0, the finest. Sizes are those of
    the weights; no config in a file is executed.
    """
    if _named_depth(str(path)) is not None:
        raise ConfigError(ENCODER_ALONE.format(path))
    content = read_source(path, seed)
    if not (levels := levels_in(content, path, part)):
        raise CheckpointError(f"{ENCODER_ALONE.format(path)} It has no {GROUPING[part][1]}.")
    return groups_in(content, path, part, choose_level(levels, level, path), seed)


def groups_in(
    content: dict, path: str | Path, part: str, level: str | int, seed: int = 0
) -> PixelGroups:
    """Encoder, projector and prototypes of a level in the content of a full checkpoint."""
    features = _features_in(content, str(path), part, level=level, seed=seed)
    projector, prototypes_kd = read_grouping(content, path, part, level)
    return PixelGroups(features, projector, prototypes_kd, read_temperature(content, path, level))


def open_whole(
    path: str | Path, part: str | None = None, level: str | int | None = None, seed: int = 0
) -> PixelGroups | DenseFeatures:
    """Read everything of a file: `open_groups`, or `open_encoder` if it has no prototypes."""
    if _named_depth(str(path)) is not None:
        return open_encoder(str(path), part, seed=seed, level=level)
    return whole_in(read_source(path, seed), path, part, level, seed)


def whole_in(
    content: dict,
    path: str | Path,
    part: str | None = None,
    level: str | int | None = None,
    seed: int = 0,
) -> PixelGroups | DenseFeatures:
    """The same of the content of a file."""
    grouped = part or "teacher"
    if levels := levels_in(content, path, grouped):
        return groups_in(content, path, grouped, choose_level(levels, level, path), seed)
    return _features_in(content, str(path), part, level=level, seed=seed)
