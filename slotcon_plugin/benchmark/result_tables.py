"""One table of everything, as Markdown, CSV and LaTeX."""

import csv
import io
import statistics
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from ..runtime.atomic_files import write_atomically
from .measures import Measure

MARK = "†"
WARNING = f"{MARK} is NOT the paper's protocol: not to be compared with published figures"


@dataclass(frozen=True)
class Cell:
    """One figure."""

    mean: float  # percent; of a difference, percentage points
    sd: float | None = None  # sample standard deviation; None for one run
    runs: int | None = None  # None for published figures and differences
    pretrainings: int = 1  # that the runs are of
    marked: bool = False  # not the paper's protocol
    signed: bool = False  # a difference

    @classmethod
    def of(cls, values: list[list[float]], marked: bool) -> "Cell":
        """Mean and standard deviation (n - 1) of runs with different seeds.

        Args:
            values: a list for each pretraining. Runs that share one are not independent: the spread
                of several pretrainings is that of their means.
            marked: not the paper's protocol.
        """
        means = [statistics.fmean(runs) for runs in values]
        independent = means if len(values) > 1 else values[0]
        sd = statistics.stdev(independent) if len(independent) > 1 else None
        return cls(statistics.fmean(means), sd, sum(map(len, values)), len(values), marked)


@dataclass(frozen=True)
class Column:
    """One measure by one transfer."""

    transfer: str
    title: str  # the transfer's
    group: str  # a key of COLUMNS
    measure: Measure
    suffix: str  # behind the head, where several transfers fill the same columns
    family: str | None  # of protocols; None: the paper has no such protocol

    @property
    def head(self) -> str:
        """The column's name in Markdown and CSV."""
        return f"{self.measure.head}{self.suffix}"


@dataclass(frozen=True)
class Row:
    """One line: a pretraining's results, their difference to a published row, or such a row."""

    kind: str  # ours, difference or published
    label: str
    source: str
    cells: dict[int, Cell]  # by the column's number; absent: empty


@dataclass
class Table:
    """Everything that is shown."""

    title: str
    columns: list[Column]
    rows: list[Row]
    notes: list[str]
    runs: list[dict] = field(default_factory=list)  # result files that are in it

    @property
    def has_marks(self) -> bool:
        """Whether something in it is not the paper's protocol."""
        return any(cell.marked for row in self.rows for cell in row.cells.values())

    def lines(self, write: Callable[[Cell, Column], str] | None = None) -> list[list[str]]:
        """Every row as text: label, cells, source. `write` makes the text of a cell."""
        write = write or _text
        return [
            [
                row.label,
                *(
                    write(row.cells[i], c) if i in row.cells else ""
                    for i, c in enumerate(self.columns)
                ),
                row.source,
            ]
            for row in self.rows
        ]

    def markdown(self) -> str:
        """A Markdown table with its notes."""
        head = ["pretraining", *(column.head for column in self.columns), "source"]
        body = self.lines()
        widths = [max(len(line[i]) for line in [head, *body]) for i in range(len(head))]
        lines = [
            "| " + " | ".join(word.ljust(w) for word, w in zip(line, widths, strict=True)) + " |"
            for line in [head, ["-" * w for w in widths], *body]
        ]
        warning = [f"**{WARNING}.**", ""] if self.has_marks else []
        notes = ["", *(f"- {note}" for note in self.notes)] if self.notes else []
        return "\n".join([f"## {self.title}", "", *warning, *lines, *notes])

    def latex(self) -> str:
        """A LaTeX table (booktabs) with its notes."""
        heads = ["pretraining", *(c.measure.latex + _escaped(c.suffix) for c in self.columns)]
        body = [
            " & ".join([_escaped(line[0]), *line[1:-1], _escaped(line[-1])]) + r" \\"
            for line in self.lines(_latex)
        ]
        warning = [WARNING] if self.has_marks else []
        caption = ". ".join([self.title, *warning, *self.notes]) + "."
        return "\n".join(
            [
                "% needs booktabs and amsmath",
                r"\begin{table}",
                r"\centering",
                rf"\begin{{tabular}}{{l{'c' * len(self.columns)}l}}",
                r"\toprule",
                " & ".join([*heads, "source"]) + r" \\",
                r"\midrule",
                *body,
                r"\bottomrule",
                r"\end{tabular}",
                rf"\caption{{{_escaped(caption)}}}",
                r"\end{table}",
                "",
            ]
        )

    def csv(self) -> str:
        """The table; mean, spread, runs and protocol of each measure in columns of their own."""
        parts = ("", " sd", " runs", " pretrainings", " paper's protocol", " family")
        heads = [f"{column.head}{part}" for column in self.columns for part in parts]
        file = io.StringIO()
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["kind", "pretraining", *heads, "source"])
        for row in self.rows:
            words: list[object] = [row.kind, row.label]
            for i, column in enumerate(self.columns):
                cell = row.cells.get(i)
                words += _fields(cell, column) if cell else [""] * len(parts)
            writer.writerow([*words, row.source])
        return file.getvalue()

    def runs_csv(self) -> str:
        """A line for each figure of each run."""
        lines = [
            {
                "pretraining": run["about"]["pretraining"],
                "seed": run["about"]["seed"],
                "transfer": run["about"]["transfer"],
                "transfer seed": run["about"]["transfer_seed"],
                "measure": measure,
                "percent": value,
                "paper's protocol": "no" if run["reasons"] else "yes",
                "reasons": "; ".join(run["reasons"]),
                "seconds": run["seconds"],
                "device": run["device"],
                "digest": run["digest"][:12],
            }
            for run in self.runs
            for measure, value in run["measures"].items()
        ]
        file = io.StringIO()
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(lines[0] if lines else ["pretraining"])
        writer.writerows(line.values() for line in lines)
        return file.getvalue()


def _text(cell: Cell, column: Column) -> str:
    digits = column.measure.digits
    if cell.runs is None:
        return f"{cell.mean:{'+' * cell.signed}.{digits}f}"
    spread = f" ± {cell.sd:.{digits}f}" if cell.sd is not None else ""
    runs = f"{cell.runs}" if cell.pretrainings == 1 else f"{cell.runs} of {cell.pretrainings}"
    return f"{cell.mean:.{digits}f}{spread} ({runs})" + f" {MARK}" * cell.marked


def _latex(cell: Cell, column: Column) -> str:
    text = _text(cell, column).replace(" ± ", r"$\pm$")
    return text.replace(f" {MARK}", r"$^\dagger$")


def _fields(cell: Cell, column: Column) -> list[object]:
    digits, family = column.measure.digits, column.family or ""
    if cell.runs is None:
        return [round(cell.mean, digits), "", "", "", "", family]
    sd = "" if cell.sd is None else round(cell.sd, digits + 1)
    protocol = "no" if cell.marked else "yes"
    return [round(cell.mean, digits + 1), sd, cell.runs, cell.pretrainings, protocol, family]


def _escaped(text: str) -> str:
    signs = {sign: f"\\{sign}" for sign in "&%_#${}"}
    signs |= {"\\": r"\textbackslash{}", "^": r"\^{}", "~": r"\~{}"}
    signs |= {MARK: r"$\dagger$", "±": r"$\pm$"}
    return "".join(signs.get(sign, sign) for sign in text)


def write_tables(table: Table, folder: Path) -> None:
    """Write tables.md, tables.csv, tables.tex and runs.csv."""
    for name, text in {
        "tables.md": table.markdown() + "\n",
        "tables.csv": table.csv(),
        "tables.tex": table.latex(),
        "runs.csv": table.runs_csv(),
    }.items():
        write_atomically(text.encode(), folder / name)
