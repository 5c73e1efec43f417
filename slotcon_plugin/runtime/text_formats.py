"""Lists and durations in messages, and foreign text, such as titles, that is shown as it is.

For HTML, jinja2 escapes.
"""

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

# Code, emphasis, links, HTML, table cells, formulas; an underscore within a word is only itself.
_MARKDOWN = re.compile(
    r"[\\`*\[<|~$@]|(?<![^\W_])_|_(?![^\W_])|&(?=#?\w+;)|(?<=\w):(?=//)|(?<=\bwww)\."
)
_AT_START = re.compile(r"^(\d*)(?=[-#+=>.)])")  # headings, lists, quotations, rules
_LATEX = {sign: f"\\{sign}" for sign in "&%_#${}"} | {sign: f"{{{sign}}}" for sign in "[]*"}
_LATEX |= {"\\": r"\textbackslash{}", "^": r"\^{}", "~": r"\~{}"}
_LATEX |= {
    "†": r"$^\dagger$",
    "‡": r"$^\ddagger$",
    "±": r"$\pm$",
    "ᵇ": r"$^\text{b}$",
    "ᵐ": r"$^\text{m}$",
}
_FORMULA = tuple("=+-@＝＋－＠")  # what spreadsheets take for the start of one


def one_line(text: str) -> str:
    """The text with single spaces, and � for characters that change a terminal or a line."""
    words = " ".join(text.split())
    return "".join(sign if sign.isprintable() else "\N{REPLACEMENT CHARACTER}" for sign in words)


def short_number(value: object) -> object:
    """A number with at most 12 digits, without what the rounding of a product adds to 1.4; any
    other value as it is."""
    return float(f"{value:.12g}") if isinstance(value, float) else value


def listed(items: Iterable[str], most: int = 12, separator: str = ", ") -> str:
    """The first items, and the number of further ones."""
    items = list(items)
    further = f"{separator.lstrip(',')}and {len(items) - most} more" * (len(items) > most)
    return separator.join(items[:most]) + further


def describe_duration(seconds: float | None) -> str:
    """A duration as 45 s, 12 min, 3.4 h or 2.1 days; ? if it is not known."""
    if seconds is None:
        return "?"
    for limit, divisor, unit in ((90, 1, "s"), (5400, 60, "min"), (172800, 3600, "h")):
        if seconds < limit:
            return f"{seconds / divisor:.{int(unit == 'h')}f} {unit}"
    return f"{seconds / 86400:.1f} days"


def markdown_text(text: str) -> str:
    """A paragraph, a title or an item of a list in Markdown, as GitHub reads it."""
    return _AT_START.sub(r"\1\\", markdown_cell(text), count=1)


def markdown_cell(text: str) -> str:
    """A cell of a table in Markdown."""
    return _MARKDOWN.sub(r"\\\g<0>", one_line(text))


def latex_text(text: str) -> str:
    """Text in LaTeX; the signs of our tables need amsmath."""
    return "".join(_LATEX.get(sign, sign) for sign in one_line(text))


def to_csv(frame: "pd.DataFrame") -> str:
    """CSV. A text that a spreadsheet would run as a formula begins with an apostrophe."""

    def defuse(value: object) -> object:
        if not isinstance(value, str):
            return value
        return f"'{one_line(value)}" if value.lstrip().startswith(_FORMULA) else one_line(value)

    return frame.map(defuse).to_csv(index=False, lineterminator="\n")


def describe_bytes(size: float) -> str:
    """A number of bytes in words, e.g. "1.25 GiB"."""
    return f"{size / 2**30:.2f} GiB" if size >= 2**28 else f"{size / 2**20:.1f} MiB"
