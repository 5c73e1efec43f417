"""Collects the results of all jobs: mean, deviation and number of runs, beside published rows."""

import pandas as pd

from ..checkpoints.encoder import ALONE
from .jobs import Job, JobResult, Plan, read_result
from .measures import COLUMNS, read_measures
from .protocols import Protocols, Reference
from .recipe import other_library
from .result_tables import MARK, MORE, Cell, Column, Row, Table
from .schema import Benchmark, Pretraining

RUN = ["pretraining", "seed", "transfer", "transfer seed", "measure", "percent"]
RUN += ["paper's protocol", "reasons", "seconds", "device", "digest"]


def build_table(benchmark: Benchmark, protocols: Protocols, plan: Plan) -> Table:
    """Collect the results of the plan's jobs. Without a result, a cell is empty."""
    results = {job.name: read_result(job) for job in plan.jobs}
    results = {name: result for name, result in results.items() if result}
    columns, rows, notes, deviations_of = _columns(benchmark, plan, protocols), [], [], {}
    runs = _runs(plan, results, protocols)
    groups = dict(iter(runs.groupby(["pretraining", "transfer", "measure"])))
    for one in benchmark.pretrainings.values():
        published = protocols.references.get(one.paper or "")
        deviations = _pretraining_deviations(one, plan, results, protocols)
        if deviations:
            notes.append(f"{MARK} {one.title}: {'; '.join(deviations)}")
        notes += _other_method(one, plan, results)
        if one.parts == ALONE:
            notes.append(f"{one.title}: transfers get the encoder without its pretrained decoder")
        if one.checkpoint and published:
            notes.append(
                f"{one.title}: {one.checkpoint}, taken as {published.title}, "
                f"{published.pretraining}, because the benchmark file says so"
            )
        cells = {}
        for i, column in enumerate(columns):
            found = groups.get((one.name, column.transfer.name, column.measure.key))
            if found is not None:
                reasons = dict.fromkeys(one for run in found["reasons"] for one in run)
                if reasons:
                    notes.append(f"{MARK} {column.transfer.title}: {'; '.join(reasons)}")
                marked = bool(reasons or deviations)
                cells[i] = Cell.of(found.set_index("seed")["percent"], marked)
        deviations_of[one.name] = deviations
        label, more = _with_mark(one.title, _pretrained_decoder(one, plan))
        notes += more
        rows.append(Row("ours", label, "this benchmark", cells))
        if published:
            rows += _difference(published, columns, cells)
    names = protocols.references if benchmark.references is True else benchmark.references or []
    for reference in (protocols.references[name] for name in names):
        row = _published(reference, columns)
        if row.cells:
            rows.append(row)
            notes += _with_mark(f"{reference.title}, {reference.pretraining}", reference.more)[1]
        elif benchmark.references is not True:  # it was named
            families = ", ".join(reference.family.values())
            notes.append(f"not shown, since no transfer here is {families}: {row.label}")
    if any(row.kind == "published" for row in rows):
        notes += [f"published rows: {c.family or c.transfer.column}" for c in columns]
    if any(cell.pretrainings > 1 for row in rows for cell in row.cells.values()):
        notes.append("± of several pretrainings: of the means over their transfers' seeds")
    notes += _versions([result for result in results.values() if result.metrics])
    reasons = zip(runs["pretraining"].map(deviations_of), runs["reasons"], strict=True)
    runs["reasons"] = ["; ".join([*of_pretraining, *own]) for of_pretraining, own in reasons]
    runs["paper's protocol"] = ["no" if reasons else "yes" for reasons in runs["reasons"]]
    return Table(benchmark.title, columns, rows, list(dict.fromkeys(notes)), runs)


def _columns(benchmark: Benchmark, plan: Plan, protocols: Protocols) -> list[Column]:
    planned = {job.about.get("transfer") for job in plan.jobs}
    transfers = [one for one in benchmark.transfers.values() if one.name in planned]
    groups = [one.column for one in transfers]
    columns = []
    for one in transfers:
        protocol = protocols.protocols.get(f"{one.column}-{one.kind}")
        suffix = f" ({one.title})" if groups.count(one.column) > 1 else ""
        family = protocol.family if protocol else None
        columns += [Column(one, measure, suffix, family) for measure in COLUMNS[one.column]]
    return columns


def _runs(plan: Plan, results: dict[str, JobResult], protocols: Protocols) -> pd.DataFrame:
    """A row for each measure of each run of a transfer, with the reasons for a mark."""
    lines = []
    for job in plan.jobs:
        about, result = job.about, results.get(job.name)
        if result is None or "transfer" not in about:
            continue
        reasons = protocols.counted(f"{about['column']}-{about['kind']}", result)
        run = [about["pretraining"], about["seed"], about["transfer"], about["transfer_seed"]]
        rest = ["", job.deviations + reasons, result.seconds, result.device, job.digest[:12]]
        # Not the result's own measures: the file's column may have been corrected since
        measures = read_measures(about["kind"], about["column"], result.metrics)
        lines += [[*run, measure, percent, *rest] for measure, percent in measures.items()]
    return pd.DataFrame(lines, columns=RUN)


def _pretraining_deviations(
    one: Pretraining, plan: Plan, results: dict[str, JobResult], protocols: Protocols
) -> list[str]:
    """Why a pretraining is not the paper's; empty if it is, or if nothing was trained."""
    if one.checkpoint and one.paper is None:
        return ["a checkpoint of an unknown pretraining"]
    found = []
    for job in _trainings(one, plan):
        found += job.deviations
        if one.paper and job.name in results:
            protocol = protocols.references[one.paper].protocol
            found += protocols.counted(protocol, results[job.name])
    return list(dict.fromkeys(found))


def _trainings(one: Pretraining, plan: Plan) -> list[Job]:
    """The jobs that train it, one for each seed."""
    jobs = [job for job in plan.jobs if job.rule == "pretrain"]
    return [job for job in jobs if job.about["pretraining"] == (one.same_as or one.name)]


def _pretrained_decoder(one: Pretraining, plan: Plan) -> str | None:
    """The class of the decoder that transfers get, if the benchmark trains one."""
    for job in _trainings(one, plan) if one.parts != ALONE else ():
        return job.recipe["config"].get("model.decoder.type")
    return None


def _with_mark(label: str, more: str | None) -> tuple[str, list[str]]:
    """The name of a row, marked if it pretrains more than the encoder, and the note about it."""
    if more is None:
        return label, []
    return f"{label} {MORE}", [f"{MORE} pretrains more than the encoder: {label}: {more}"]


def _other_method(one: Pretraining, plan: Plan, results: dict[str, JobResult]) -> list[str]:
    """A note that says whose implementation a method other than SlotCon is."""
    jobs = _trainings(one, plan)
    content = jobs[0].recipe["config"] if jobs else {}
    if (library := other_library(content)) is None:
        return []
    versions = results[jobs[0].name].versions if jobs[0].name in results else {}
    names = (library, f"onedl-{library}")  # of its distributions
    found = " ".join([library, *(versions[name] for name in names if name in versions)])
    method = content["model.type"].rpartition(".")[2]
    return [f"{one.title}: the method is {method}, as {found} has it"]


def _difference(published: Reference, columns: list[Column], cells: dict[int, Cell]) -> list[Row]:
    """Ours minus the published row, where both exist and have the same protocol family.

    There is none to a row that pretrains more than the encoder.
    """
    theirs = {} if published.more else _published(published, columns).cells
    found = {
        i: Cell(cell.mean - theirs[i].mean, signed=True)
        for i, cell in cells.items()
        if i in theirs and not cell.marked
    }
    label = f"– minus {published.title}, {published.pretraining}, published"
    return [Row("difference", label, published.source, found)] if found else []


def _published(one: Reference, columns: list[Column]) -> Row:
    """A published row, in the columns of the protocol family of its figures."""
    cells = {
        i: Cell(one.results[column.measure.key])
        for i, column in enumerate(columns)
        if column.measure.key in one.results
        and column.family == one.family.get(column.transfer.column)
    }
    label, _ = _with_mark(f"{one.title}, {one.pretraining}", one.more)
    return Row("published", label, one.source, cells)


def _versions(results: list[JobResult]) -> list[str]:
    """A note for each package, and for the checkout, of which the results had several versions."""
    notes = []
    for name in ("slotcon_plugin", "commit", "torch"):
        found = sorted({result.versions.get(name, "unknown") for result in results})
        if len(found) > 1:
            notes.append(f"results of several versions of {name}: {', '.join(found)}")
    return notes
