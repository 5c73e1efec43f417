"""Plans, jobs and results as data, and their JSON files."""

import logging
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from pydantic import TypeAdapter, ValidationError

from ..runtime.atomic_files import write_atomically

Record = TypeVar("Record")
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
    measures: dict[str, float]  # percent
    metrics: dict  # as the tool wrote them
    losses: dict[str, float]  # the last ones
    images: dict[str, int]  # trained, evaluated
    seconds: float  # over all starts
    starts: int
    peak_memory_mib: int
    peak_gpu_memory_mib: float | None
    bytes: int
    device: str
    versions: dict[str, str]
    finished: str  # time, ISO 8601


def write_record(record: object, path: Path) -> None:
    """Write a dataclass or plain values as JSON."""
    write_atomically(TypeAdapter(type(record)).dump_json(record, indent=1), path)


def read_record(path: Path, kind: type[Record]) -> Record | None:
    """Read a JSON file; None if it does not exist.

    A damaged file is renamed to NAME.damaged with a warning and counts as missing, so that the
    benchmark creates it again.
    """
    try:
        return TypeAdapter(kind).validate_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except IsADirectoryError:
        reason = "it is a folder"
    except ValidationError as error:
        reason = error.errors()[0]["msg"]
    set_aside(path)
    logging.warning("%s is damaged (%s) and will be created again", path, reason)
    return None


def set_aside(path: Path) -> None:
    """Rename a damaged file, or a folder in its place, to NAME.damaged, or NAME.damaged2, ..."""
    number, new = 1, path.with_name(f"{path.name}.damaged")
    while new.exists():
        number += 1
        new = path.with_name(f"{path.name}.damaged{number}")
    path.rename(new)
