"""Fills the backbone of a model with pretrained weights, which the user must name."""

from pathlib import Path

from mmengine.config import Config, ConfigDict
from torch import nn

from ..checkpoints import Encoder, fill, read_encoder
from ..checkpoints.fill import supervised_file
from ..errors import ConfigError
from ..models.slotcon import SlotCon

RANDOM, SUPERVISED = "none", "supervised"
UNNAMED = "unnamed"  # a config's default; MMEngine drops an empty one

# Submodule with the backbone, for model classes that do not call it `backbone`.
SUBMODULES = {"Detectron2Wrapper": "d2_model.backbone.bottom_up"}


def name_backbone(cfg: Config, source: str | None) -> list[str]:
    """Write the source of the backbone's weights into the config.

    Args:
        cfg: any config; a `BackboneHook` is added if it has none and `source` is given.
        source: a file, 'supervised' or 'none'; None keeps the config's own setting.

    Returns:
        What was done, for the log.

    Raises:
        ConfigError: neither `source` nor the config's BackboneHook names a source.
        CheckpointError: the file cannot be used.
    """
    hook = backbone_hook(cfg)
    if hook is None:
        if source is None:
            return []
        added = dict(backbone=dict(type="BackboneHook"))
        cfg.default_hooks = {**(cfg.get("default_hooks") or {}), **added}
        hook = backbone_hook(cfg)
    if source is not None:
        hook["source"] = source
    if cfg.get("resume") or cfg.get("load_from"):
        return ["backbone: from the checkpoint, as all weights"]
    check_source(hook.get("source"))
    return [f"backbone: {'random weights' if hook['source'] == RANDOM else hook['source']}"]


def backbone_hook(cfg: Config) -> dict | None:
    """The config's `BackboneHook`, in `default_hooks` or `custom_hooks`; None if it has none."""
    hooks = [*(cfg.get("default_hooks") or {}).values(), *(cfg.get("custom_hooks") or [])]
    for hook in filter(None, hooks):
        kind = hook["type"]  # a class, or a name, which can have a scope
        if getattr(kind, "__name__", str(kind)).rpartition(".")[2] == "BackboneHook":
            return hook
    return None


def check_source(source: str | None) -> None:
    """Check the source of a backbone's weights before anything long begins.

    Args:
        source: an exported file, a checkpoint, 'supervised' or 'none'.

    Raises:
        ConfigError: no source is named.
        CheckpointError: the file cannot be used.
    """
    _require_name(source)
    if source not in (RANDOM, SUPERVISED):
        read_encoder(source)


def read_source(source: str | None, depth: int | None = None) -> Encoder:
    """The encoder of a file or, for 'supervised', torchvision's ResNet of this depth.

    Raises:
        ConfigError: no source is named.
        CheckpointError: the file cannot be used.
    """
    _require_name(source)
    return read_encoder(supervised_file(depth) if source == SUPERVISED else Path(source))


def _require_name(source: str | None) -> None:
    if source in (None, "", UNNAMED):
        raise ConfigError(
            "No backbone is named, and the result of random weights is rarely wanted. Give "
            "--backbone FILE (an exported file or a checkpoint of this package), --backbone "
            "supervised (torchvision's ImageNet weights) or --backbone none (random). Outside "
            "tools/train.py set the environment's SLOTCON_BACKBONE, or `source` of the config's "
            "BackboneHook."
        )


def fill_backbone(model: nn.Module, model_cfg: ConfigDict, source: str | None) -> str:
    """Fill the backbone of a built model; every one of its weights must be found and used.

    Args:
        model: an mmdet, mmseg, Detectron2Wrapper or SlotCon model.
        model_cfg: the config it was built from.
        source: see `check_source`.

    Returns:
        What was done, for the log.

    Raises:
        ConfigError: no source is named, or the model's backbone is not found.
        CheckpointError: the file cannot be used, or does not fit the backbone exactly.
    """
    if source == RANDOM:
        return "backbone: random weights"
    name = SUBMODULES.get(type(model).__name__, "backbone")
    try:
        backbone = model.get_submodule(name)
    except AttributeError:
        raise ConfigError(
            f"{type(model).__name__} has no `{name}` that --backbone could fill."
        ) from None
    depth = _depth(model_cfg) if source == SUPERVISED else None
    report = fill_module(backbone, source, depth)
    if isinstance(model, SlotCon):
        model.teacher.start_equal(*model.student)
    return report


def fill_module(backbone: nn.Module, source: str | None, depth: int | None = None) -> str:
    """Fill a backbone that is not in a model; see `fill_backbone`.

    Args:
        backbone: a ResNet of mmdet, mmseg, torchvision, timm or detectron2.
        source: a file or 'supervised'.
        depth: the ResNet's depth; needed for 'supervised'.
    """
    encoder = read_source(source, depth)
    fill(backbone, encoder)
    return (
        f"backbone: {encoder.architecture} from {encoder.source} ({encoder.kind}), all "
        f"{len(encoder.state_dict)} tensors used, {encoder.meta['digest'][:19]}"
    )


def _depth(model_cfg: ConfigDict) -> int:
    """The depth of the ResNet in a model's config."""
    if "detector" in model_cfg:
        return model_cfg.detector.resnets.depth
    depth = model_cfg.get("backbone", {}).get("depth")
    if depth is None:
        raise ConfigError(
            "--backbone supervised needs a ResNet with `model.backbone.depth` in the config."
        )
    return depth
