"""Frozen networks to evaluate: an encoder from anywhere, or SlotCon's whole grouping."""

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..checkpoints import fill, read_encoder
from ..checkpoints.containers import read_file
from ..checkpoints.encoder import find_tensors
from ..checkpoints.fill import supervised_file
from ..checkpoints.metadata import describe_pixels
from ..checkpoints.names import PUBLISHED, rename, reverse
from ..datasets.photometric import normalize, to_unit_range
from ..errors import CheckpointError, ConfigError
from ..functional.grouping import prototype_scores, unit_directions
from ..models.backbones import TorchvisionResNet
from ..models.mlp import PixelProjector

# Where student and teacher keep the parts of their grouping, in our names.
GROUPING = {
    "teacher": ("teacher.neck.", "teacher.prototypes.weight"),
    "student": ("neck.", "head.prototypes.weight"),
}


class DenseFeatures(nn.Module):
    """An encoder in evaluation mode: 8-bit images in, one of its feature maps out.

    Args:
        encoder: gives its maps in a tuple, the last one is taken.
        mean, std: for each channel, RGB, in the units of 0-1 pixels.
        origin: what it is, for the report.
    """

    def __init__(self, encoder: nn.Module, mean: list[float], std: list[float], origin: str):
        super().__init__()
        self.encoder = encoder.eval().requires_grad_(False)
        self.register_buffer("mean_c", torch.tensor(mean))
        self.register_buffer("std_c", torch.tensor(std))
        self.origin = origin

    @torch.no_grad()
    def forward(self, images_b3hw: Tensor) -> Tensor:
        """Features (b, c, h, w) of uint8 RGB images, not normalized."""
        pixels = to_unit_range(images_b3hw.to(self.mean_c.device))
        return self.encoder(normalize(pixels, self.mean_c, self.std_c))[-1]


class PixelGroups(nn.Module):
    """Projector and prototypes on top of an encoder, in evaluation mode."""

    def __init__(self, features: DenseFeatures, projector: nn.Module, prototypes_kd: Tensor):
        super().__init__()
        self.features = features
        self.projector = projector.eval().requires_grad_(False)
        self.register_buffer("prototypes_kd", prototypes_kd)
        self.origin = features.origin

    @torch.no_grad()
    def project(self, images_b3hw: Tensor) -> Tensor:
        """Projected features (b, d, h, w) of uint8 RGB images."""
        return self.projector(self.features(images_b3hw))

    def forward(self, images_b3hw: Tensor) -> Tensor:
        """Cosine scores (b, k, h, w) of uint8 RGB images."""
        return prototype_scores(unit_directions(self.project(images_b3hw)), self.prototypes_kd)


class Projected(nn.Module):
    """The projected features of a `PixelGroups`, in the place of an encoder's."""

    def __init__(self, groups: PixelGroups):
        super().__init__()
        self.groups = groups
        self.origin = f"{groups.origin}, projected"

    def forward(self, images_b3hw: Tensor) -> Tensor:
        """Features (b, d, h, w) of uint8 RGB images, not normalized."""
        return self.groups.project(images_b3hw)


def open_encoder(
    source: str, part: str | None = None, stage: int | None = None, seed: int = 0
) -> DenseFeatures:
    """An encoder to compare.

    Args:
        source: a file of any kind that `read_encoder` reads; "random:resnet50" for weights as
            training starts with; or "supervised:resnet50" for torchvision's ImageNet weights
            (IMAGENET1K_V1), which torchvision downloads into its cache once.
        part: "teacher" or "student" of a full checkpoint; by default the teacher.
        stage: 1-4, whose map is taken; by default the last stage there is.
        seed: of random weights.

    Raises:
        CheckpointError: the file cannot be used, or the download failed.
        ConfigError: no such architecture or stage.
    """
    kind, _, name = source.partition(":")
    named = _is_named(source)
    if named and part is not None:
        raise ConfigError(f"--part {part} has no meaning with {source}.")
    if named and kind == "random":
        net, pixels, origin = _random(name, seed), describe_pixels({}), f"{source}, seed {seed}"
    else:
        path = supervised_file(_depth(source, name)) if named else Path(source)
        encoder = read_encoder(path, part)
        net = TorchvisionResNet(encoder.architecture.depth, encoder.architecture.num_stages)
        fill(net, encoder)
        pixels = encoder.meta["pixels"]
        held = encoder.meta["origin"].get("part", "encoder")
        origin = source if named else f"{path}, {held}, {encoder.architecture}"
    if stage is not None:
        if not 1 <= stage <= len(net.stages):
            raise ConfigError(f"--stage {stage}: {source} has the stages 1 to {len(net.stages)}.")
        net.stages = net.stages[:stage]
        origin += f", stage {stage}"
    return DenseFeatures(net, pixels["mean_0_1"], pixels["std_0_1"], origin)


def _is_named(source: str) -> bool:
    """Whether it is an architecture's weights instead of a file."""
    return source.startswith(("random:", "supervised:"))


def _depth(source: str, name: str) -> int:
    depth = name.removeprefix("resnet")
    if not name.startswith("resnet") or not depth.isdigit():
        kind = source.partition(":")[0]
        raise ConfigError(
            f"{source}: expected {kind}:resnet18, :resnet34, :resnet50, :resnet101 or :resnet152."
        )
    return int(depth)


def _random(name: str, seed: int) -> TorchvisionResNet:
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(seed)
        try:
            return TorchvisionResNet(_depth(f"random:{name}", name))
        except ValueError as error:
            raise ConfigError(f"random:{name}: {error}") from error


def open_groups(path: str | Path, part: str = "teacher") -> PixelGroups:
    """The grouping in a full checkpoint, ours or a published one: encoder, projector, prototypes.

    Sizes are taken from the weights; no config is run.

    Raises:
        CheckpointError: the file cannot be used, or holds an encoder alone.
        ConfigError: it names random or supervised weights, which are an encoder alone.
    """
    if _is_named(str(path)):
        raise ConfigError(
            f"{path} is an encoder alone, without projector and prototypes: a full checkpoint is "
            "needed here. Without --projected, the sub-command overcluster takes any encoder."
        )
    features = open_encoder(str(path), part)
    tensors, kind = find_tensors(read_file(path), str(path))
    if kind == "published":
        tensors = rename(tensors, reverse(PUBLISHED), (), str(path)).values
    neck, prototypes = GROUPING[part]
    state = {
        name.removeprefix(neck): value for name, value in tensors.items() if name.startswith(neck)
    }
    if prototypes not in tensors or "mlp.0.weight" not in state or "mlp.6.weight" not in state:
        raise CheckpointError(
            f"{path} holds no {neck}mlp.* and {prototypes}: it is an encoder alone. Unsupervised "
            "segmentation needs the full checkpoint; the sub-command overcluster takes any encoder."
        )
    hidden, inside = state["mlp.0.weight"].shape[:2]
    projector = PixelProjector(inside, hidden, len(state["mlp.6.weight"]))
    try:
        projector.load_state_dict(state)
    except RuntimeError as error:
        raise CheckpointError(f"{path}: the projector is not SlotCon's: {error}") from error
    return PixelGroups(features, projector, F.normalize(tensors[prototypes].float(), dim=1))
