"""What a file of weights is, by the names in it."""

from collections.abc import Mapping

from torch import Tensor

from ..errors import CheckpointError
from . import names
from .architecture import refuse_deep_stem

# A name in the file -> the kind of file. The first one that is found decides. "slotcon" and
# "published" are full checkpoints; mmdet, mmseg and timm use torchvision's names.
KINDS = {
    "teacher.backbone.conv1.weight": "slotcon",
    "encoder_k.conv1.weight": "published",
    "stem.conv1.weight": "detectron2",
    "conv1.weight": "torchvision",
}
OTHER = "encoder"  # the kind of a file of another encoder than a ResNet
NETWORK = "network"  # that of a full checkpoint of another method or network, see `names.NETWORKS`
TEACHER = "teacher.backbone."  # before the names in a checkpoint of this package


def find_prefix(tensors: Mapping[str, object], known: bool) -> str | None:
    """Which of `names.NETWORKS` a file has; None if none."""
    for prefix in names.NETWORKS:
        is_unique = known and prefix != "encoder."  # with which names of encoders begin, too
        if f"{prefix}conv1.weight" in tensors or (
            is_unique and any(name.startswith(prefix) for name in tensors)
        ):
            return prefix
    return None


def find_half(content: dict, part: str) -> dict | None:
    """The teacher or the student in a checkpoint of DINO; None in all others."""
    if all(isinstance(content.get(one), dict) for one in names.PARTS):
        return content[part]
    tensors = content.get("state_dict", content)
    tensors = tensors if isinstance(tensors, dict) else {}
    if any(str(name).startswith("student.backbone.") for name in tensors):
        start = f"{part}."
        return {n.removeprefix(start): v for n, v in tensors.items() if str(n).startswith(start)}
    return None


def find_tensors(content: dict, source: str, known: object = None) -> tuple[dict[str, Tensor], str]:
    """The tensors in a file's content by name, without WRAPPERS, and the file's kind.

    If the architecture is `known`, the names may be of other encoders than KINDS.
    """
    tensors = next((content[key] for key in ("state_dict", "model") if key in content), content)
    tensors = tensors if isinstance(tensors, dict) else {}
    if all(isinstance(name, str) for name in tensors):
        for prefix in names.WRAPPERS * 2:  # they can be nested, e.g. module._orig_mod.
            if tensors and all(name.startswith(prefix) for name in tensors):
                tensors = {name.removeprefix(prefix): value for name, value in tensors.items()}
        plain = {name.replace("._orig_mod.", "."): value for name, value in tensors.items()}
        tensors = plain if len(plain) == len(tensors) else tensors
        refuse_deep_stem(tensors, source)
        kind = next((kind for name, kind in KINDS.items() if name in tensors), None)
        if kind is None and any(name.startswith(TEACHER) for name in tensors):
            kind = "slotcon"
        elif kind is None and find_prefix(tensors, bool(known)):
            kind = NETWORK
        elif kind == "published" and any(name.startswith("encoder_q.fc.") for name in tensors):
            kind = NETWORK  # MoCo
        elif tensors and known:
            kind = kind or OTHER
        if kind is not None:
            if others := [name for name, v in tensors.items() if not isinstance(v, Tensor)]:
                raise CheckpointError(
                    f"{source} contains something else than tensors: {names.listed(others)}."
                )
            return dict(tensors), kind
    raise CheckpointError(
        f"{source} contains no known encoder; its entries are "
        f"{names.listed(map(str, tensors or content)) or 'none'}. Expected a checkpoint of "
        "slotcon train (teacher.backbone.*, of other methods backbone.*), a published SlotCon "
        "checkpoint (model: module.encoder_k.*), one of MoCo, SimSiam or DINO, an exported "
        "encoder, or torchvision's weights (conv1.weight, …)."
    )
