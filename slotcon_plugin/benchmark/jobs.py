"""Plans, jobs and results as data, and their JSON files."""

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, TypeVar

from pydantic import Field, TypeAdapter, ValidationError

from ..errors import DataError
from ..runtime.atomic_files import write_atomically
from ..runtime.regular_files import read_regular_file
from .measures import read_measures

Record = TypeVar("Record")
Check = Callable[[Record], object]
Amount = Annotated[float, Field(ge=0, lt=2**63)]  # no NaN
Count = Annotated[int, Field(ge=0, lt=2**63)]
MAX_BYTES = 2**28
UNITS = dict(pretrain="epochs", export="files", transfer="iterations", evaluate="evaluations")


@dataclass(frozen=True)
class Step:
    """One command of a job. `{folder}` in a word is the job's folder."""

    command: list[str]
    done: str  # the file that exists when the step is complete
    content: str | None = None  # of that file, if it matters
    needed: bool = True  # otherwise the job succeeds without it


@dataclass(frozen=True)
class Job:
    """One unit that Snakemake starts."""

    name: str
    rule: str  # a key of UNITS
    digest: str  # of the recipe
    folder: str  # absolute: work dir/jobs/NAME/first 12 digits of the digest
    recipe: dict
    steps: list[Step]
    environment: dict[str, str]
    gpus: int
    cores: int
    about: dict  # pretraining, transfer, seeds, ... for the tables
    length: int = 1  # in UNITS[rule]
    needs: list[str] = field(default_factory=list)  # names of jobs
    deviations: list[str] = field(default_factory=list)  # from the paper's protocol

    @property
    def result(self) -> Path:
        """The file that is written when the job has succeeded: a `JobResult`."""
        return Path(self.folder) / "result.json"


@dataclass(frozen=True)
class Plan:
    """All jobs, and why others were left out, a line each."""

    jobs: list[Job]
    left_out: list[str]


@dataclass(frozen=True)
class JobResult:
    """What a finished job found, and how."""

    job: Job
    run_id: str  # new when the job begins from nothing
    measures: dict[str, Amount]  # percent
    metrics: dict  # as the tool wrote them
    losses: dict[str, float]  # the last ones
    images: dict[str, int]  # trained, evaluated
    seconds: Amount  # over all starts
    starts: Count
    peak_memory_mib: Count
    peak_gpu_memory_mib: Amount | None
    bytes: Count
    device: str
    versions: dict[str, str]
    finished: str  # time, ISO 8601


def write_record(record: object, path: Path) -> None:
    """Write a dataclass or plain values as JSON."""
    write_atomically(TypeAdapter(type(record)).dump_json(record, indent=1), path)


def load_record(path: Path, kind: type[Record]) -> Record | None:
    """Read a JSON file; None if it does not exist, DataError if it is damaged."""
    try:
        return TypeAdapter(kind).validate_json(read_regular_file(path, MAX_BYTES))
    except FileNotFoundError:
        return None
    except ValidationError as error:
        reason = error.errors()[0]["msg"]
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
    raise DataError(f"{path} is damaged ({reason})")


def read_record(path: Path, kind: type[Record], check: Check | None = None) -> Record | None:
    """Read a JSON file of a job's folder; None if it does not exist or is damaged.

    A damaged file is renamed with a warning, so that the benchmark creates it again. It is also
    damaged if `check`, called with the content, raises DataError.
    """
    try:
        record = load_record(path, kind)
        if record is not None and check is not None:
            check(record)
        return record
    except DataError as error:
        if not (path.is_file() or path.is_dir()):
            raise  # a pipe or a device: no job made it
        message = str(error) if str(path) in str(error) else f"{path} is damaged ({error})"
        set_aside(path)
        logging.warning("%s and will be created again", " ".join(message.split()))
        return None


def set_aside(path: Path) -> None:
    """Rename a damaged file, or a folder in its place, to NAME.damaged, or NAME.damaged2, ..."""
    number, new = 1, path.with_name(f"{path.name}.damaged")
    while new.exists():
        number += 1
        new = path.with_name(f"{path.name}.damaged{number}")
    path.rename(new)


def read_result(job: Job) -> JobResult | None:
    """The result of a job; one of another job, or without its measures, counts as damaged."""

    def check(result: JobResult) -> None:
        about = result.job.about
        if result.job.digest != job.digest:
            raise DataError(f"it is the result of {result.job.name}, {result.job.digest:.12}")
        if result.metrics:
            read_measures(about.get("kind"), about.get("column"), result.metrics)

    return read_record(job.result, JobResult, check)
