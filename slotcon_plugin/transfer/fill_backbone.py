"""Fills the backbone of a model with pretrained weights, which the user must name."""

import os

from mmengine.config import Config, ConfigDict
from torch import nn

from ..checkpoints import Encoder, fill, read_encoder
from ..checkpoints.architecture import stages_of
from ..checkpoints.configured import ConfiguredEncoder, read_configured
from ..checkpoints.encoder import ALL, encoder_of
from ..checkpoints.fill import supervised_file
from ..checkpoints.left_out import LeftOut, initial_files
from ..checkpoints.named_networks import in_zoo
from ..checkpoints.timm_weights import find_own_weights, read_own_weights
from ..errors import ConfigError
from ..models.slotcon import SlotCon
from ..runtime.config_options import did_you_mean, hooks_of, type_name
from .fill_decoder import match_decoder

NAMED = RANDOM, SUPERVISED, TIMM = "none", "supervised", "timm"
UNNAMED = "unnamed"  # a config's default; MMEngine drops an empty one


def name_backbone(cfg: Config, source: str | None, parts: str | None = None) -> list[str]:
    """Write the source of the backbone's weights into the config; returns lines for the log.

    Args:
        cfg: any config; a `BackboneHook` is added if it has none and `source` is given.
        source: see `check_source`; None keeps the config's own setting.
        parts: see `read_encoder`; None keeps the config's own setting.
    """
    hook = backbone_hook(cfg)
    if hook is None:
        if source is None:
            if parts is not None:
                raise ConfigError(f"--parts {parts} is about a file: give --backbone FILE too.")
            return []
        added = dict(backbone=dict(type="BackboneHook"))
        cfg.default_hooks = {**(cfg.get("default_hooks") or {}), **added}
        hook = backbone_hook(cfg)
    if source is not None:
        hook["source"] = source
    if parts is not None:
        hook["parts"] = parts
    if cfg.get("resume") or cfg.get("load_from"):
        return ["backbone: from the checkpoint, as all weights"]
    left_out = LeftOut(cfg.get("allow_missing"))
    like, parts = _configured(cfg.get("model")), hook.get("parts", ALL)
    check_source(hook.get("source"), like, parts, left_out)
    return [f"backbone: {'random weights' if hook['source'] == RANDOM else hook['source']}"]


def backbone_hook(cfg: Config) -> dict | None:
    """The config's `BackboneHook`, in `default_hooks` or `custom_hooks`; None if it has none."""
    for hook in filter(None, hooks_of(cfg).values()):
        if type_name(hook["type"]) == "BackboneHook":
            return hook
    return None


def check_source(
    source: str | None,
    like: ConfiguredEncoder | None = None,
    parts: str = ALL,
    left_out: LeftOut | None = None,
) -> None:
    """Check the source of a backbone's weights before anything long begins.

    Args:
        source: an exported file, a checkpoint, 'zoo:NAME' (a network of the package), 'supervised'
            (torchvision's ImageNet weights), 'timm' (timm's own weights of the TimmEncoder's model)
            or 'none' (random weights).
        like, parts, left_out: see `read_encoder`.

    Raises:
        ConfigError: no source is named, or one for other encoders.
        CheckpointError: the file cannot be used.
    """
    if source in (None, "", UNNAMED):
        raise ConfigError(
            "No backbone is named, and the result of random weights is rarely wanted. Give "
            "--backbone FILE (an exported file, a checkpoint or zoo:NAME), --backbone "
            "supervised (torchvision's ImageNet weights), --backbone timm (timm's own, of a "
            "TimmEncoder) or --backbone none (random). Outside slotcon train set the "
            "environment's SLOTCON_BACKBONE, or `source` of the config's BackboneHook."
        )
    _check_kind(source, like)
    if source == TIMM:
        find_own_weights(like)
    if source in NAMED:
        return
    if os.path.basename(source) == source and not (in_zoo(source) or os.path.exists(source)):
        raise ConfigError(
            f"--backbone {source}: there is no such file.{did_you_mean(source, NAMED)} Expected a "
            "file, 'zoo:NAME' (slotcon list), 'supervised' (torchvision's ImageNet weights), "
            "'timm' (timm's own, of a TimmEncoder) or 'none' (random weights)."
        )
    read_encoder(source, like=like, parts=parts, left_out=left_out)


def _check_kind(source: str, like: ConfiguredEncoder | None) -> None:
    """Raise ConfigError for weights that only encoders of another kind have."""
    is_timm = like is not None and like.is_timm
    if source == TIMM and not is_timm:
        raise ConfigError(
            "--backbone timm is for a TimmEncoder, which the network's backbone is not. Give "
            "--backbone supervised for a ResNet (torchvision's ImageNet weights), or a file."
        )
    if source == SUPERVISED and like is not None:
        other = "timm (timm's own weights)" if is_timm else "FILE"
        raise ConfigError(
            "--backbone supervised is for ResNets, which torchvision has, but the network's "
            f"backbone is {like}. Give --backbone {other}."
        )


def read_source(
    source: str,
    depth: int | None,
    like: ConfiguredEncoder | None = None,
    parts: str = ALL,
    left_out: LeftOut | None = None,
) -> Encoder:
    """The encoder of a file; for 'supervised' torchvision's ResNet of this depth, for 'timm' timm's
    own weights."""
    if source == TIMM:
        content, path, remarks = read_own_weights(like)
        return encoder_of(content, path, like=like)._replace(remarks=remarks)
    path = supervised_file(depth) if source == SUPERVISED else source
    return read_encoder(path, like=like, parts=parts, left_out=left_out)


def fill_backbone(
    model: nn.Module,
    model_cfg: ConfigDict,
    source: str | None,
    left_out: LeftOut | None = None,
    parts: str = ALL,
) -> str:
    """Fill the backbone of a built model, and its decoder if the file has one of the same class.

    Returns lines for the log.

    Args:
        model: an mmdet, mmseg, Detectron2Wrapper or SlotCon model.
        model_cfg: the config it was built from.
        source: see `check_source`.
        left_out: see `fill`.
        parts: see `read_encoder`.
    """
    if source in (None, "", UNNAMED, RANDOM):
        check_source(source)
        files = initial_files(model)
        return f"backbone: {', '.join(files)}, by init_cfg" if files else "backbone: random weights"
    is_wrapper = type(model).__name__ == "Detectron2Wrapper"
    name = "d2_model.backbone.bottom_up" if is_wrapper else "backbone"
    if name not in dict(model.named_modules()):
        raise ConfigError(f"{type(model).__name__} has no `{name}` that --backbone could fill.")
    like = _configured(model_cfg)
    _check_kind(source, like)
    depth = depth_of(model_cfg) if source == SUPERVISED else None
    encoder = read_source(source, depth, like, parts, left_out)
    report = fill_network(model.d2_model if is_wrapper else model, encoder, left_out)
    if isinstance(model, SlotCon):
        model.teacher.start_equal(*model.student)
    return report


def fill_network(model: nn.Module, encoder: Encoder, left_out: LeftOut | None = None) -> str:
    """Fill encoder and decoder of a model of mmdet, mmseg, detectron2 or of a SlotCon.

    See `fill`. Returns lines for the log.
    """
    left_out = left_out or LeftOut()
    decoder = match_decoder(model, encoder, left_out)  # before anything is loaded
    backbone = getattr(model.backbone, "bottom_up", model.backbone)
    fill(backbone, encoder, left_out)
    lines = [_describe(backbone, encoder, left_out)]
    return "\n".join([*lines, decoder.load(left_out)] if decoder else lines)


def _describe(backbone: nn.Module, encoder: Encoder, left_out: LeftOut) -> str:
    used = stages_of(backbone)
    is_same = encoder.architecture.is_plain or not used[0] or used == encoder.architecture[2:]
    apart = len(left_out.names.get(str(encoder.source), ()))
    use = f"tensors, {apart} of file or network left out" if apart else "tensors used"
    return (
        f"backbone: {encoder.architecture} from {encoder.source} ({encoder.kind}), "
        f"{'' if apart else 'all '}{len(encoder.state_dict)} {use}, "
        f"{encoder.meta['digest'][:19]}"
        + f"; here with strides {used[0]}, dilations {used[1]}, contract_dilation {used[2]}"
        * (not is_same)
        + "".join(f"; {remark}" for remark in encoder.remarks)
    )


def _configured(model_cfg: ConfigDict | None) -> ConfiguredEncoder | None:
    """The encoder that a model's config describes; None for a ResNet or an unknown class."""
    backbone = (model_cfg or {}).get("backbone")
    is_config = isinstance(backbone, ConfigDict)
    return read_configured(backbone.to_dict() if is_config else backbone, "the config")


def depth_of(model_cfg: ConfigDict) -> int:
    """The depth of the ResNet in a model's config."""
    if "detector" in model_cfg:
        return model_cfg.detector.resnets.depth
    depth = model_cfg.get("backbone", {}).get("depth")
    if depth is None:
        raise ConfigError(
            "--backbone supervised needs a ResNet with `model.backbone.depth` in the config."
        )
    return depth
