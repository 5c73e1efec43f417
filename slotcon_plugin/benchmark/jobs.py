"""The jobs of a benchmark, as data."""

from dataclasses import asdict, dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Step:
    """One command of a job. `{folder}` in a word is the job's folder."""

    command: list[str]
    # The file that is there when the step is complete, and what it says, if that counts
    done: str
    says: str | None = None
    needed: bool = True  # else the job succeeds without it


@dataclass(frozen=True)
class Job:
    """One unit that Snakemake starts: a pretraining, an export, a transfer or an evaluation."""

    name: str
    rule: str
    digest: str
    folder: str  # absolute; a changed recipe is another folder
    needs: list[str]  # names of jobs
    gpus: int
    cores: int
    length: int  # epochs, iterations, or 1
    unit: str
    steps: list[Step]
    about: dict  # pretraining, transfer, seed, ... for the tables
    recipe: dict = field(repr=False)  # what the digest is of
    deviations: list[str]  # from the paper's protocol
    environment: dict

    @property
    def result(self) -> Path:
        """The file that is written when the job has succeeded."""
        return Path(self.folder) / "result.json"


@dataclass(frozen=True)
class Plan:
    """All jobs, and what was left out."""

    jobs: list[Job]
    left_out: list[str]  # why, a line each

    def to_json(self) -> dict:
        """Plain values, for plan.json."""
        return asdict(self)


def read_plan(content: dict) -> Plan:
    """The inverse of `Plan.to_json`."""
    jobs = [
        Job(**{**job, "steps": [Step(**step) for step in job["steps"]]}) for job in content["jobs"]
    ]
    return Plan(jobs, content["left_out"])
