"""Reads the encoder of any supported file, under torchvision's names."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from ..errors import CheckpointError
from ..runtime.safe_loading import check_finite
from . import metadata, names
from .architecture import Architecture, recognize, refuse_deep_stem
from .containers import METADATA_KEY, read_file

# A name in the file -> the kind of file. The first one that is found decides. "slotcon" and
# "published" are full checkpoints; mmdet, mmseg and timm use torchvision's names.
KINDS = {
    "teacher.backbone.conv1.weight": "slotcon",
    "encoder_k.conv1.weight": "published",
    "stem.conv1.weight": "detectron2",
    "conv1.weight": "torchvision",
}


class Encoder(NamedTuple):
    """The weights of a ResNet with their metadata."""

    state_dict: dict[str, Tensor]  # torchvision's names without the classifier; on the CPU
    architecture: Architecture
    meta: dict  # the exported metadata: see `metadata.describe`, and `digest`
    source: Path
    kind: str  # a value of KINDS
    old_names: dict[str, str]  # torchvision's name -> name in the file
    dropped: tuple[str, ...]  # names in the file that are on a drop list


def read_encoder(path: str | Path, part: str | None = None) -> Encoder:
    """Read the encoder in a file.

    Args:
        path: a checkpoint of tools/train.py or a published one; an exported file of any format; or
            torchvision's or timm's weights.
        part: "teacher" or "student" of a full checkpoint; None means the teacher, or the part that
            an exported file contains.

    Raises:
        CheckpointError: the file cannot be read safely, has no complete known encoder or unknown
            names, or contains the other part, damaged metadata or changed weights.
    """
    return encoder_of(read_file(path), Path(path), part)


def encoder_of(content: dict, path: Path, part: str | None = None) -> Encoder:
    """The encoder in the content of a file; see `read_encoder`."""
    tensors, kind = find_tensors(content, str(path))
    named = names.rename(tensors, *_table(kind, part or "teacher"), str(path))
    architecture = recognize(named.values, str(path))
    check_finite(named.values, str(path))
    meta = _metadata(content, kind, part, path, architecture)
    stages = (meta["architecture"].get(key) for key in ("strides", "dilations"))
    architecture = architecture.with_stages(*stages, str(path))
    found = digest(named.values)
    if meta.setdefault("digest", found) != found:
        raise CheckpointError(
            f"The weights in {path} are not those that were exported: their digest is {found}, the "
            f"metadata say {meta['digest']}. The file is damaged or was changed; export it again."
        )
    return Encoder(named.values, architecture, meta, path, kind, named.old_names, named.dropped)


def find_tensors(content: dict, source: str) -> tuple[dict[str, Tensor], str]:
    """The tensors in a file's content by name, without WRAPPERS, and the file's kind (KINDS)."""
    tensors = next((content[key] for key in ("state_dict", "model") if key in content), content)
    tensors = tensors if isinstance(tensors, dict) else {}
    if all(isinstance(name, str) for name in tensors):
        for prefix in names.WRAPPERS * 2:  # they can be nested, e.g. module._orig_mod.
            if tensors and all(name.startswith(prefix) for name in tensors):
                tensors = {name.removeprefix(prefix): value for name, value in tensors.items()}
        refuse_deep_stem(tensors, source)
        kind = next((kind for name, kind in KINDS.items() if name in tensors), None)
        if kind is not None:
            if others := [name for name, v in tensors.items() if not isinstance(v, Tensor)]:
                raise CheckpointError(
                    f"{source} contains something else than tensors: {names.listed(others)}."
                )
            return dict(tensors), kind
    raise CheckpointError(
        f"{source} contains no known encoder; its entries are "
        f"{names.listed(map(str, tensors or content)) or 'none'}. Expected a checkpoint of "
        "tools/train.py (teacher.backbone.*), a published SlotCon checkpoint (model: "
        "module.encoder_k.*), an exported encoder, or torchvision's weights (conv1.weight, …)."
    )


def _table(kind: str, part: str) -> tuple[names.Pairs, tuple[str, ...]]:
    """The table from the names in a kind of file to torchvision's, and the names to drop."""
    if kind == "detectron2":
        return names.reverse(names.DETECTRON2), names.CLASSIFIER_DETECTRON2
    if kind == "torchvision":
        return names.TORCHVISION, names.CLASSIFIER
    column = ("slotcon", "published").index(kind)
    encoder = names.PARTS[part][column]
    others = (pair[column] for pair in names.PUBLISHED if pair[column] != encoder)
    prefix = encoder.removesuffix("{rest}")
    pairs = [(prefix + name, name) for name, _ in names.TORCHVISION]
    added = (*names.NOT_PUBLISHED, *names.DECODER)
    return pairs, (*others, *added, *(prefix + name for name in names.CLASSIFIER))


def _metadata(
    content: dict, kind: str, part: str | None, path: Path, architecture: Architecture
) -> dict:
    """The metadata in an exported file, or new ones from a checkpoint's config."""
    if kind in ("slotcon", "published"):
        config = metadata.read_config(content)
        architecture = architecture.with_stages(
            *metadata.read_stages(content, config, str(path)), str(path)
        )
        origin = {"file": path.name, "kind": kind, "part": part or "teacher"}
        return metadata.describe(architecture, config, origin, metadata.describe_training(content))
    attributes = getattr(content, "_metadata", None) or {}  # of a plain state dict
    stored = attributes.get(METADATA_KEY) or content.get("meta") or {}
    if "origin" not in stored:
        origin = {"file": path.name, "kind": kind, "part": "encoder"}
        training = {"method": "not stated in the file"}
        return metadata.describe(architecture, {}, origin, training)
    metadata.check_metadata(stored, str(path))
    contained = stored["origin"]["part"]
    if part not in (None, contained):
        raise CheckpointError(
            f"{path} contains the {contained}'s encoder, but --part {part} was given. Export the "
            f"{part}'s encoder from the full checkpoint."
        )
    return dict(stored)


def digest(state: Mapping[str, Tensor]) -> str:
    """SHA-256 of names, types, shapes and values: "sha256:" and 64 hexadecimal digits.

    It depends neither on the container nor on the order. The digests in metadata are those of
    torchvision's names.
    """
    found = hashlib.sha256()
    for name in sorted(state):
        value = state[name].detach().cpu().contiguous()
        found.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
        found.update(value.reshape(-1).view(torch.uint8).numpy().tobytes())
    return f"sha256:{found.hexdigest()}"
