"""Frozen networks to evaluate: an encoder of any origin, or the whole of SlotCon's grouping."""

import re
from itertools import count, takewhile
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..checkpoints import fill, read_encoder
from ..checkpoints.architecture import ResNetArchitecture
from ..checkpoints.containers import read_file
from ..checkpoints.decoder_weights import FPN, Decoder
from ..checkpoints.encoder import ALL, ALONE, find_tensors
from ..checkpoints.fill import supervised_file
from ..checkpoints.metadata import describe_pixels, lookup, read_config
from ..checkpoints.names import PUBLISHED, differences, rename, reverse
from ..datasets.data_preprocessor import TwoViewPreprocessor
from ..errors import CheckpointError, ConfigError
from ..functional.grouping import pool_slots, prototype_scores, unit_directions
from ..models.backbones import TorchvisionResNet
from ..models.levels import ENCODER, choose_level
from ..models.mlp import PixelProjector
from ..runtime.config_rules import POSITIVE
from ..runtime.safe_loading import check_finite

_ALONE = (
    "{} is an encoder alone, without projector and prototypes: a full checkpoint is needed here. "
    "slotcon evaluate overcluster, retrieval, probe and knn take any encoder."
)

TEMPERATURE = 0.07  # of the attention that pools slots: the paper's τ_t
# Names of projector and prototypes of each part, in our checkpoints.
GROUPING = {
    "teacher": ("teacher.neck.", "teacher.prototypes.weight"),
    "student": ("neck.", "head.prototypes.weight"),
}
# The same of a decoder's level.
GROUPING_DECODER = {
    "teacher": ("teacher.decoder_necks.{}.", "teacher.decoder_prototypes.{}.weight"),
    "student": ("decoder_necks.{}.", "decoder_heads.{}.prototypes.weight"),
}


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

    @torch.no_grad()
    def encode(self, images_b3hw: Tensor) -> Tensor:
        """The encoder's last map (b, c, h, w) of uint8 RGB images."""
        pixels = self.preprocessor(dict(inputs=images_b3hw))["inputs"]
        maps = self.encoder(pixels)
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
        temperature: float = TEMPERATURE,
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
        source: a file that `read_encoder` reads; "random:resnet50" for the initialization of a
            training; or "supervised:resnet50" for torchvision's ImageNet weights
            (IMAGENET1K_V1), which torchvision downloads into its cache once.
        part: "teacher" or "student" of a full checkpoint; by default the teacher.
        stage: the stage whose map is used, of a ResNet from 1 to 4, of timm's models those that
            timm counts; by default the last one.
        seed: of random weights.
        level: a number of the decoder's levels, 0 is the finest: the decoder's map is used. By
            default, or as "encoder", the encoder's.
    """
    level = None if level == ENCODER else level
    if level is not None and stage is not None:
        raise ConfigError("--stage selects an encoder's map, --level a decoder's: use one.")
    depth = _named_depth(source)
    if depth is not None and part is not None:
        raise ConfigError(f"--part {part} cannot be used with {source}.")
    if source.startswith("random:"):
        pixels, origin = describe_pixels({}), f"{source}, seed {seed}"
        with torch.random.fork_rng(devices=()):
            torch.manual_seed(seed)
            try:
                net = ResNetArchitecture(depth, 4).build(stage)
            except ValueError as error:
                raise ConfigError(f"{source}: {error}") from error
    else:
        path = Path(source) if depth is None else supervised_file(depth)
        encoder = read_encoder(path, part, parts=ALONE if level is None else ALL)
        net = encoder.architecture.build(stage)
        used = encoder.state_dict if stage is None else net.state_dict()
        state = {name: v for name, v in encoder.state_dict.items() if name in used}
        fill(net, encoder._replace(state_dict=state))
        pixels, origin = encoder.meta["pixels"], source
        if depth is None:
            part = encoder.meta["origin"].get("part", "encoder")
            origin = f"{Path(source)}, {part}, {encoder.architecture}"
    if stage is not None:
        origin += f", stage {stage}"
    if level is not None:
        decoder = None if source.startswith("random:") else encoder.decoder
        if decoder is None:
            raise ConfigError(f"--level {level}: {source} has no decoder, only the level encoder.")
        net, origin = _decoded(net, decoder, level), f"{origin}, decoder's level {level}"
    return DenseFeatures(net, pixels, origin)


def _decoded(encoder: nn.Module, decoder: Decoder, level: int) -> DecodedMap:
    """The decoder of a file on its encoder."""
    net, channels = decoder.build(), decoder.description["in_channels"]
    channels = channels if isinstance(channels, list) else [channels]
    maps = decoder.description["layers"] if decoder.name == FPN else 1
    choose_level(range(maps), level, f"the decoder, {decoder},")
    if isinstance(encoder, TorchvisionResNet):
        encoder.out_indices = tuple(range(len(encoder.stages)))
    return DecodedMap(encoder, net, level, channels)


def _named_depth(source: str) -> int | None:
    """The depth of "random:resnet50" or "supervised:resnet50"; None for a file."""
    kind, _, name = source.partition(":")
    if kind not in ("random", "supervised"):
        return None
    depth = name.removeprefix("resnet")
    if not name.startswith("resnet") or not depth.isdigit():
        raise ConfigError(
            f"{source}: expected {kind}:resnet18, :resnet34, :resnet50, :resnet101 or :resnet152."
        )
    return int(depth)


def open_groups(
    path: str | Path, part: str = "teacher", level: str | int | None = None
) -> PixelGroups:
    """Read encoder, projector and prototypes of a full checkpoint, ours or a published one.

    With a decoder, `level` is "encoder" or the number of a decoder's level; None: 0, the finest.
    Sizes are those of the weights; no config is executed.
    """
    if _named_depth(str(path)) is not None:
        raise ConfigError(_ALONE.format(path))
    content = read_file(path)
    if not (levels := levels_in(content, path, part)):
        raise CheckpointError(f"{_ALONE.format(path)} It has no {GROUPING[part][1]}.")
    level = choose_level(levels, level, path)
    features, grouping = open_encoder(str(path), part, level=level), (content, path, part, level)
    return PixelGroups(features, *read_grouping(*grouping), _temperature(content, path, level))


def levels_in(content: dict, path: str | Path, part: str = "teacher") -> list[str | int]:
    """The levels of which a file has prototypes; [] for an encoder alone."""
    tensors, kind = find_tensors(content, str(path), known=True)
    first = [ENCODER] if kind == "published" or GROUPING[part][1] in tensors else []
    prototypes = GROUPING_DECODER[part][1]
    return first + list(takewhile(lambda i: prototypes.format(i) in tensors, count()))


def open_whole(
    path: str | Path, part: str | None = None, level: str | int | None = None
) -> PixelGroups | DenseFeatures:
    """Read everything of a file: `open_groups`, or `open_encoder` if it has no prototypes."""
    if _named_depth(str(path)) is None and levels_in(read_file(path), path, part or "teacher"):
        return open_groups(path, part or "teacher", level)
    return open_encoder(str(path), part, level=level)


def _temperature(content: dict, path: str | Path, level: str | int) -> float:
    """τ of the attention that pools slots; the paper's if the file has no config."""
    model = lookup(read_config(content), "model")
    head = lookup(model, "head" if level == ENCODER else "decoder_head")
    if isinstance(head, list | tuple) and level != ENCODER:
        head = head[level] if level < len(head) else None
    value = lookup(head, "prototypes.temperature") or TEMPERATURE
    if not POSITIVE.accepts(value):
        raise CheckpointError(f"{path}: its temperature is {value!r}, expected a positive number.")
    return value


def read_grouping(
    content: dict, path: str | Path, part: str = "teacher", level: str | int = ENCODER
) -> tuple[PixelProjector, Tensor]:
    """Projector and prototypes (k, d), of unit length, of a level of a full checkpoint."""
    tensors, kind = find_tensors(content, str(path))
    if kind == "published":
        tensors = rename(tensors, reverse(PUBLISHED), (), str(path)).values
    names = GROUPING[part] if level == ENCODER else GROUPING_DECODER[part]
    neck, prototypes = (name.format(level) for name in names)
    state = {k.removeprefix(neck): v for k, v in tensors.items() if k.startswith(neck)}
    layers = [w for name, w in state.items() if re.fullmatch(r"mlp\.\d+\.weight", name)]
    layers = [weight for weight in layers if weight.ndim == 4]
    if not layers or prototypes not in tensors:
        raise CheckpointError(f"{_ALONE.format(path)} It has no {neck}mlp.* and {prototypes}.")
    (hidden, inputs), outputs = layers[0].shape[:2], len(layers[-1])
    norm = "mlp.1.weight" in state
    projector = PixelProjector(inputs, hidden, outputs, len(layers), batch_norm=norm)
    prototypes_kd = tensors[prototypes]
    problems = differences(state, projector.state_dict())
    if problems or prototypes_kd.shape[1:] != (outputs,):
        found = f"{tuple(prototypes_kd.shape)} prototypes"
        raise CheckpointError(
            f"{path}: these are not SlotCon's projector and prototypes. Of the projector: "
            f"{problems or 'nothing differs'}; {found}, expected (K, {outputs})."
        )
    check_finite({**state, prototypes: prototypes_kd}, str(path))
    projector.load_state_dict(state)
    return projector, F.normalize(prototypes_kd.float(), dim=1)
