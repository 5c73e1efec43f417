"""The paper's protocols and published results, read from configs/benchmark/."""

from dataclasses import dataclass
from pathlib import Path

import yaml

from ..errors import ConfigError
from .measures import COLUMNS
from .schema import Benchmark, Pretraining, Transfer
from .training_recipe import deviations, resolve


@dataclass(frozen=True)
class Reference:
    """A published row."""

    key: str
    title: str
    pretraining: str
    source: str
    protocol: str | None  # of the pretraining, a key of protocols.yaml
    family: dict  # from a column to its protocol family
    results: dict  # from a measure to percent


@dataclass(frozen=True)
class Protocols:
    """What a run must be, to be compared with the published rows."""

    root: Path
    protocols: dict
    references: dict[str, Reference]

    def check(self, benchmark: Benchmark) -> None:
        """Raises ConfigError if the benchmark names a row that does not exist."""
        named = [one.paper for one in benchmark.pretrainings if one.paper is not None]
        for key in [*named, *(benchmark.references or ())]:
            if key not in self.references:
                raise ConfigError(
                    f"{benchmark.path}: there is no published row `{key}`; "
                    f"configs/benchmark/references.yaml has {', '.join(self.references)}."
                )

    def pretraining(self, one: Pretraining, content: dict) -> list[str]:
        """How a pretraining differs from that of its `paper` row."""
        if one.paper is None:
            return ["a pretraining that is none of the paper's"]
        protocol = self.references[one.paper].protocol
        if protocol is None:
            return [f"this repository has no config for {self.references[one.paper].pretraining}"]
        batch = content["train_dataloader"]["batch_size"] * max(one.gpus, 1)
        batch *= content["optim_wrapper"].get("accumulative_counts", 1)
        return self._differences(protocol, dict(content, global_batch=batch))

    def transfer(self, one: Transfer, content: dict) -> list[str]:
        """How a transfer differs from the paper's of its column."""
        return self._differences(f"{one.column}-{one.kind}", content)

    def unsupervised(self, one: Transfer) -> list[str]:
        """How an evaluation of the prototypes differs from the protocol."""
        facts = self.protocols["stuff-unsupervised"]["facts"]
        used = dict(
            size=one.options.get("size", 320),
            images=Path(one.options["images"]).name,
            labels_format=one.options.get("labels_format", "coco-stuff"),
        )
        return _unlike(used, facts)

    def counted(self, name: str | None, result: dict) -> list[str]:
        """How a finished run differs from a protocol in what it tells of itself.

        Args:
            name: of the protocol; None or one that is not there: nothing is known to differ.
            result: the job's result file.
        """
        told = dict(result["images"])
        if isinstance(result["metrics"].get("results"), dict):  # tools/evaluate.py's
            told["prototypes"] = result["metrics"]["results"]["prototypes"]
        return _unlike(told, self.protocols.get(name, {}).get("counted", {}))

    def _differences(self, name: str, content: dict) -> list[str]:
        protocol = self.protocols.get(name)
        if protocol is None:
            return [f"the paper has no such protocol ({name})"]
        original = resolve(self.root / protocol["config"], {})
        # No config has it; the check of the batch is that of the facts
        original["global_batch"] = content.get("global_batch")
        return deviations(content, original, protocol["facts"])


def _unlike(values: dict, wanted: dict) -> list[str]:
    """In words, which values are not the wanted ones; a list: none of these."""
    found = []
    for key, allowed in wanted.items():
        allowed = allowed if isinstance(allowed, list) else [allowed]
        if values.get(key) not in allowed:
            words = " or ".join(map(str, allowed))
            found.append(f"{key}: {values.get(key, 'not known')}, the paper's is {words}")
    return found


def read_protocols(root: Path) -> Protocols:
    """Read configs/benchmark/protocols.yaml and references.yaml.

    Args:
        root: the repository's root folder.

    Raises:
        ConfigError: a row is not as it has to be.
    """
    folder = root / "configs" / "benchmark"
    protocols = yaml.safe_load((folder / "protocols.yaml").read_text(encoding="utf-8"))
    rows = yaml.safe_load((folder / "references.yaml").read_text(encoding="utf-8"))
    measures = {measure.key for group in COLUMNS.values() for measure in group}
    references = {}
    for key, row in rows.items():
        unknown = row["results"].keys() - measures
        if unknown or not row.get("source"):
            raise ConfigError(
                f"references.yaml, {key}: expected a `source`, and results of "
                f"{', '.join(sorted(measures))}; came {', '.join(sorted(unknown)) or 'no source'}."
            )
        references[key] = Reference(
            key=key,
            title=row["title"],
            pretraining=row["pretraining"],
            source=row["source"],
            protocol=row.get("protocol"),
            family=row["family"],
            results=row["results"],
        )
    return Protocols(root, protocols, references)
