"""Reads the encoder of any supported file; a ResNet under torchvision's names."""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from ..errors import CheckpointError, ConfigError
from ..runtime.safe_loading import check_finite
from . import metadata, names
from .architecture import STAGES, Architecture, ResNetArchitecture, recognize
from .configured import SAME_NAMES, ConfiguredEncoder, read_configured
from .containers import CHANGED, METADATA_KEY, digest, read_file
from .decoder_weights import Decoder, decoder_of, take_decoder
from .file_kinds import NETWORK, OTHER, TEACHER, find_half, find_prefix, find_tensors
from .left_out import LeftOut
from .timm_weights import adapt

# Before a decoder's names in a checkpoint of this package.
DECODERS = {"teacher": "teacher.decoder.", "student": "decoder."}
PARTS = ALL, ALONE = "all", "encoder"  # what is used of a file


class Encoder(NamedTuple):
    """The weights of an encoder with their metadata."""

    state_dict: dict[str, Tensor]  # without the classifier; a ResNet's names are torchvision's
    architecture: Architecture
    meta: dict  # the exported metadata: see `metadata.describe`, and `digest`
    source: Path
    kind: str  # a value of KINDS, or OTHER
    old_names: dict[str, str]  # name in `state_dict` -> name in the file
    dropped: tuple[str, ...]  # names in the file that are on a drop list
    decoder: Decoder | None = None  # that was pretrained with it, if the file has one
    remarks: tuple[str, ...] = ()  # how the weights of a file of other code were changed


def read_encoder(
    path: str | Path,
    part: str | None = None,
    like: ConfiguredEncoder | None = None,
    parts: str = ALL,
    left_out: LeftOut | None = None,
) -> Encoder:
    """Read the encoder in a file, and its decoder if there is one.

    Args:
        path: a checkpoint of slotcon train or a published one, or of another method or network, see
            `names.NETWORKS`; an exported file of any format; torchvision's or timm's weights; or
            "zoo:NAME".
        part: "teacher" or "student" of a full checkpoint of SlotCon or DINO; None means the
            teacher, or the part that an exported file contains.
        like: the encoder that is to be filled. It is needed for files of timm's and OpenMMLab's
            weights, which do not state their architecture, apart from ResNets. For timm's models
            they may be those of other code, see `timm_weights.adapt`.
        parts: "all", or "encoder": without the decoder, which is not even checked.
        left_out: the tensors of `like` that may be missing or left over; by default none.

    Raises:
        CheckpointError: the file cannot be read safely, has no complete known encoder or unknown
            names, or contains the other part, damaged metadata or changed weights.
    """
    return encoder_of(read_file(path), Path(path), part, like, parts, left_out)


def encoder_of(
    content: dict,
    path: Path,
    part: str | None = None,
    like: ConfiguredEncoder | None = None,
    parts: str = ALL,
    left_out: LeftOut | None = None,
) -> Encoder:
    """The encoder in the content of a file; see `read_encoder`."""
    if parts not in PARTS:
        raise ConfigError(f"parts is {parts!r}, expected {' or '.join(map(repr, PARTS))}.")
    content, decoder = take_decoder(content, str(path), use=parts == ALL)
    if (own := find_half(content, part or "teacher")) is not None:
        content = {**content, "state_dict": own}
    stated = _stated(content, str(path))
    tensors, kind = find_tensors(content, str(path), known=stated or like)
    remarks: tuple[str, ...] = ()
    is_foreign = stated is None and like is not None and not _is_resnet(tensors, kind)
    if is_foreign:
        stated = like
    if kind == "slotcon" and part == "student" and all(n.startswith("teacher.") for n in tensors):
        raise CheckpointError(f"{path} has no student, which --part student asks for.")
    if stated is not None:
        named = _renamed(tensors, kind, part or "teacher", str(path), SAME_NAMES)
        if is_foreign and stated.is_timm:
            named, remarks = _adapted(stated, named)
        named = _complete(stated, named, str(path), left_out if is_foreign else None)
        architecture = stated
    else:
        if kind == "slotcon" and f"{TEACHER}conv1.weight" not in tensors:
            name = metadata.lookup(metadata.read_config(content), "model.backbone.type")
            raise CheckpointError(
                f"{path}: its encoder, {name or 'of an unknown class'}, is not a ResNet of "
                "torchvision's kind, TimmEncoder, or one of OpenMMLab's encoders of which the "
                "config is enough (docs/encoders.md)."
            )
        named = _renamed(tensors, kind, part or "teacher", str(path))
        architecture = recognize(named.values, str(path))
    check_finite(named.values, str(path))
    half = None if own is None else part or "teacher"
    meta = _metadata(content, kind, part, path, architecture, half)
    if isinstance(architecture, ResNetArchitecture):
        stages = map(meta["architecture"].get, STAGES)
        architecture = architecture.with_stages(*stages, str(path))
    found = digest(named.values)
    if meta.setdefault("digest", found) != found:
        raise CheckpointError(CHANGED.format(path, found, meta["digest"]))
    if kind == "slotcon" and parts == ALL:
        decoder = _pretrained_decoder(tensors, content, part or "teacher", str(path))
    known = meta.pop("decoder", None)
    if decoder is not None:
        found = digest(decoder.state_dict)
        meta["decoder"] = {**decoder.description, "digest": found}
        if known and known.get("digest") != found:
            raise CheckpointError(CHANGED.format(path, found, known.get("digest")))
    old_names, dropped = named.old_names, named.dropped
    if decoder:  # it is used, too
        dropped = tuple(n for n in dropped if not n.startswith(DECODERS[part or "teacher"]))
    found = (named.values, architecture, meta, path, kind, old_names, dropped, decoder, remarks)
    return Encoder(*found)


def _pretrained_decoder(
    tensors: Mapping[str, Tensor], content: dict, part: str, source: str
) -> Decoder | None:
    """The decoder in a checkpoint of this package; None if it has none."""
    prefix = DECODERS[part]
    old_names = {n.removeprefix(prefix): n for n in tensors if n.startswith(prefix)}
    state = {name: tensors[old] for name, old in old_names.items()}
    config = metadata.lookup(metadata.read_config(content), "model.decoder")
    return decoder_of(state, config, old_names, source) if state else None


def _stated(content: dict, source: str) -> ConfiguredEncoder | None:
    """The encoder of which a file has the config; None for a ResNet."""
    exported = content.get("meta") or (getattr(content, "_metadata", None) or {}).get(METADATA_KEY)
    if config := metadata.lookup(exported, "architecture.config"):
        return read_configured(config, source)
    measured = metadata.lookup(content, f"meta.{metadata.MEASURED}")
    if isinstance(measured, dict) and "problem" not in measured:
        return None  # the class is timm's, but it computes what a ResNet does
    return read_configured(metadata.lookup(metadata.read_config(content), "model.backbone"), source)


def _is_resnet(tensors: Mapping[str, Tensor], kind: str) -> bool:
    try:
        recognize(_renamed(tensors, kind, "teacher", "").values, "")
    except CheckpointError:
        return False
    return True


def _adapted(
    known: ConfiguredEncoder, named: names.Renamed
) -> tuple[names.Renamed, tuple[str, ...]]:
    """The tensors of a file of other code under timm's names, and what was changed."""
    values, remarks = adapt(known, named.values)
    old_names = {name: named.old_names.get(name, name) for name in values}
    left = (old for name, old in named.old_names.items() if name not in values)
    return names.Renamed(values, old_names, (*named.dropped, *left)), remarks


def _complete(
    known: ConfiguredEncoder, named: names.Renamed, source: str, left_out: LeftOut | None
) -> names.Renamed:
    """The tensors of an encoder of known architecture, which must be complete."""
    shapes = known.shapes()
    left = [name for name in named.values if name not in shapes]
    unused = known.unused_names() if left else set()
    left = [name for name in left if name in unused]
    values, old_names = ({n: v for n, v in one.items() if n not in left} for one in named[:2])
    if problems := (left_out or LeftOut()).compare(values, shapes, source):
        raise CheckpointError(f"{source} is not a complete {known}. Tensors: {problems}.")
    dropped = (*named.dropped, *(named.old_names[name] for name in left))
    return names.Renamed(values, old_names, dropped)


def _renamed(
    tensors: Mapping[str, Tensor], kind: str, part: str, source: str, known: names.Pairs = ()
) -> names.Renamed:
    """The encoder's tensors under its own names; `known` is the table of these, or a ResNet's.

    Batch norms without a counter of batches, which only an average without momentum uses, get 0.
    """
    prefix, others = "", ()
    if kind == NETWORK:
        prefix = find_prefix(tensors, bool(known)) or find_prefix(tensors, known=True)
        heads = tuple(prefix + head for head in names.NETWORK_HEADS)
        others = tuple(n for n in tensors if not n.startswith(prefix) or n.startswith(heads))
        own = tensors.keys() - {*others}
        tensors = {name: value for name, value in tensors.items() if name in own}
    named = names.rename(tensors, *_table(kind, part, known, prefix), source)
    named = named._replace(dropped=(*named.dropped, *others))
    if any(name.endswith(names.COUNTER) for name in named.values):
        return named
    for name in [name for name in named.values if name.endswith("running_var")]:
        counter, old = (
            one.removesuffix("running_var") + names.COUNTER for one in (name, named.old_names[name])
        )
        named.values[counter], named.old_names[counter] = torch.tensor(0), old
    return named


def _table(
    kind: str, part: str, known: names.Pairs = (), prefix: str = ""
) -> tuple[names.Pairs, tuple[str, ...]]:
    """The table from the names in a kind of file to `state_dict`'s, and the names to drop.

    `known` is the table of an encoder's names, by default a ResNet's; `prefix` that of `NETWORK`.
    """
    if kind == NETWORK:
        return [(prefix + name, name) for name, _ in known or names.TORCHVISION], ()
    if kind not in ("slotcon", "published") and known:
        return known, ()
    if kind == "detectron2":
        return names.reverse(names.DETECTRON2), names.CLASSIFIER_DETECTRON2
    if kind in ("torchvision", OTHER):
        return names.TORCHVISION, names.CLASSIFIER
    column = ("slotcon", "published").index(kind)
    encoder = names.PARTS[part][column]
    others = (pair[column] for pair in names.PUBLISHED if pair[column] != encoder)
    prefix = encoder.removesuffix("{rest}")
    pairs = [(prefix + name, name) for name, _ in known or names.TORCHVISION]
    classifier = () if known else (prefix + name for name in names.CLASSIFIER)
    return pairs, (*others, *names.NOT_PUBLISHED, *names.DECODER, *classifier)


def _metadata(
    content: dict,
    kind: str,
    part: str | None,
    path: Path,
    architecture: Architecture,
    half: str | None,
) -> dict:
    """The metadata in an exported file, or new ones from a checkpoint's config.

    `half` is the part of a checkpoint of `NETWORK` that is used, if it has parts.
    """
    if kind in ("slotcon", "published", NETWORK):
        config = metadata.read_config(content)
        if kind == NETWORK and half is None:
            half = "backbone"
            if part is not None:
                raise CheckpointError(
                    f"{path} has no {part}, which --part {part} asks for: it is not of SlotCon or "
                    "DINO, and the encoder that gradients train is read."
                )
        if isinstance(architecture, ResNetArchitecture):
            stages = metadata.read_stages(content, config, str(path))
            architecture = architecture.with_stages(*stages, str(path))
        origin = {"file": path.name, "kind": kind, "part": half or part or "teacher"}
        training = metadata.describe_training(content)
        if kind == NETWORK:
            config = metadata.in_unit_range(config)
            training = training if config else {"method": "not stated in the file"}
        return metadata.describe(architecture, config, origin, training)
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
