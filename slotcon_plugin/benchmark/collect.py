"""Collects the results of all jobs: mean, spread and number of runs, beside published rows."""

from .job_states import read_result
from .jobs import Job, Plan
from .measures import COLUMNS, read_measures
from .protocols import Protocols, Reference
from .result_tables import MARK, Cell, Column, Row, Table
from .schema import Benchmark, Pretraining


def build_table(benchmark: Benchmark, protocols: Protocols, plan: Plan) -> Table:
    """Collect what is there. Jobs without a result leave their cell out of the means, or empty."""
    columns = _columns(benchmark, plan, protocols)
    notes: dict[str, None] = {}
    table = Table(benchmark.title, columns, [], [])
    jobs = {job.name: job for job in plan.jobs}
    for one in benchmark.pretrainings:
        published = protocols.references.get(one.paper or "")
        trainings = [jobs[name] for s in one.seeds if (name := f"pretrain.{one.name}.s{s}") in jobs]
        strange = _strange(one, trainings, published, protocols)
        if strange:
            notes[f"{MARK} {one.title}: {'; '.join(strange)}"] = None
        if one.kind == "checkpoint" and published:
            notes[
                f"{one.title}: {one.source}, taken as {published.title}, {published.pretraining}, "
                "on the benchmark file's word"
            ] = None
        cells = {}
        runs_of = {
            column.transfer: _runs(plan, one, column, protocols)
            for column in columns
            if column.measure is COLUMNS[column.group][0]
        }
        table.runs += [
            {**run, "reasons": [*strange, *run["reasons"]]}
            for runs in runs_of.values()
            for run in runs
        ]
        for i, column in enumerate(columns):
            runs = runs_of[column.transfer]
            deviating = list(dict.fromkeys(reason for run in runs for reason in run["reasons"]))
            if deviating:
                notes[f"{MARK} {column.title}: {'; '.join(deviating)}"] = None
            if runs:
                values: dict[int, list[float]] = {}
                for run in runs:
                    value = run["measures"][column.measure.key]
                    values.setdefault(run["about"]["seed"], []).append(value)
                cells[i] = Cell.of(list(values.values()), bool(deviating or strange))
        table.rows.append(Row("ours", one.title, "this benchmark", cells))
        if published:
            table.rows += _difference(published, columns, cells)
    wanted = protocols.references if benchmark.references is None else benchmark.references
    rows = [_published(protocols.references[key], columns) for key in wanted]
    table.rows += [row for row in rows if row.cells]
    if any(row.kind == "published" for row in table.rows):
        for column in columns:
            notes[f"published rows: {column.family or column.group}"] = None
    if any(cell.pretrainings > 1 for row in table.rows for cell in row.cells.values()):
        notes["± of several pretrainings: of the means over their transfers' seeds"] = None
    table.notes = [*notes, *_versions(table.runs)]
    return table


def _columns(benchmark: Benchmark, plan: Plan, protocols: Protocols) -> list[Column]:
    planned = {job.about.get("transfer") for job in plan.jobs}
    transfers = [transfer for transfer in benchmark.transfers if transfer.name in planned]
    groups = [transfer.column for transfer in transfers]
    return [
        Column(
            transfer.name,
            transfer.title,
            transfer.column,
            measure,
            f" ({transfer.title})" if groups.count(transfer.column) > 1 else "",
            protocols.protocols.get(f"{transfer.column}-{transfer.kind}", {}).get("family"),
        )
        for transfer in transfers
        for measure in COLUMNS[transfer.column]
    ]


def _strange(
    one: Pretraining, trainings: list[Job], published: Reference | None, protocols: Protocols
) -> list[str]:
    """Why a pretraining is not the paper's; empty if it is, or if there is none."""
    if one.kind == "checkpoint" and one.paper is None:
        return ["a checkpoint; how it was pretrained is not known here"]
    found = [reason for job in trainings for reason in job.deviations]
    for result in filter(None, (read_result(job.result) for job in trainings)):
        found += protocols.counted(published and published.protocol, result)
    return list(dict.fromkeys(found))


def _runs(plan: Plan, one: Pretraining, column: Column, protocols: Protocols) -> list[dict]:
    """The results of a pretraining's jobs for a column, with `reasons` for a mark."""
    wanted = dict(pretraining=one.name, transfer=column.transfer)
    found = []
    for job in plan.jobs:
        if wanted.items() <= job.about.items() and (result := read_result(job.result)):
            kind = job.about["kind"]
            # Anew: the column may have been corrected since
            result["measures"] = read_measures(kind, column.group, result["metrics"])
            counted = protocols.counted(f"{column.group}-{kind}", result)
            found.append({**result, "reasons": [*job.deviations, *counted]})
    return found


def _difference(published: Reference, columns: list[Column], cells: dict[int, Cell]) -> list[Row]:
    """Ours minus the published row, where both are there and of one protocol family."""
    there = _published(published, columns).cells
    found = {
        i: Cell(cell.mean - there[i].mean, signed=True)
        for i, cell in cells.items()
        if i in there and not cell.marked
    }
    label = f"– minus {published.title}, {published.pretraining}, published"
    return [Row("difference", label, published.source, found)] if found else []


def _published(one: Reference, columns: list[Column]) -> Row:
    """A published row, in the columns whose protocol family its figures are of."""
    cells = {
        i: Cell(one.results[column.measure.key])
        for i, column in enumerate(columns)
        if column.measure.key in one.results and column.family == one.family.get(column.group)
    }
    return Row("published", f"{one.title}, {one.pretraining}", one.source, cells)


def _versions(runs: list[dict]) -> list[str]:
    """A note for each package, and for the checkout, of which the runs had several versions."""
    notes = []
    for name in ("slotcon_plugin", "commit", "torch"):
        found = sorted({run["versions"].get(name, "unknown") for run in runs})
        if len(found) > 1:
            notes.append(f"results of several versions of {name}: {', '.join(found)}")
    return notes
