"""Frozen networks to evaluate: an encoder of any origin, or the whole of SlotCon's grouping."""

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
from ..datasets.data_preprocessor import TwoViewPreprocessor
from ..errors import CheckpointError, ConfigError
from ..functional.grouping import prototype_scores, unit_directions
from ..models.backbones import TorchvisionResNet
from ..models.mlp import PixelProjector

# Names of projector and prototypes of each part, in our checkpoints.
GROUPING = {
    "teacher": ("teacher.neck.", "teacher.prototypes.weight"),
    "student": ("neck.", "head.prototypes.weight"),
}


class DenseFeatures(nn.Module):
    """An encoder, and a projector if there is one, in evaluation mode.

    The last of the encoder's maps is used. `pixels` has `mean_0_1` and `std_0_1` of each RGB
    channel, for pixels in [0, 1]; `origin` says what the network is, for the report.
    """

    def __init__(self, encoder: nn.Module, pixels: dict, origin: str):
        super().__init__()
        self.encoder = encoder.eval().requires_grad_(False)
        self.projector = nn.Identity()
        self.preprocessor = TwoViewPreprocessor(pixels["mean_0_1"], pixels["std_0_1"])
        self.origin = origin

    @torch.no_grad()
    def forward(self, images_b3hw: Tensor) -> Tensor:
        """Features (b, c, h, w) of uint8 RGB images, not of unit length."""
        pixels = self.preprocessor(dict(inputs=images_b3hw))["inputs"]
        return self.projector(self.encoder(pixels)[-1])


class PixelGroups(nn.Module):
    """Prototypes on projected features, in evaluation mode."""

    def __init__(self, features: DenseFeatures, projector: nn.Module, prototypes_kd: Tensor):
        super().__init__()
        self.origin = features.origin
        self.features = features
        features.projector = projector.eval().requires_grad_(False)
        features.origin += ", projected"
        self.register_buffer("prototypes_kd", prototypes_kd)

    def forward(self, images_b3hw: Tensor) -> Tensor:
        """Cosine scores (b, k, h, w) of uint8 RGB images."""
        return prototype_scores(unit_directions(self.features(images_b3hw)), self.prototypes_kd)


def open_encoder(
    source: str, part: str | None = None, stage: int | None = None, seed: int = 0
) -> DenseFeatures:
    """Read an encoder, or make a random one.

    Args:
        source: a file that `read_encoder` reads; "random:resnet50" for the initialization of a
            training; or "supervised:resnet50" for torchvision's ImageNet weights
            (IMAGENET1K_V1), which torchvision downloads into its cache once.
        part: "teacher" or "student" of a full checkpoint; by default the teacher.
        stage: 1-4, the stage whose map is used; by default the last one.
        seed: of random weights.
    """
    depth = _named_depth(source)
    if depth is not None and part is not None:
        raise ConfigError(f"--part {part} cannot be used with {source}.")
    if source.startswith("random:"):
        pixels, origin = describe_pixels({}), f"{source}, seed {seed}"
        with torch.random.fork_rng(devices=()):
            torch.manual_seed(seed)
            try:
                net = TorchvisionResNet(depth)
            except ValueError as error:
                raise ConfigError(f"{source}: {error}") from error
    else:
        encoder = read_encoder(Path(source) if depth is None else supervised_file(depth), part)
        net = TorchvisionResNet(**encoder.architecture._asdict())
        fill(net, encoder)
        pixels, origin = encoder.meta["pixels"], source
        if depth is None:
            part = encoder.meta["origin"].get("part", "encoder")
            origin = f"{Path(source)}, {part}, {encoder.architecture}"
    if stage is not None:
        if not 1 <= stage <= len(net.stages):
            raise ConfigError(f"--stage {stage}: {source} has the stages 1 to {len(net.stages)}.")
        net.stages, net.out_indices = net.stages[:stage], (stage - 1,)
        origin += f", stage {stage}"
    return DenseFeatures(net, pixels, origin)


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


def open_groups(path: str | Path, part: str = "teacher") -> PixelGroups:
    """Read encoder, projector and prototypes of a full checkpoint, ours or a published one.

    Sizes are those of the weights; no config is executed.
    """
    alone = (
        f"{path} is an encoder alone, without projector and prototypes: a full checkpoint is "
        "needed here. Without --projected, the sub-command overcluster takes any encoder."
    )
    if _named_depth(str(path)) is not None:
        raise ConfigError(alone)
    features = open_encoder(str(path), part)
    tensors, kind = find_tensors(read_file(path), str(path))
    if kind == "published":
        tensors = rename(tensors, reverse(PUBLISHED), (), str(path)).values
    neck, prototypes = GROUPING[part]
    state = {k.removeprefix(neck): v for k, v in tensors.items() if k.startswith(neck)}
    needed = (tensors.get(prototypes), state.get("mlp.0.weight"), state.get("mlp.6.weight"))
    if any(tensor is None or tensor.ndim < 2 for tensor in needed):
        raise CheckpointError(f"{alone} It has no {neck}mlp.* and {prototypes}.")
    hidden, inputs = state["mlp.0.weight"].shape[:2]
    projector = PixelProjector(inputs, hidden, len(state["mlp.6.weight"]))
    try:
        projector.load_state_dict(state)
    except RuntimeError as error:
        raise CheckpointError(f"{path}: this is not SlotCon's projector: {error}") from error
    return PixelGroups(features, projector, F.normalize(tensors[prototypes].float(), dim=1))
