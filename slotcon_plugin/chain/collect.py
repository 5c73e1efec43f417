"""Collects the results of all jobs: mean, spread and number of runs, beside published rows."""

from .benchmark_file import Benchmark, Pretraining, Transfer
from .jobs import Job, Plan
from .measures import COLUMNS
from .protocols import Protocols, Reference
from .states import read_result
from .tables import MARK, Cell, Column, Row, Table


def build_table(benchmark: Benchmark, protocols: Protocols, plan: Plan) -> Table:
    """Collect what is there. Jobs without a result leave their cell out of the means, or empty."""
    columns = _columns(benchmark, plan)
    notes: dict[str, None] = {}
    table = Table(benchmark.title, columns, [], [])
    jobs = {job.name: job for job in plan.jobs}
    for one in benchmark.pretrainings:
        trainings = [jobs[name] for s in one.seeds if (name := f"pretrain.{one.name}.s{s}") in jobs]
        strange = _strange(one, trainings)
        if strange:
            notes[f"{MARK} {one.title}: {'; '.join(strange)}"] = None
        cells = {}
        for i, column in enumerate(columns):
            runs = _runs(plan, one, column)
            deviating = list(dict.fromkeys(r for job, _ in runs for r in job.deviations))
            transfer = next(t for t in benchmark.transfers if t.name == column.transfer)
            if deviating:
                notes[f"{MARK} {transfer.title}: {'; '.join(deviating)}"] = None
            if runs:
                values = [result["measures"][column.measure.key] for _, result in runs]
                cells[i] = Cell.of(values, bool(deviating or strange))
            table.runs += [
                {**result, "marked": bool(job.deviations or strange)}
                for job, result in runs
                if column.measure is COLUMNS[column.group][0]
            ]
        table.rows.append(Row("ours", one.title, "this benchmark", cells))
        published = protocols.references.get(one.paper or "")
        if published:
            table.rows += _difference(published, protocols, columns, cells, benchmark.transfers)
    wanted = protocols.references if benchmark.references is None else benchmark.references
    rows = [_published(protocols.references[key], columns) for key in wanted]
    table.rows += [row for row in rows if row.cells]
    if any(row.kind == "published" for row in table.rows):
        for column in columns:
            family = protocols.protocols.get(f"{column.group}-{_kind(benchmark, column)}", {})
            notes[f"published rows: {family.get('family', column.group)}"] = None
    table.notes = [*notes, *_versions(table.runs)]
    return table


def _kind(benchmark: Benchmark, column: Column) -> str:
    return next(t.kind for t in benchmark.transfers if t.name == column.transfer)


def _columns(benchmark: Benchmark, plan: Plan) -> list[Column]:
    planned = {job.about.get("transfer") for job in plan.jobs}
    transfers = [transfer for transfer in benchmark.transfers if transfer.name in planned]
    groups = [transfer.column for transfer in transfers]
    return [
        Column(
            transfer.name,
            transfer.column,
            measure,
            f" ({transfer.title})" if groups.count(transfer.column) > 1 else "",
        )
        for transfer in transfers
        for measure in COLUMNS[transfer.column]
    ]


def _strange(one: Pretraining, trainings: list[Job]) -> list[str]:
    """Why a pretraining is not the paper's; empty if it is, or if there is none."""
    if one.kind == "checkpoint" and one.paper is None:
        return ["a checkpoint; how it was pretrained is not known here"]
    return list(dict.fromkeys(reason for job in trainings for reason in job.deviations))


def _runs(plan: Plan, one: Pretraining, column: Column) -> list[tuple[Job, dict]]:
    wanted = dict(pretraining=one.name, transfer=column.transfer)
    found = []
    for job in plan.jobs:
        if wanted.items() <= job.about.items() and (result := read_result(job.result)):
            found.append((job, result))
    return found


def _difference(
    published: Reference,
    protocols: Protocols,
    columns: list[Column],
    cells: dict[int, Cell],
    transfers: tuple[Transfer, ...],
) -> list[Row]:
    """Ours minus the published row, where both are there and of one protocol family."""
    kinds = {transfer.name: transfer.kind for transfer in transfers}
    found = {}
    for i, cell in cells.items():
        column = columns[i]
        protocol = protocols.protocols.get(f"{column.group}-{kinds[column.transfer]}", {})
        same = protocol.get("family") == published.family.get(column.group)
        if same and not cell.marked and column.measure.key in published.results:
            found[i] = Cell(cell.mean - published.results[column.measure.key], signed=True)
    label = f"– minus {published.title}, {published.pretraining}, published"
    return [Row("difference", label, published.source, found)] if found else []


def _published(one: Reference, columns: list[Column]) -> Row:
    cells = {
        i: Cell(one.results[column.measure.key])
        for i, column in enumerate(columns)
        if column.measure.key in one.results
    }
    return Row("published", f"{one.title}, {one.pretraining}", one.source, cells)


def _versions(runs: list[dict]) -> list[str]:
    """A note for each package of which the runs had several versions."""
    notes = []
    for name in ("slotcon_plugin", "torch"):
        found = sorted({run["versions"].get(name, "unknown") for run in runs})
        if len(found) > 1:
            notes.append(f"results of several versions of {name}: {', '.join(found)}")
    return notes
