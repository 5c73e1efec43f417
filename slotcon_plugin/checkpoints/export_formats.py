"""Writes encoders in the formats of other libraries, and reports about conversions."""

from collections import Counter, OrderedDict
from collections.abc import Iterable, Mapping
from pathlib import Path

from torch import Tensor

from ..errors import CheckpointError
from .architecture import DETECTRON2_STEM, Architecture
from .containers import METADATA_KEY, pkl_bytes, pth_bytes, safetensors_bytes
from .encoder import Encoder
from .names import rename
from .published import Converted

LIBRARIES = ("openmmlab", "torchvision", "timm", "detectron2")
LOAD_SAFETENSORS = ("torchvision", "timm")
BACKBONE = "backbone."  # before an encoder's names in a file for OpenMMLab with a decoder


def check_format(name: str, suffix: str, architecture: Architecture | None = None) -> None:
    """Raise CheckpointError if a library does not have this container or this architecture."""
    suffixes = (".pkl",) * (name == "detectron2") + (".pth", ".safetensors")
    if suffix not in suffixes:
        raise CheckpointError(
            f"--to {name} is written as {' or '.join(suffixes)}, not as "
            f"{suffix or 'a file without a suffix'}. The suffix of OUT selects the container; only "
            "detectron2 has .pkl. Without a suffix, --to timm writes a folder."
        )
    if architecture and (reason := architecture.refusal(name)):
        raise CheckpointError(reason)


def encoder_file(encoder: Encoder, target: str, suffix: str) -> tuple[bytes, dict[str, str]]:
    """The file that users of a library load: its bytes; name in it -> name in the source.

    Args:
        encoder: from `read_encoder`.
        target: "openmmlab", "torchvision", "timm" or "detectron2".
        suffix: ".pth", ".safetensors" or ".pkl"; see `check_format`.
    """
    check_format(target, suffix, encoder.architecture)
    names = {DETECTRON2_STEM: None} if target == "detectron2" else {}
    table = encoder.architecture.table(names)
    named = rename(encoder.state_dict, table, (), str(encoder.source))
    state, meta = dict(named.values), dict(encoder.meta)
    old_names = {new: encoder.old_names[old] for new, old in named.old_names.items()}
    decoder = encoder.decoder
    if decoder is None or (table := decoder.table(target)) is None:
        meta.pop("decoder", None)
    else:
        if target == "openmmlab":
            state, old_names = (
                {f"{BACKBONE}{name}": value for name, value in one.items()}
                for one in (state, old_names)
            )
        added = rename(decoder.state_dict, table, (), str(encoder.source))
        state |= added.values
        old_names |= {new: decoder.old_names[old] for new, old in added.old_names.items()}
    state = {name: value.detach().contiguous().clone() for name, value in state.items()}
    if suffix == ".safetensors":
        return safetensors_bytes(state, meta), old_names
    content = _content(target, state, meta)
    return (pkl_bytes if suffix == ".pkl" else pth_bytes)(content), old_names


def _content(target: str, state: dict[str, Tensor], meta: dict) -> dict:
    """What a `.pth` or `.pkl` contains."""
    if target == "torchvision":  # a plain state dict, with the metadata in an attribute
        plain = OrderedDict(state)
        plain._metadata = OrderedDict({METADATA_KEY: meta})
        return plain
    if target == "detectron2":
        # With matching_heuristics, detectron2 finds `backbone.bottom_up.` itself.
        marks = {"__author__": "slotcon_plugin", "matching_heuristics": True}
        return {"model": state, **marks, "meta": meta}
    return {"meta": meta, "state_dict": state}


def usage(encoder: Encoder, target: str, out: Path) -> str:
    """One line of code or config that loads the file in its library."""
    state = "['state_dict']" * (target != "torchvision")
    load = f"torch.load('{out.name}', weights_only=True){state}"
    if out.suffix == ".safetensors":
        if target not in LOAD_SAFETENSORS:
            return f"{target} does not read .safetensors; this package does (--backbone {out.name})"
        load = f"safetensors.torch.load_file('{out.name}')"
    line = encoder.architecture.usage(target, out.name, load, encoder.meta["pixels"])
    checkpoint = f"checkpoint='{out.name}'"
    if target == "openmmlab" and encoder.decoder and checkpoint in line:
        prefix = encoder.decoder.prefix
        init = f"init_cfg=dict(type='Pretrained', {checkpoint}, prefix='{prefix}')"
        line = line.replace(checkpoint, f"{checkpoint}, prefix='{BACKBONE}'")
        line += f"; {prefix[:-1]}=dict(..., {init}); or both: --backbone {out.name}"
    return line


def decoder_note(encoder: Encoder, target: str) -> str:
    """What the users of a library must know of a decoder; "" if nothing."""
    if encoder.decoder is None:
        return ""
    if encoder.decoder.table(target) is None:
        return f"decoder:       left out: {target} has no {encoder.decoder}"
    return f"decoder:       {encoder.decoder}; --parts encoder leaves it out"


def dilation_note(encoder: Encoder, target: str) -> str:
    """What the users of a library must know of a dilated encoder; "" if nothing."""
    if encoder.architecture.is_plain or target == "openmmlab":
        return ""
    return (
        f"note:          trained as {encoder.architecture}. {target} does not read that from the "
        "file: with its own strides it computes other features. The file's metadata have them."
    )


def report_encoder(encoder: Encoder, old_names: Mapping[str, str], keys: bool = False) -> str:
    """The report about an exported encoder, with the `old_names` of `encoder_file`.

    `keys` lists every tensor.
    """
    origin, tensors = encoder.meta["origin"], encoder.state_dict.values()
    used = [encoder, *([encoder.decoder] if encoder.decoder else [])]
    weights = {one.old_names[name]: v for one in used for name, v in one.state_dict.items()}
    other = f" of {origin['file']}" * (origin["file"] != encoder.source.name)
    head = {
        "source": f"{encoder.source} ({encoder.kind}), {origin['part']}{other}",
        "encoder": f"{encoder.architecture}, {sum(v.numel() for v in tensors):,} numbers",
    }
    tail = {"digest": encoder.meta["digest"]}
    for name in ("architecture", "pixels", "training", "versions"):
        tail[name] = ", ".join(f"{key} {value}" for key, value in encoder.meta[name].items())
    weights = {new: weights[old] for new, old in old_names.items()}
    return _report(head, tail, (), weights, old_names, encoder.dropped, keys)


def report_checkpoint(source: Path, converted: Converted, keys: bool = False) -> str:
    """The report about a converted full checkpoint; `keys` lists every tensor."""
    content, old_names, dropped, digest, remarks = converted
    weights = content["state_dict"] if "state_dict" in content else content["model"]
    head = {"source": str(source), "entries": ", ".join(content)}
    return _report(head, {"digest": digest}, remarks, weights, old_names, dropped, keys)


def _report(
    head: Mapping[str, str],
    tail: Mapping[str, str],
    remarks: Iterable[str],
    weights: Mapping[str, Tensor],
    old_names: Mapping[str, str],
    dropped: Iterable[str],
    keys: bool,
) -> str:
    """A table, the remarks, and the shape of every tensor or of the first one of each module."""
    groups = Counter(_group(name) for name in dropped)
    text = ", ".join(f"{name} ({count})" for name, count in groups.items())
    counts = {"keys used": len(old_names), "keys dropped": f"{groups.total()}: {text or 'none'}"}
    lines = [f"{name + ':':15}{value}" for name, value in {**head, **counts, **tail}.items()]
    lines += [*(f"{'':15}{line}" for line in remarks), "shapes:"]
    left = Counter(name.partition(".")[0] for name in old_names)
    for name, old in old_names.items():
        group = name.partition(".")[0]
        if keys or left[group]:
            more = f"  and {left[group] - 1} more of {group}" * (not keys and left[group] > 1)
            source = f" from {old}" * (old != name)
            lines.append(f"  {name} {tuple(weights[name].shape)}{source}{more}")
            left[group] = 0
    return "\n".join(lines)


def _group(name: str) -> str:
    """The module of a tensor: `teacher.neck` of teacher.neck.mlp.0.weight."""
    parts = name.split(".")
    return ".".join(parts[: 2 if parts[0] in ("teacher", "head", "module") else 1])
