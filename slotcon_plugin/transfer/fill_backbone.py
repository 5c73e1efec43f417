"""Weights into the backbone of a model: a pretraining's, torchvision's, or none, as asked for."""

from pathlib import Path

from mmengine.config import ConfigDict
from torch import nn

from ..checkpoints import Encoder, fill, read_encoder
from ..checkpoints.fill import supervised_file
from ..errors import ConfigError
from ..models.slotcon import SlotCon

RANDOM, SUPERVISED = "none", "supervised"
UNNAMED = "unnamed"  # a config's default: MMEngine knows no empty one

# Where a model keeps its backbone; `backbone` for every other class.
PLACES = {"Detectron2Wrapper": "d2_model.backbone.bottom_up"}


def check_source(source: str | None) -> None:
    """Look at what is asked for before anything long begins.

    Args:
        source: a file that tools/export.py wrote, a checkpoint, 'supervised' or 'none'.

    Raises:
        ConfigError: nothing is named.
        CheckpointError: the file cannot be used.
    """
    _require_name(source)
    if source not in (RANDOM, SUPERVISED):
        read_encoder(Path(source))


def read_source(source: str | None, depth: int | None = None) -> Encoder:
    """The encoder of a file or, for 'supervised', torchvision's ResNet of this depth.

    Raises:
        ConfigError: nothing is named.
        CheckpointError: the file cannot be used.
    """
    _require_name(source)
    return read_encoder(supervised_file(depth) if source == SUPERVISED else Path(source))


def _require_name(source: str | None) -> None:
    if source in (None, "", UNNAMED):
        raise ConfigError(
            "No backbone is named, and random weights would give a result that means nothing. "
            "Give --backbone FILE (an export or a checkpoint of ours), --backbone supervised "
            "(torchvision's ImageNet weights) or --backbone none (random). Outside tools/train.py: "
            "the environment's SLOTCON_BACKBONE, or `source` of the config's BackboneHook."
        )


def fill_backbone(model: nn.Module, model_cfg: ConfigDict, source: str | None) -> str:
    """Fill the backbone of a built model; every weight of the backbone must be found and used.

    Args:
        model: an mmdet, mmseg, Detectron2Wrapper or SlotCon model.
        model_cfg: the config it was built from.
        source: as in `check_source`.

    Returns:
        What was done, for the log.

    Raises:
        ConfigError: nothing is named, or the model has no backbone where it is expected.
        CheckpointError: the file cannot be used, or does not fit the backbone exactly.
    """
    if source == RANDOM:
        return "backbone: random weights, as asked for"
    place = PLACES.get(type(model).__name__, "backbone")
    try:
        backbone = model.get_submodule(place)
    except AttributeError:
        raise ConfigError(
            f"{type(model).__name__} has no `{place}` to put the backbone's weights in."
        ) from None
    depth = backbone_depth(model_cfg) if source == SUPERVISED else None
    report = fill_module(backbone, source, depth)
    if isinstance(model, SlotCon):
        model.teacher.start_equal(*model.student)
    return report


def fill_module(backbone: nn.Module, source: str | None, depth: int | None = None) -> str:
    """Fill a backbone that stands alone; see `fill_backbone`.

    Args:
        backbone: a ResNet of mmdet, mmseg, torchvision, timm or detectron2.
        source: a file, or 'supervised'.
        depth: the ResNet's depth; wanted for 'supervised' only.
    """
    encoder = read_source(source, depth)
    fill(backbone, encoder)
    return (
        f"backbone: {encoder.architecture} from {encoder.source} ({encoder.kind}), all "
        f"{len(encoder.state_dict)} tensors used, {encoder.meta['digest'][:19]}"
    )


def backbone_depth(model_cfg: ConfigDict) -> int:
    """The depth of a model's ResNet, as its config says."""
    if "detector" in model_cfg:
        return model_cfg.detector.resnets.depth
    depth = model_cfg.get("backbone", {}).get("depth")
    if depth is None:
        raise ConfigError(
            "--backbone supervised needs a ResNet with `model.backbone.depth` in the config."
        )
    return depth
