"""Loads weights into models, completely or not at all; downloads supervised weights."""

from pathlib import Path

import torch
import torchvision
from torch import Tensor, nn

from ..errors import CheckpointError, ConfigError
from ..models.backbones import DEPTHS
from ..runtime.safe_loading import check_finite
from ..runtime.wrapping import unwrapped
from .architecture import refuse_deep_stem
from .encoder import Encoder
from .file_kinds import KINDS
from .left_out import LeftOut
from .names import COUNTER, WRAPPER, rename


def fill(module: nn.Module, encoder: Encoder, left_out: LeftOut | None = None) -> None:
    """Load an encoder into a network: every tensor is used, and every parameter is filled.

    Call it after `init_weights()`, which would overwrite the loaded weights.

    Args:
        module: a ResNet of mmdet, mmseg, torchvision (with `fc = nn.Identity()`), timm
            (num_classes=0), detectron2, or our TorchvisionResNet; for other encoders a network of
            the same class, e.g. TimmEncoder; without a wrapper.
        encoder: from `read_encoder`.
        left_out: the tensors that may be left out, by their names in `module`; by default none.

    Raises:
        CheckpointError: names or shapes differ, or the ResNet has a deep stem or its stride in the
            1x1 convolutions. Nothing was loaded then.
    """
    target = type(module).__name__
    own = module.state_dict()
    refuse_deep_stem(own, target)
    table = encoder.architecture.table(own)
    named = rename(encoder.state_dict, table, (), str(encoder.source)).values
    if not any(name.endswith(COUNTER) for name in own):  # as in detectron2's FrozenBatchNorm2d
        named = {name: value for name, value in named.items() if not name.endswith(COUNTER)}
    left_out = left_out or LeftOut()
    if problems := left_out.compare(named, own, str(encoder.source)):
        raise CheckpointError(
            f"{encoder.source} ({encoder.architecture}) does not fit {target}. Tensors: "
            f"{problems}. Nothing was loaded. Use a backbone of the same architecture, depth and "
            "number of stages, without a classifier."
        )
    _check_strides(module, target)
    unused = left_out.names.get(str(encoder.source), ())
    named = {name: value for name, value in named.items() if name not in unused}
    module.load_state_dict(named, strict=not unused)


def _check_strides(module: nn.Module, target: str) -> None:
    """Names and shapes do not show whether the stride is in the 1x1 or the 3x3 convolution."""
    for name, part in module.named_modules():
        first = name.endswith(".0.conv1") and isinstance(part, nn.Conv2d)
        if first and part.kernel_size == (1, 1) and part.stride != (1, 1):
            raise CheckpointError(
                f"{target} has its stride in the 1x1 convolution {name}; SlotCon's encoder has it "
                "in the 3x3 ones. Set style='pytorch' (mmdet, mmseg) or "
                "MODEL.RESNETS.STRIDE_IN_1X1 False (detectron2). Nothing was loaded."
            )


def check_state_dict(
    model: nn.Module, checkpoint: dict, path: str | Path, left_out: LeftOut | None = None
) -> dict:
    """A checkpoint's weights by name. They must be exactly the model's, and all finite.

    MMEngine would only warn. As in MMEngine, `module.` before a name is ignored.

    Args:
        model: may be wrapped for distributed training.
        checkpoint: has a `state_dict`, or is one.
        path: its file, for the message.
        left_out: the tensors that may be left out; by default none.

    Raises:
        CheckpointError: they are not; nothing was loaded.
    """
    model = unwrapped(model)
    weights = checkpoint.get("state_dict", checkpoint)
    weights = {str(name).removeprefix(WRAPPER): value for name, value in weights.items()}
    own = model.state_dict()
    if problems := (left_out or LeftOut()).compare(weights, own, str(path)):
        advice = "Use the config that it was trained with"
        if left_out is not None:
            advice += ", or name tensors that may be left out: --allow-missing PATTERN"
        advice += "."
        others = [name for name in weights if name not in own]
        if any(name in KINDS or name.startswith("teacher.backbone.") for name in others):
            advice = (
                "It contains an encoder in another format or of a pretraining. Start the training "
                f"of a detector or segmentation network from it: slotcon train --backbone {path}."
            )
        raise CheckpointError(
            f"{path} does not fit the config's model, {type(model).__name__}. Tensors: {problems}. "
            f"Nothing was loaded. {advice}"
        )
    check_finite({n: v for n, v in weights.items() if isinstance(v, Tensor)}, str(path))
    return weights


def supervised_file(depth: int) -> Path:
    """The file of torchvision's ResNet trained on ImageNet with labels (IMAGENET1K_V1).

    torch downloads it once, into TORCH_HOME. The error of a failed download is CheckpointError.
    """
    if depth not in DEPTHS:
        raise ConfigError(f"torchvision has no resnet{depth}; the depths are {DEPTHS}.")
    weights = torchvision.models.get_model_weights(f"resnet{depth}").IMAGENET1K_V1
    path = Path(torch.hub.get_dir()) / "checkpoints" / Path(weights.url).name
    if not path.is_file():
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            prefix = path.stem.rpartition("-")[2]  # the first digits of the file's SHA-256
            torch.hub.download_url_to_file(weights.url, str(path), hash_prefix=prefix)
        except (OSError, RuntimeError) as error:
            raise CheckpointError(
                f"torchvision's weights could not be downloaded: {error}. Download {weights.url} "
                f"on another machine and copy it to {path.parent}."
            ) from None
    return path
