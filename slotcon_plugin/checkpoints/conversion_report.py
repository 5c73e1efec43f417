"""What a conversion tells: source, names, shapes, digest, and what travels with the weights."""

from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path

from torch import Tensor

from .encoder import Encoder
from .published import Converted


def report_encoder(encoder: Encoder, used: Mapping[str, str], whole: bool = False) -> str:
    """The report of an exported encoder.

    Args:
        encoder: what was exported.
        used: name in the written file -> name in the source.
        whole: list every tensor.
    """
    meta = encoder.meta
    origin = meta["origin"]
    own = encoder.state_dict
    rows = {
        "source": f"{encoder.source} ({encoder.kind}), {origin['part']}"
        + f" of {origin['file']}" * (origin["file"] != encoder.source.name),
        "encoder": f"{encoder.architecture}, {sum(v.numel() for v in own.values()):,} numbers",
        **_names(used, encoder.dropped),
        "digest": meta["digest"],
        **{
            name: ", ".join(f"{key} {value}" for key, value in meta[name].items())
            for name in ("architecture", "pixels", "training", "versions")
        },
    }
    shapes = _shapes(used, dict(zip(used, own.values())), whole)
    return "\n".join([*_table(rows), *shapes])


def report_checkpoint(source: Path, converted: Converted, whole: bool = False) -> str:
    """The report of a full checkpoint that was converted."""
    rows = {
        "source": str(source),
        "entries": ", ".join(converted.content),
        **_names(converted.used, converted.dropped),
        "digest": converted.digest,
    }
    remarks = [f"{'':15}{line}" for line in converted.remarks]
    shapes = _shapes(converted.used, converted.weights, whole)
    return "\n".join([*_table(rows), *remarks, *shapes])


def _names(used: Mapping[str, str], dropped: Iterable[str]) -> dict[str, str]:
    groups = Counter(_group(name) for name in dropped)
    left = ", ".join(f"{name} ({count})" for name, count in groups.items())
    return {
        "keys used": f"{len(used)}",
        "keys dropped": f"{sum(groups.values())}" + f": {left}" * bool(left),
    }


def _group(name: str) -> str:
    """`teacher.neck` of teacher.neck.mlp.0.weight: the module's name in a SlotCon."""
    parts = name.split(".")
    depth = 2 if parts[0] in ("teacher", "head", "module") else 1
    return ".".join(parts[:depth])


def _table(rows: Mapping[str, str]) -> list[str]:
    return [f"{name + ':':15}{value}" for name, value in rows.items()]


def _shapes(used: Mapping[str, str], state: Mapping[str, Tensor], whole: bool) -> list[str]:
    """Every tensor, or the first of each module and how many follow."""
    lines, seen = [], Counter(name.partition(".")[0] for name in used)
    for name, old in used.items():
        group = name.partition(".")[0]
        if whole or seen[group]:
            more = f"  and {seen[group] - 1} more of {group}" * (not whole and seen[group] > 1)
            came = f" from {old}" if old != name else ""
            lines.append(f"  {name} {tuple(state[name].shape)}{came}{more}")
            seen[group] = 0
    return ["shapes:", *lines]
