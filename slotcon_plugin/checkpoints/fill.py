"""Loading an encoder into a network of any library, all of it or not at all."""

from torch import nn

from ..errors import CheckpointError
from .architecture import refuse_deep_stem
from .encoder import Encoder
from .name_tables import DETECTRON2, TORCHVISION
from .renaming import listed, rename

_COUNTER = "num_batches_tracked"


def fill(module: nn.Module, encoder: Encoder) -> None:
    """Load an encoder into a built ResNet: every tensor is used, every parameter is filled.

    Call it after `init_weights()`, which would overwrite what was loaded.

    Args:
        module: a ResNet of mmdet, mmseg, torchvision (its classifier replaced by nn.Identity()),
            timm (num_classes=0), detectron2, or our TorchvisionResNet. Not wrapped.
        encoder: from `read_encoder`.

    Raises:
        CheckpointError: tensors left over, parameters left random, shapes that differ, a deep
            stem, or strides in the 1x1 convolutions; nothing was loaded then.
    """
    target = f"{type(module).__name__}"
    own = module.state_dict()
    refuse_deep_stem(own, target)
    table = DETECTRON2 if "stem.conv1.weight" in own else TORCHVISION
    named = rename(encoder.state_dict, table, (), str(encoder.source)).values
    if not any(name.endswith(_COUNTER) for name in own):
        # Frozen norms (detectron2's FrozenBatchNorm2d) do not count batches.
        named = {name: v for name, v in named.items() if not name.endswith(_COUNTER)}
    unused = [name for name in named if name not in own]
    unfilled = [name for name in own if name not in named]
    shapes = [
        f"{name} {tuple(value.shape)} for {tuple(own[name].shape)}"
        for name, value in named.items()
        if name in own and own[name].shape != value.shape
    ]
    problems = [
        f"{len(names)} {title}: {listed(names)}"
        for title, names in (
            ("not used", unused),
            ("left at random", unfilled),
            ("of another shape", shapes),
        )
        if names
    ]
    if problems:
        raise CheckpointError(
            f"{encoder.source} ({encoder.architecture}) does not fill {target}. Tensors "
            + "; ".join(problems)
            + ". Nothing was loaded. Take a backbone of the same depth and number of stages, "
            "without a classifier."
        )
    _check_strides(module, target)
    module.load_state_dict(named, strict=True)


def _check_strides(module: nn.Module, target: str) -> None:
    """The same names and shapes with the stride in the 1x1 convolution are another network."""
    for name, part in module.named_modules():
        first = name.endswith(".0.conv1") and isinstance(part, nn.Conv2d)
        if first and part.kernel_size == (1, 1) and part.stride != (1, 1):
            raise CheckpointError(
                f"{target} strides in the 1x1 convolution {name}; SlotCon's encoder strides in the "
                "3x3 ones. Set style='pytorch' (mmdet, mmseg) or MODEL.RESNETS.STRIDE_IN_1X1 False "
                "(detectron2). Nothing was loaded."
            )
