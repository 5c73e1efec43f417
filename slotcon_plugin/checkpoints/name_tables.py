"""The names that weights have in each library, as tables. `rules.rename` applies them.

The encoder's own names are torchvision's; mmdet's, mmseg's and timm's ResNets use the same.
"""

from .renaming import match

# Torchvision's ResNet. One line a kind of tensor: what is not here is not part of a ResNet.
_RESNET = (
    "conv1.weight",
    "bn1.{stat}",
    *(
        f"layer{stage}.{{block}}.{kind}"
        for stage in (1, 2, 3, 4)
        for kind in ("conv{n}.weight", "bn{n}.{stat}", "downsample.0.weight", "downsample.1.{stat}")
    ),
)
TORCHVISION = tuple((name, name) for name in _RESNET)

# detectron2 counts stages from 2, and keeps a norm inside its convolution.
DETECTRON2 = (
    ("conv1.weight", "stem.conv1.weight"),
    ("bn1.{stat}", "stem.conv1.norm.{stat}"),
    *(
        (f"layer{stage}.{{block}}.{ours}", f"res{stage + 1}.{{block}}.{theirs}")
        for stage in (1, 2, 3, 4)
        for ours, theirs in (
            ("conv{n}.weight", "conv{n}.weight"),
            ("bn{n}.{stat}", "conv{n}.norm.{stat}"),
            ("downsample.0.weight", "shortcut.weight"),
            ("downsample.1.{stat}", "shortcut.norm.{stat}"),
        )
    ),
)

# The classifier of supervised weights; detectron2's converter leaves it in the stem.
CLASSIFIER = ("fc.{rest}",)
CLASSIFIER_DETECTRON2 = ("stem.fc.{rest}",)

# A deep stem (three 3x3 convolutions: ResNetV1c, V1d) begins with this name.
DEEP_STEM = "stem.0.weight"

# What DistributedDataParallel puts before every name.
WRAPPER = "module."

# Our SlotCon, and the published checkpoints'. In the order of our modules.
PUBLISHED = (
    ("backbone.{rest}", "encoder_q.{rest}"),
    ("neck.{rest}", "projector_q.{rest}"),
    ("head.prototypes.{rest}", "grouping_q.slot_embed.{rest}"),
    ("head.group_loss.center", "center"),
    ("head.predictor.{rest}", "predictor_slot.{rest}"),
    ("teacher.backbone.{rest}", "encoder_k.{rest}"),
    ("teacher.neck.{rest}", "projector_k.{rest}"),
    ("teacher.prototypes.{rest}", "grouping_k.slot_embed.{rest}"),
)
# The published model's own order of modules.
PUBLISHED_ORDER = (
    "center",
    "encoder_q.{rest}",
    "encoder_k.{rest}",
    "projector_q.{rest}",
    "projector_k.{rest}",
    "grouping_q.{rest}",
    "grouping_k.{rest}",
    "predictor_slot.{rest}",
)
# Ours alone: a counter for the log, begun anew. (The preprocessor's mean and std are not stored.)
OURS_ALONE = ("idle_steps",)

# The encoder inside either: what is taken, and (all the rest of the table) what stays behind.
PARTS = {
    "teacher": ("teacher.backbone.{rest}", "encoder_k.{rest}"),
    "student": ("backbone.{rest}", "encoder_q.{rest}"),
}


def published_name(name: str) -> str | None:
    """The published checkpoints' name (without `module.`) of one of ours; None if there is none."""
    for ours, theirs in PUBLISHED:
        if (fields := match(name, ours)) is not None:
            return theirs.format(**fields)
    return None
