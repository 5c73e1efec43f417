"""The paper's protocols and published results: configs/benchmark/{protocols,references}.yaml."""

from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from ..errors import ConfigError
from ..runtime.text_formats import listed
from .jobs import JobResult
from .measures import COLUMNS
from .recipe import WITHOUT_EFFECT, resolve
from .schema import Benchmark, Pretraining, Transfer
from .yaml_files import describe_errors, read_yaml

MEASURES = tuple(measure.key for group in COLUMNS.values() for measure in group)


class Reference(BaseModel):
    """A published row."""

    model_config = ConfigDict(extra="forbid")
    title: str
    pretraining: str
    source: Annotated[str, Field(min_length=1)]
    protocol: str | None = None  # of the pretraining, a key of protocols.yaml
    more: Annotated[str, Field(min_length=1)] | None = None  # what is pretrained beside the encoder
    family: dict[str, str]  # from a column to its protocol family
    results: dict[Annotated[str, Field(pattern=f"^({'|'.join(MEASURES)})$")], float]  # percent


class Protocol(BaseModel):
    """What a run must be, to be compared with published rows."""

    model_config = ConfigDict(extra="forbid")
    config: str | None = None  # of this repository
    facts: dict[str, Any]  # dotted entries and values, which also hold when `config` was edited
    counted: dict[str, Any] = {}  # reported by a finished run; a list: one of these
    family: str | None = None  # which published results it may be compared with


class Protocols:
    """The protocols and published rows of the repository in `root`."""

    def __init__(self, root: Path) -> None:
        self.root = root
        folder = root / "configs" / "benchmark"
        self.protocols = _read(folder / "protocols.yaml", Protocol)
        self.references = _read(folder / "references.yaml", Reference)

    def check(self, benchmark: Benchmark) -> None:
        """Raises ConfigError if the benchmark names a row that does not exist."""
        named = [one.paper for one in benchmark.pretrainings.values() if one.paper]
        named += benchmark.references if isinstance(benchmark.references, list) else []
        for key in named:
            if key not in self.references:
                raise ConfigError(
                    f"{benchmark.path}: there is no published row `{key}`; "
                    f"configs/benchmark/references.yaml has {', '.join(self.references)}."
                )

    def deviations(self, one: Pretraining | Transfer, content: dict) -> list[str]:
        """How a training or an evaluation differs from the protocol of its `paper` row or column.

        `content` is the resolved config of a training.
        """
        if isinstance(one, Transfer):
            if one.evaluate:
                content = dict(size=one.size or 320, images=Path(one.images).name)
                content["labels_format"] = one.labels_format or "coco-stuff"
            return self._differences(f"{one.column}-{one.kind}", content)
        if one.paper is None:
            return ["a pretraining that is none of the paper's"]
        reference = self.references[one.paper]
        if reference.protocol is None:
            return [f"this repository has no config for {reference.pretraining}"]
        batch = content.get("train_dataloader.batch_size", 0) * max(one.gpus, 1)
        batch *= content.get("optim_wrapper.accumulative_counts", 1)
        return self._differences(reference.protocol, dict(content, global_batch=batch))

    def counted(self, name: str | None, result: JobResult) -> list[str]:
        """How a finished run differs from the protocol `name` in what it counted."""
        if name not in self.protocols:
            return []
        counted = dict(result.images)
        if isinstance(result.metrics.get("results"), dict):  # of slotcon evaluate
            counted["prototypes"] = result.metrics["results"].get("prototypes")
        return _other_values(counted, self.protocols[name].counted)

    def _differences(self, name: str, content: dict) -> list[str]:
        protocol = self.protocols.get(name)
        if protocol is None:
            return [f"the paper has no such protocol ({name})"]
        original = resolve(self.root / protocol.config, {}) if protocol.config else {}
        found = _other_values(content, protocol.facts)
        keys = (content.keys() | original.keys()) - protocol.facts.keys()
        others = sorted(key for key in keys if content.get(key) != original.get(key))
        others = [key for key in others if not WITHOUT_EFFECT.match(key)]
        if others:
            found.append(f"other values of {listed(others, 3)}")
        return found


def _read(path: Path, kind: type[BaseModel]) -> dict:
    try:
        return TypeAdapter(dict[str, kind]).validate_python(read_yaml(path))
    except ValidationError as error:
        raise ConfigError(f"{path}: {describe_errors(error)}") from None


def _other_values(values: dict, protocol: dict) -> list[str]:
    found = []
    for key, allowed in protocol.items():
        allowed = allowed if isinstance(allowed, list) else [allowed]
        if values.get(key) not in allowed:
            value = repr(values[key]) if key in values else "not known"
            found.append(f"{key} is {value}, the paper's is {' or '.join(map(repr, allowed))}")
    return found
