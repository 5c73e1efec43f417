"""One table of all results, as Markdown, CSV and LaTeX."""

import re
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from ..runtime.atomic_files import write_atomically
from ..runtime.text_formats import latex_text, markdown_cell, markdown_text, to_csv
from .measures import Measure
from .schema import Transfer

MARK = "†"
MORE = "‡"  # after the name of a row that pretrains more than the encoder
WARNING = f"{MARK} is NOT the paper's protocol: not to be compared with published figures"

FIGURE = ["kind", "pretraining", "figure", "mean", "sd", "runs", "pretrainings"]
FIGURE += ["paper's protocol", "family", "source"]


@dataclass(frozen=True)
class Cell:
    """One figure."""

    mean: float  # percent; of a difference, percentage points
    sd: float | None = None  # sample standard deviation; None for one run
    runs: int | None = None  # None for published figures and differences
    pretrainings: int = 1  # of the runs
    marked: bool = False  # not the paper's protocol
    signed: bool = False  # a difference

    @classmethod
    def of(cls, percent: pd.Series, marked: bool) -> "Cell":
        """Mean and standard deviation (n - 1) of runs with different seeds.

        `percent` is indexed by the seed of each run's pretraining. Runs that share a pretraining
        are not independent: with several pretrainings, the deviation is that of their means.
        """
        means = percent.groupby(level=0).mean()
        independent = means if len(means) > 1 else percent
        sd = float(independent.std()) if len(independent) > 1 else None
        return cls(float(means.mean()), sd, len(percent), len(means), marked)

    def text(self, digits: int) -> str:
        """The cell of a printed table: 70.5 ± 0.7 (2) †."""
        if self.runs is None:
            return f"{self.mean:{'+' * self.signed}.{digits}f}"
        spread = f" ± {self.sd:.{digits}f}" if self.sd is not None else ""
        runs = f"{self.runs}" if self.pretrainings == 1 else f"{self.runs} of {self.pretrainings}"
        return f"{self.mean:.{digits}f}{spread} ({runs})" + f" {MARK}" * self.marked


@dataclass(frozen=True)
class Column:
    """One measure of one transfer."""

    transfer: Transfer
    measure: Measure
    suffix: str  # of the head, if several transfers have the same measures
    family: str | None  # of the protocol; None: the paper has no such protocol


@dataclass(frozen=True)
class Row:
    """A pretraining's results, their difference to a published row, or a published row."""

    kind: str  # ours, difference or published
    label: str
    source: str
    cells: dict[int, Cell]  # by the column's number; absent: empty


@dataclass(frozen=True)
class Table:
    """All results."""

    title: str
    columns: list[Column]
    rows: list[Row]
    notes: list[str]
    runs: pd.DataFrame  # a row for each measure of each run

    @property
    def has_marks(self) -> bool:
        """Whether a figure is not of the paper's protocol."""
        return any(cell.marked for row in self.rows for cell in row.cells.values())

    def frame(self) -> pd.DataFrame:
        """The table as text: label, cells, source."""
        heads = ["pretraining", *(c.measure.head + c.suffix for c in self.columns), "source"]
        lines = []
        for row in self.rows:
            cells = [(row.cells.get(i), c.measure.digits) for i, c in enumerate(self.columns)]
            texts = [cell.text(digits) if cell else "" for cell, digits in cells]
            lines.append([row.label, *texts, row.source])
        return pd.DataFrame(lines, columns=heads)

    def markdown(self) -> str:
        """A Markdown table with its notes."""
        frame = self.frame().map(markdown_cell).rename(columns=markdown_cell)
        parts = [f"## {markdown_text(self.title)}", f"**{WARNING}.**" if self.has_marks else ""]
        parts += [frame.to_markdown(index=False, disable_numparse=True)]
        parts += ["\n".join(f"- {markdown_text(note)}" for note in self.notes)]
        return "\n\n".join(filter(None, parts))

    def latex(self) -> str:
        """A LaTeX table (booktabs) with its notes."""
        frame = self.frame().map(latex_text)
        # AP$^\text{b}$50 becomes AP$^\text{b}_{50}$
        size = re.compile(r"(?<=\^\\text{.})\$(\d+)")
        frame.columns = [size.sub(r"_{\1}$", latex_text(head)) for head in frame.columns]
        caption = ". ".join([self.title, *([WARNING] if self.has_marks else []), *self.notes])
        form = dict(column_format=f"l{'c' * len(self.columns)}l", caption=f"{latex_text(caption)}.")
        table = frame.to_latex(index=False, escape=False, **form)
        return f"% needs booktabs and amsmath\n{table}"

    def csv(self) -> str:
        """A line for each figure."""
        lines = []
        for row in self.rows:
            for i, cell in row.cells.items():
                column = self.columns[i]
                digits = column.measure.digits + 1
                line = [row.kind, row.label, column.measure.head + column.suffix]
                line += [round(cell.mean, digits), cell.sd and round(cell.sd, digits), cell.runs]
                line += [cell.runs and cell.pretrainings]
                line += [cell.runs and ("no" if cell.marked else "yes"), column.family, row.source]
                lines.append(line)
        counts = dict(runs="Int64", pretrainings="Int64")  # integers that may be missing
        return to_csv(pd.DataFrame(lines, columns=FIGURE).astype(counts))


def write_tables(table: Table, folder: Path) -> None:
    """Write tables.md, tables.csv, tables.tex and runs.csv."""
    texts = {"tables.md": table.markdown() + "\n", "tables.csv": table.csv()}
    texts |= {"tables.tex": table.latex(), "runs.csv": to_csv(table.runs)}
    for name, text in texts.items():
        write_atomically(text.encode(), folder / name)
