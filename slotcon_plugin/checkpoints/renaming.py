"""Renaming by table: every name is mapped or dropped on purpose, and no two meet.

A table is a sequence of pairs of patterns, and is read in either direction. A pattern is a name
with fields: `layer1.{block}.bn{n}.{stat}`. Both sides of a pair have the same fields.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from ..errors import CheckpointError

FIELDS = {
    "block": r"\d+",
    "n": r"[123]",
    "stat": "weight|bias|running_mean|running_var|num_batches_tracked",
    "rest": ".+",
}
LISTED = 12  # names that a message lists before it only counts

Pairs = Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Renamed:
    """What a renaming did.

    Attributes:
        values: new name -> value, in the order of the table, then of the source.
        used: new name -> old name.
        dropped: old names that were left out because the drop list says so.
    """

    values: dict[str, Any]
    used: dict[str, str]
    dropped: tuple[str, ...]


@cache
def _compiled(pattern: str) -> re.Pattern:
    parts = re.split(r"\{(\w+)\}", pattern)  # text, field, text, field, ..., text
    found = [
        f"(?P<{part}>{FIELDS[part]})" if i % 2 else re.escape(part) for i, part in enumerate(parts)
    ]
    return re.compile("".join(found))


def match(name: str, pattern: str) -> dict[str, str] | None:
    """The fields of a name that fits a pattern as a whole, else None."""
    found = _compiled(pattern).fullmatch(name)
    return found.groupdict() if found else None


def reverse(pairs: Pairs) -> list[tuple[str, str]]:
    """The same table, read from right to left."""
    return [(right, left) for left, right in pairs]


def listed(names: Iterable[str]) -> str:
    """The first names, and how many more there are; for messages."""
    names = list(names)
    more = f" and {len(names) - LISTED} more" * (len(names) > LISTED)
    return ", ".join(names[:LISTED]) + more


def rename(values: Mapping[str, Any], pairs: Pairs, drop: Sequence[str], source: str) -> Renamed:
    """Rename by a table.

    Args:
        values: name -> anything.
        pairs: (old pattern, new pattern).
        drop: patterns of old names that have no place in the result.
        source: what the values are, for messages.

    Raises:
        CheckpointError: names that are neither mapped nor dropped, or two names that become one.
        ValueError: a name that fits two patterns: a mistake of the table.
    """
    found: list[tuple[int, str, str]] = []
    dropped, unknown = [], []
    for old in values:
        fits = [
            (i, right.format(**fields))
            for i, (left, right) in enumerate(pairs)
            if (fields := match(old, left)) is not None
        ]
        out = any(match(old, pattern) is not None for pattern in drop)
        if len(fits) + out > 1:
            raise ValueError(f"{old} fits {len(fits) + out} lines of the table, expected one.")
        if fits:
            found.append((fits[0][0], old, fits[0][1]))
        else:
            (dropped if out else unknown).append(old)
    if unknown:
        raise CheckpointError(
            f"{source} holds names that are neither known nor on the list of what is left out: "
            f"{listed(unknown)}. A weight that is passed over in silence is how transfers go "
            "wrong; nothing was converted."
        )
    used: dict[str, str] = {}
    for _, old, new in sorted(found, key=lambda line: line[0]):  # stable: then the source's order
        if new in used:
            raise CheckpointError(
                f"{source} holds two entries for `{new}`: {used[new]} and {old}. Remove one of "
                "them; nothing was converted."
            )
        used[new] = old
    return Renamed({new: values[old] for new, old in used.items()}, used, tuple(dropped))
