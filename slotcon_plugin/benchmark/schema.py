"""The YAML file that describes a benchmark: its sections, and errors that name the entry."""

import itertools
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from ..checkpoints.encoder import ALL, ALONE, PARTS
from ..checkpoints.named_networks import in_zoo
from ..errors import ConfigError, SlotConError
from ..evaluation.kinds import OPTIONS
from ..evaluation.label_formats import label_format
from ..runtime.config_files import find_config
from ..runtime.config_options import did_you_mean
from .measures import COLUMNS, SOURCES
from .yaml_files import describe_errors, read_yaml, with_environment

NOT_IN_FILE = {"name", "path"}  # set by `read_benchmark`
EVALUATIONS = tuple(dict.fromkeys(kind for kind, _ in SOURCES if kind in OPTIONS))
TRAINED = {"seeds", "paired", "overrides"}  # keys of a transfer with `config`
# Options of slotcon evaluate that name files or folders
PATHS = ("images", "labels", "list", "train", "train_images", "train_labels", "train_list")


def _check_different(seeds: list[int]) -> list[int]:
    if len(set(seeds)) != len(seeds):
        raise ValueError(f"{seeds} has duplicates; expected different whole numbers: [0, 1, 2]")
    return seeds


def _check_overrides(overrides: dict) -> dict:
    for key in overrides:
        if key.removeprefix("+") not in ("load_from", "resume", "work_dir"):
            continue
        raise ValueError(
            f"`{key}` is set by the benchmark. To start from a checkpoint, write a config with "
            "load_from, or name the checkpoint as a pretraining: {checkpoint: FILE}"
        )
    return overrides


def _check_format(kind: str) -> str:
    try:
        label_format(kind)
    except SlotConError as error:
        raise ValueError(str(error)) from None
    return kind


def _check_path(text: str) -> str:
    try:
        Path(text).expanduser().exists()
    except (OSError, RuntimeError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ValueError(f"{text!r:.80} cannot be a path: {reason}") from None
    return text


Name = Annotated[str, Field(pattern="^[a-z0-9][a-z0-9_+-]{0,63}$")]  # part of file names
Text = Annotated[str, Field(min_length=1)]
File = Annotated[Text, AfterValidator(_check_path)]
Count = Annotated[int, Field(ge=0, le=4096)]  # of GPUs
Positive = Annotated[int, Field(ge=1, le=4096)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]  # NumPy's range
Seeds = Annotated[list[Seed], Field(min_length=1), AfterValidator(_check_different)]
Folder = Annotated[File, AfterValidator(lambda text: Path(text).expanduser().absolute())]
Sections = Field(min_length=1, max_length=200)


class Section(BaseModel):
    """A section of the file. A key without a value counts as absent."""

    model_config = ConfigDict(strict=True)

    @model_validator(mode="before")
    @classmethod
    def _check_keys(cls, content: object) -> dict:
        known = [key for key in cls.model_fields if key not in NOT_IN_FILE]
        if not isinstance(content, dict):
            raise ValueError(f"{content!r:.80} is no section; expected keys of {', '.join(known)}")
        for key in content:
            if key not in known:
                raise ValueError(f"unknown key `{key}`.{did_you_mean(str(key), known)}")
        if content.get("references", True) is None:
            content = {**content, "references": False}  # an empty list; other entries: left out
        return {key: value for key, value in content.items() if value is not None}


class Source(Section):
    """What pretrainings and transfers have in common."""

    name: str = ""  # the section's key
    title: Text = ""
    config: File | None = None
    seeds: Seeds = []
    gpus: Count | None = None
    overrides: Annotated[dict[str, Any], AfterValidator(_check_overrides)] = {}


class Pretraining(Source):
    """An encoder: trained with `config`, read from `checkpoint`, or given `weights`.

    `zoo:NAME` may be a `checkpoint` or `weights`, and is a checkpoint.

    `same_as` names another one, which is not trained twice: for other `parts` of it.
    Evaluations of random weights take the network that `config` describes, before its training.
    """

    checkpoint: File | None = None
    weights: Literal["random", "supervised"] | None = None
    same_as: Name | None = None
    parts: Literal[PARTS] = ALL  # what transfers get: with a pretrained decoder, or without it
    paper: Text | None = None  # the published row to compare with
    transfers: list[str] | None = None  # None: all

    @model_validator(mode="before")
    @classmethod
    def _expand(cls, content: object) -> object:
        content = {"weights": content} if isinstance(content, str) else content
        is_section = isinstance(content, dict) and "checkpoint" not in content
        if is_section and in_zoo(content.get("weights")):
            content = {**content, "checkpoint": content["weights"], "weights": None}
        return content

    @model_validator(mode="after")
    def _check_source(self) -> "Pretraining":
        keys = ("config", "checkpoint", "weights", "same_as")
        given = [key for key in keys if getattr(self, key)]
        untrained = self.weights == "random" and given == ["config", "weights"]
        if len(given) != 1 and not untrained:
            raise ValueError(
                f"has {' and '.join(given) or 'no source'}; expected one of `config` (to train), "
                "`checkpoint` (a file of this package or a published one), `weights` and "
                "`same_as` (another entry), or `weights: random` and the `config` of the network"
            )
        if self.weights and "parts" in self.model_fields_set:
            raise ValueError(f"`weights: {self.weights}` has no decoder and takes no parts")
        wrong = self.model_fields_set & {"overrides", "gpus", *(() if untrained else ["seeds"])}
        if wrong and not self.trained:
            raise ValueError(
                f"`{given[-1]}` is not trained and takes no {', '.join(sorted(wrong))}"
            )
        if self.weights == "random":  # torchvision's supervised weights are not the published row's
            self.paper = self.paper or "random"
        return self

    @property
    def trained(self) -> bool:
        """Whether the benchmark trains it."""
        return bool(self.config) and not self.weights


class Transfer(Source):
    """A measurement: training with `config`, or a kind of `evaluate`, with its options.

    A `paired` one is trained once for each seed of a pretraining, with that seed, which replaces
    `{seed}` in the texts of `overrides`.
    """

    paired: bool = False
    evaluate: Literal[EVALUATIONS] | None = None
    column: Literal[tuple(COLUMNS)] | None = None
    data: list[File] = []  # files and folders that are required
    optional: bool = False  # left out where `data` or the library is missing
    images: File | None = None
    labels: File | None = None
    labels_format: Annotated[str, AfterValidator(_check_format)] | None = None
    list: File | None = None
    train: File | None = None
    train_images: File | None = None
    train_labels: File | None = None
    train_list: File | None = None
    size: Annotated[int, Field(ge=32, le=2**14)] | None = None
    stage: Positive | None = None
    output_stride: Positive | None = None
    level: Literal["encoder"] | Annotated[int, Field(ge=0, le=99)] | None = None
    clusters: Positive | None = None
    memory: Annotated[int, Field(ge=1, lt=2**32)] | None = None
    neighbors: Positive | None = None
    epochs: Positive | None = None
    lr: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None

    @model_validator(mode="after")
    def _check_kind(self) -> "Transfer":
        if bool(self.config) == bool(self.evaluate):
            raise ValueError(f"expected either `config`, or `evaluate: {' | '.join(EVALUATIONS)}`")
        taken = {"images", *OPTIONS[self.evaluate]} if self.evaluate else TRAINED
        every = {"images", *itertools.chain(*OPTIONS.values())} | TRAINED
        if wrong := sorted(self.model_fields_set & every - taken):
            raise ValueError(f"`{self.kind}` takes no {', '.join(wrong)}")
        if self.paired and self.seeds:
            raise ValueError("has `seeds`, and is `paired`: it has the seeds of the pretrainings")
        if self.evaluate:
            self._check_evaluation()
        columns = [column for kind, column in SOURCES if kind == self.kind]
        self.column = self.column or (columns[0] if self.evaluate else None)
        if self.column not in columns:
            raise ValueError(f"column is {self.column!r}; expected {' or '.join(columns)}")
        return self

    def _check_evaluation(self) -> None:
        needed = {"images", "train" if self.evaluate == "knn" else "labels"}
        if self.evaluate == "overcluster":
            needed.add("clusters")  # one number: the table has a column for it
        if missing := sorted(key for key in needed if not getattr(self, key)):
            names = " and ".join(f"`{key}`" for key in missing)
            raise ValueError(f"`evaluate: {self.evaluate}` requires {names}")
        learns = self.evaluate in ("retrieval", "probe")
        if learns and not (self.train_list or self.train_images):
            raise ValueError(f"`evaluate: {self.evaluate}` requires `train_list` or `train_images`")

    def with_seed(self, seed: int) -> "Transfer":
        """Itself with the seed in its overrides."""
        texts = {key: value for key, value in self.overrides.items() if isinstance(value, str)}
        seeded = {key: text.replace("{seed}", str(seed)) for key, text in texts.items()}
        return self.with_overrides(seeded)

    def with_overrides(self, values: dict[str, Any]) -> "Transfer":
        """Itself with more or other overrides."""
        return self.model_copy(update=dict(overrides=self.overrides | values))

    @property
    def options(self) -> dict[str, Any]:
        """The options of the evaluation that the file has."""
        names = sorted({"images", *OPTIONS[self.evaluate]} & self.model_fields_set)
        return {name: getattr(self, name) for name in names}

    @property
    def kind(self) -> str:
        """openmmlab, detectron2, or the kind of evaluation."""
        if self.evaluate:
            return self.evaluate
        return "detectron2" if self.config.endswith((".yaml", ".yml")) else "openmmlab"


class Benchmark(Section):
    """The whole file."""

    path: Path = Path()  # the file
    title: Text = ""
    work_dir: Folder
    seeds: Seeds = [0]  # of the transfers
    gpus: Count = 0
    cores: Positive = 1  # CPU cores for each GPU of a job; for a whole job without GPUs
    references: bool | list[str] = True  # published rows: all, none, or those named
    pretrainings: Annotated[dict[Name, Pretraining], Sections]
    transfers: Annotated[dict[Name, Transfer], Sections]

    @model_validator(mode="after")
    def _set_defaults(self) -> "Benchmark":
        for name, one in self.pretrainings.items():
            if one.parts == ALONE:
                one.title = one.title or f"{name}, encoder only"
        for name, one in (*self.pretrainings.items(), *self.transfers.items()):
            one.name, one.title = name, one.title or name
            one.gpus = self.gpus if one.gpus is None else one.gpus
            # A pretraining takes weeks, and an evaluation draws no numbers
            trained = isinstance(one, Transfer) and one.config
            one.seeds = one.seeds or (self.seeds if trained else [0])
        for one in self.pretrainings.values():
            self._follow(one)
            for name in one.transfers or []:
                if name not in self.transfers:
                    raise ValueError(
                        f"pretrainings.{one.name}.transfers: no transfer `{name}`."
                        f"{did_you_mean(name, self.transfers)}"
                    )
        return self

    def _follow(self, one: Pretraining) -> None:
        """Give a pretraining the source of the one that `same_as` names."""
        if one.same_as is None:
            return
        other = self.pretrainings.get(one.same_as)
        if other is None or other.same_as or other.weights:
            known = [o.name for o in self.pretrainings.values() if not (o.same_as or o.weights)]
            raise ValueError(
                f"pretrainings.{one.name}.same_as: `{one.same_as}` is no entry with `config` or "
                f"`checkpoint`; there is {', '.join(known) or 'none'}"
            )
        for key in ("config", "checkpoint", "overrides", "seeds", "gpus"):
            setattr(one, key, getattr(other, key))


def read_benchmark(path: str | Path) -> Benchmark:
    """Read a benchmark file; the ConfigError for entries that cannot be used has their full names.

    `${NAME}` in a text is the environment variable, `${NAME:-default}` has a default.
    """
    path = find_config(path)
    try:
        content = with_environment(read_yaml(path), f"{path}: ")
        if isinstance(content, dict):
            content.setdefault("work_dir", f"work_dirs/benchmark/{path.stem}")
        benchmark = Benchmark.model_validate(content)
    except ValidationError as error:
        raise ConfigError(f"{path}: {describe_errors(error)}") from None
    benchmark.path, benchmark.title = path, benchmark.title or path.stem
    return benchmark
