"""An encoder out of a file of any kind that we know, under torchvision's names."""

from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from ..errors import CheckpointError
from .architecture import Architecture, check_finite, recognize, refuse_deep_stem
from .containers import META, read_file
from .digest import digest
from .metadata import check_stride_place, config_of, describe, pixels_of, training_of
from .name_tables import (
    CLASSIFIER,
    CLASSIFIER_DETECTRON2,
    DETECTRON2,
    OURS_ALONE,
    PARTS,
    PUBLISHED,
    TORCHVISION,
    WRAPPER,
)
from .renaming import Renamed, listed, rename, reverse

# The first name that a file holds decides what it is.
SIGNS = (
    ("teacher.backbone.conv1.weight", "slotcon"),
    ("encoder_k.conv1.weight", "published"),
    ("stem.conv1.weight", "detectron2"),
    ("conv1.weight", "torchvision"),
)


@dataclass(frozen=True)
class Encoder:
    """A ResNet's weights, and what has to be known about them.

    Attributes:
        state_dict: torchvision's names without the classifier -> tensors, on the CPU.
        architecture: depth and stages, every tensor checked against it.
        meta: what travels with the weights, see `recipe.describe`; plain values.
        source: the file.
        kind: "slotcon" and "published" (full checkpoints), "detectron2" and "torchvision" (names
            of a bare encoder; mmdet, mmseg and timm use torchvision's).
        used: torchvision's name -> name in the file.
        dropped: names in the file that were left out, all of them on a drop list.
    """

    state_dict: dict[str, Tensor]
    architecture: Architecture
    meta: dict
    source: Path
    kind: str
    used: dict[str, str]
    dropped: tuple[str, ...]


def read_encoder(path: str | Path, part: str | None = None) -> Encoder:
    """Read the encoder in a file.

    Args:
        path: a checkpoint of our training or a published one; an exported file of any format; or
            torchvision's or timm's own weights.
        part: "teacher" or "student" of a full checkpoint; None takes the teacher, or the one that
            an exported file holds.

    Raises:
        CheckpointError: the file cannot be read safely, holds no encoder that we know, not a whole
            one, one name too many, or the other part.
    """
    path = Path(path)
    content = read_file(path)
    tensors, kind = locate(content, str(path))
    if kind in ("slotcon", "published"):
        taken = _take_part(tensors, kind, part or "teacher", str(path))
        named = rename(taken.values, TORCHVISION, CLASSIFIER, str(path))
    elif kind == "detectron2":
        taken = None
        named = rename(tensors, reverse(DETECTRON2), CLASSIFIER_DETECTRON2, str(path))
    else:
        taken, named = None, rename(tensors, TORCHVISION, CLASSIFIER, str(path))
    architecture = recognize(named.values, str(path))
    check_finite(named.values, str(path))
    meta = _notes(content, kind, part, path, architecture)
    meta["digest"] = digest(named.values)
    used, dropped = named.used, named.dropped
    if taken is not None:
        used = {new: taken.used[old] for new, old in used.items()}
        dropped = (*taken.dropped, *(taken.used[name] for name in dropped))
    return Encoder(named.values, architecture, meta, path, kind, used, dropped)


def locate(content: dict, source: str) -> tuple[dict[str, Tensor], str]:
    """The named tensors in a file's content, without `module.`, and which of SIGNS they show.

    Raises:
        CheckpointError: nothing of that.
    """
    entries = [content[key] for key in ("state_dict", "model") if key in content] or [content]
    tensors = entries[0] if isinstance(entries[0], dict) else {}
    if tensors and all(isinstance(name, str) for name in tensors):
        if all(name.startswith(WRAPPER) for name in tensors):
            tensors = rename(tensors, ((f"{WRAPPER}{{rest}}", "{rest}"),), (), source).values
        refuse_deep_stem(tensors, source)
        for sign, kind in SIGNS:
            if sign in tensors:
                others = [name for name, v in tensors.items() if not isinstance(v, Tensor)]
                if others:
                    raise CheckpointError(
                        f"{source}: expected tensors, got something else: {listed(others)}."
                    )
                return dict(tensors), kind
    raise CheckpointError(
        f"{source} holds no encoder that is known here; its entries are "
        f"{listed(map(str, tensors or content)) or 'none'}. Expected a checkpoint of tools/train.py"
        " (teacher.backbone.*), a published SlotCon checkpoint (model: module.encoder_k.*), an "
        "exported encoder, or torchvision's weights (conv1.weight, layer1.*, …)."
    )


def _take_part(tensors: dict[str, Tensor], kind: str, part: str, source: str) -> Renamed:
    """The student's or the teacher's encoder of a full checkpoint; every other name is dropped."""
    column = ("slotcon", "published").index(kind)
    wanted = PARTS[part][column]
    drop = [pair[column] for pair in PUBLISHED if pair[column] != wanted]
    return rename(tensors, ((wanted, "{rest}"),), (*drop, *OURS_ALONE), source)


def _notes(
    content: dict, kind: str, part: str | None, path: Path, architecture: Architecture
) -> dict:
    """What is known about the weights: from the exported file itself, or from the checkpoint."""
    if kind in ("slotcon", "published"):
        config = config_of(content)
        check_stride_place(config, str(path))
        origin = {"file": path.name, "kind": kind, "part": part or "teacher"}
        return describe(architecture, pixels_of(config), origin, training_of(content))
    hidden = getattr(content, "_metadata", None) or {}  # where torch keeps a state dict's versions
    stored = hidden.get(META) or content.get("meta") or {}
    if not isinstance(stored, dict) or "origin" not in stored:
        origin = {"file": path.name, "kind": kind, "part": "encoder"}
        return describe(architecture, pixels_of({}), origin, {"method": "not stated in the file"})
    held = stored["origin"].get("part")
    if part is not None and held != part:
        raise CheckpointError(
            f"{path} holds the {held}'s encoder, and the {part}'s was asked for. Export it from "
            "the checkpoint of the training with --part."
        )
    return dict(stored)
