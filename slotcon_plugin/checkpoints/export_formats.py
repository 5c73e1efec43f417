"""Writes encoders in the formats of other libraries, and reports about conversions."""

from collections import Counter, OrderedDict
from collections.abc import Iterable, Mapping
from pathlib import Path

from torch import Tensor

from ..errors import CheckpointError
from .architecture import Architecture
from .containers import METADATA_KEY, pkl_bytes, pth_bytes, safetensors_bytes
from .encoder import Encoder
from .names import DETECTRON2, TORCHVISION, rename
from .published import Converted

# How the users of each library load the file.
USAGES = {
    "openmmlab": "backbone=dict(type='ResNet', depth={depth}, {stages}"
    "init_cfg=dict(type='Pretrained', checkpoint='{file}')), in mmdet and mmseg",
    "torchvision": "net = torchvision.models.resnet{depth}(); net.fc = torch.nn.Identity(); "
    "net.load_state_dict({load})",
    "timm": "timm.create_model('resnet{depth}', num_classes=0, checkpoint_path='{file}')",
    "detectron2": "MODEL: {{WEIGHTS: {file}, PIXEL_MEAN: {mean}, PIXEL_STD: {std}, "
    "RESNETS: {{DEPTH: {depth}, STRIDE_IN_1X1: False}}}}, INPUT: {{FORMAT: RGB}}",
}
ALWAYS_FOUR_STAGES = ("torchvision", "timm")
LOAD_SAFETENSORS = ("torchvision", "timm")


def check_format(name: str, suffix: str, architecture: Architecture | None = None) -> None:
    """Raise CheckpointError if a library does not have this container or this architecture."""
    suffixes = (".pkl",) * (name == "detectron2") + (".pth", ".safetensors")
    if suffix not in suffixes:
        raise CheckpointError(
            f"--to {name} is written as {' or '.join(suffixes)}, not as "
            f"{suffix or 'a file without a suffix'}. The suffix of OUT selects the container; only "
            "detectron2 has .pkl."
        )
    if architecture and not architecture.complete and name in ALWAYS_FOUR_STAGES:
        count = architecture.num_stages
        raise CheckpointError(
            f"This encoder is a {architecture}; {name}'s {architecture.name} always has four "
            "stages, so the last ones would stay random. Export it --to openmmlab (num_stages="
            f"{count}) or --to detectron2 (OUT_FEATURES up to res{count + 1}), or pretrain with "
            "four stages."
        )


def encoder_file(encoder: Encoder, target: str, suffix: str) -> tuple[bytes, dict[str, str]]:
    """The file that users of a library load: its bytes; name in it -> name in the source.

    Args:
        encoder: from `read_encoder`.
        target: "openmmlab", "torchvision", "timm" or "detectron2".
        suffix: ".pth", ".safetensors" or ".pkl".

    Raises:
        CheckpointError: see `check_format`.
    """
    check_format(target, suffix, encoder.architecture)
    table = DETECTRON2 if target == "detectron2" else TORCHVISION
    named = rename(encoder.state_dict, table, (), str(encoder.source))
    state = {name: value.detach().contiguous().clone() for name, value in named.values.items()}
    old_names = {new: encoder.old_names[old] for new, old in named.old_names.items()}
    if suffix == ".safetensors":
        return safetensors_bytes(state, encoder.meta), old_names
    content = _content(target, state, encoder.meta)
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
    load = f"torch.load('{out.name}', weights_only=True)"
    if out.suffix == ".safetensors":
        if target not in LOAD_SAFETENSORS:
            return f"{target} does not read .safetensors; this package does (--backbone {out.name})"
        load = f"safetensors.torch.load_file('{out.name}')"
    pixels, (depth, count) = encoder.meta["pixels"], encoder.architecture
    fewer = (
        f"num_stages={count}, strides={(1, 2, 2, 2)[:count]}, dilations={(1,) * count}, "
        f"out_indices={tuple(range(count))}, "
    )
    return USAGES[target].format(
        depth=depth,
        stages=fewer * (count < 4),
        file=out.name,
        load=load,
        mean=pixels["mean_0_255"],
        std=pixels["std_0_255"],
    )


def report_encoder(encoder: Encoder, old_names: Mapping[str, str], keys: bool = False) -> str:
    """The report about an exported encoder.

    Args:
        encoder: what was exported.
        old_names: name in the written file -> name in the source.
        keys: list every tensor.
    """
    origin, tensors = encoder.meta["origin"], encoder.state_dict.values()
    other = f" of {origin['file']}" * (origin["file"] != encoder.source.name)
    rows = {
        "source": f"{encoder.source} ({encoder.kind}), {origin['part']}{other}",
        "encoder": f"{encoder.architecture}, {sum(v.numel() for v in tensors):,} numbers",
        **_counts(old_names, encoder.dropped),
        "digest": encoder.meta["digest"],
    }
    for name in ("architecture", "pixels", "training", "versions"):
        rows[name] = ", ".join(f"{key} {value}" for key, value in encoder.meta[name].items())
    shapes = _shapes(old_names, dict(zip(old_names, tensors)), keys)
    return "\n".join([*_table(rows), *shapes])


def report_checkpoint(source: Path, converted: Converted, keys: bool = False) -> str:
    """The report about a converted full checkpoint; `keys` lists every tensor."""
    rows = {
        "source": str(source),
        "entries": ", ".join(converted.content),
        **_counts(converted.old_names, converted.dropped),
        "digest": converted.digest,
    }
    remarks = [f"{'':15}{line}" for line in converted.remarks]
    content = converted.content
    weights = content["state_dict"] if "state_dict" in content else content["model"]
    shapes = _shapes(converted.old_names, weights, keys)
    return "\n".join([*_table(rows), *remarks, *shapes])


def _counts(old_names: Mapping[str, str], dropped: Iterable[str]) -> dict[str, str]:
    groups = Counter(_group(name) for name in dropped)
    text = ", ".join(f"{name} ({count})" for name, count in groups.items())
    return {"keys used": f"{len(old_names)}", "keys dropped": f"{groups.total()}: {text or 'none'}"}


def _group(name: str) -> str:
    """The module of a tensor: `teacher.neck` of teacher.neck.mlp.0.weight."""
    parts = name.split(".")
    depth = 2 if parts[0] in ("teacher", "head", "module") else 1
    return ".".join(parts[:depth])


def _table(rows: Mapping[str, str]) -> list[str]:
    return [f"{name + ':':15}{value}" for name, value in rows.items()]


def _shapes(old_names: Mapping[str, str], state: Mapping[str, Tensor], keys: bool) -> list[str]:
    """Every tensor, or the first one of each module and the number of the others."""
    lines, left = [], Counter(name.partition(".")[0] for name in old_names)
    for name, old in old_names.items():
        group = name.partition(".")[0]
        if keys or left[group]:
            more = f"  and {left[group] - 1} more of {group}" * (not keys and left[group] > 1)
            source = f" from {old}" if old != name else ""
            lines.append(f"  {name} {tuple(state[name].shape)}{source}{more}")
            left[group] = 0
    return ["shapes:", *lines]
