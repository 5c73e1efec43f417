"""The YAML file that describes a benchmark: read, checked, with errors that name the entry."""

from dataclasses import dataclass
from pathlib import Path

import yaml

from ..errors import ConfigError
from .entries import (
    Loader,
    close_to,
    count,
    items,
    name_of,
    section,
    seeds_of,
    text,
    with_environment,
)
from .measures import COLUMNS


@dataclass(frozen=True)
class Pretraining:
    """Where an encoder comes from."""

    name: str
    kind: str  # config, checkpoint, random or supervised
    source: str | None  # the config or the checkpoint, as written in the file
    title: str
    seeds: tuple[int, ...]
    gpus: int
    overrides: dict
    paper: str | None  # the reference row that this is compared with
    transfers: tuple[str, ...] | None  # None: all


@dataclass(frozen=True)
class Transfer:
    """What an encoder is measured by."""

    name: str
    kind: str  # openmmlab, detectron2 or unsupervised
    source: str | None  # the config; None for unsupervised
    column: str  # a key of measures.COLUMNS
    title: str
    seeds: tuple[int, ...]
    gpus: int
    overrides: dict
    data: tuple[str, ...]  # files and folders that must be there
    optional: bool
    options: dict  # unsupervised: images, labels, labels_format, list, size


@dataclass(frozen=True)
class Benchmark:
    """A whole benchmark."""

    path: Path
    title: str
    work_dir: Path
    cores: int  # of a job without a GPU; of each GPU otherwise
    references: tuple[str, ...] | None  # None: all
    pretrainings: tuple[Pretraining, ...]
    transfers: tuple[Transfer, ...]


TOP = ("title", "work_dir", "gpus", "cores", "seeds", "references", "pretrainings", "transfers")
SHARED = ("title", "seeds", "gpus", "overrides")
OF_PRETRAINING = ("config", "checkpoint", "paper", "transfers", *SHARED)
UNSUPERVISED = ("images", "labels", "labels_format", "list", "size")
OF_TRANSFER = ("config", "evaluate", "column", "data", "optional", *UNSUPERVISED, *SHARED)


def read_benchmark(path: str | Path) -> Benchmark:
    """Read and check a benchmark file.

    `${NAME}` in a value is the environment's, `${NAME:-other}` with a default.

    Raises:
        ConfigError: no such file, no YAML, or an entry that cannot be used; the message begins with
            the file and names the entry.
    """
    path = Path(path)
    if not path.is_file():
        raise ConfigError(f"There is no benchmark {path}. configs/benchmark/ has some.")
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), Loader)
        return _benchmark(path, content)
    except yaml.YAMLError as error:
        raise ConfigError(f"{path} is not YAML: {error}") from None
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None


def _benchmark(path: Path, content: object) -> Benchmark:
    top = section(content, "the file", TOP)
    top = with_environment(top, "")
    for wanted in ("pretrainings", "transfers"):
        if not isinstance(top.get(wanted), dict) or not top[wanted]:
            raise ConfigError(f"`{wanted}` is missing; expected names with a section each.")
    defaults = dict(
        seeds=list(seeds_of(top.get("seeds", [0]), "seeds")), gpus=count(top.get("gpus", 0), "gpus")
    )
    transfers = tuple(_transfer(name, part, defaults) for name, part in top["transfers"].items())
    known = tuple(transfer.name for transfer in transfers)
    pretrainings = tuple(
        _pretraining(name, part, defaults, known) for name, part in top["pretrainings"].items()
    )
    references = top.get("references", True)
    if references is not None and not isinstance(references, bool | list):
        raise ConfigError(f"`references` is {references!r}; expected true, false or a list of rows")
    return Benchmark(
        path=path,
        title=text(top.get("title", path.stem), "title"),
        work_dir=Path(text(top.get("work_dir", f"work_dirs/benchmark/{path.stem}"), "work_dir")),
        cores=count(top.get("cores", 1), "cores", least=1),
        references=None if references is True else tuple(references or ()),
        pretrainings=pretrainings,
        transfers=transfers,
    )


def _pretraining(name: str, part: object, defaults: dict, transfers: tuple) -> Pretraining:
    where = f"pretrainings.{name_of(name, 'pretrainings')}"
    if part in ("random", "supervised"):
        # Random weights are the same everywhere; torchvision's are not those of the published row
        kind, source, part = part, None, {"paper": "random"} if part == "random" else {}
    else:
        part = section(part, where, OF_PRETRAINING, "'random', 'supervised' or a section")
        named = [key for key in ("config", "checkpoint") if key in part]
        if len(named) != 1:
            raise ConfigError(
                f"{where} has {' and '.join(named) or 'neither'}; expected one of `config` (it is "
                "trained) and `checkpoint` (a file of ours or a published one)."
            )
        kind, source = named[0], text(part[named[0]], f"{where}.{named[0]}")
        if kind == "checkpoint" and part.keys() & {"overrides", "gpus", "seeds"}:
            raise ConfigError(
                f"{where}: a checkpoint is not trained; it takes no overrides, gpus, seeds"
            )
    limited = part.get("transfers")
    if limited is not None:
        for one in items(limited, f"{where}.transfers"):
            if one not in transfers:
                raise ConfigError(
                    f"{where}.transfers: no transfer `{one}`.{close_to(one, transfers)}"
                )
    return Pretraining(
        name=name,
        kind=kind,
        source=source,
        title=text(part.get("title", name), f"{where}.title"),
        # Weeks of training are repeated on request only; the transfers' seeds are not its own.
        seeds=seeds_of(part.get("seeds", [0]), f"{where}.seeds"),
        gpus=count(part.get("gpus", defaults["gpus"]), f"{where}.gpus"),
        overrides=_overrides(part, where),
        paper=part.get("paper"),
        transfers=None if limited is None else tuple(limited),
    )


def _transfer(name: str, part: object, defaults: dict) -> Transfer:
    where = f"transfers.{name_of(name, 'transfers')}"
    part = section(part, where, OF_TRANSFER)
    if ("config" in part) == ("evaluate" in part):
        raise ConfigError(f"{where}: expected either `config`, or `evaluate: unsupervised`.")
    source, options = part.get("config"), {}
    if source is None:
        kind, column = part["evaluate"], part.get("column", "stuff")
        if kind != "unsupervised":
            raise ConfigError(f"{where}.evaluate is {kind!r}; expected unsupervised.")
        wrong = part.keys() & {"seeds", "overrides"}
        if wrong:
            raise ConfigError(f"{where} takes no {' and '.join(sorted(wrong))}: nothing is drawn.")
        options = {key: part[key] for key in UNSUPERVISED if key in part}
        for key in ("images", "labels"):
            text(options.get(key), f"{where}.{key}")
    else:
        kind = "detectron2" if str(source).endswith((".yaml", ".yml")) else "openmmlab"
        column = part.get("column")
        wrong = [key for key in UNSUPERVISED if key in part]
        if wrong:
            raise ConfigError(f"{where}.{wrong[0]} belongs to `evaluate: unsupervised`.")
    if column not in COLUMNS:
        raise ConfigError(
            f"{where}.column is {column!r}; expected {', '.join(COLUMNS)}: the table's column."
        )
    return Transfer(
        name=name,
        kind=kind,
        source=source,
        column=column,
        title=text(part.get("title", name), f"{where}.title"),
        seeds=seeds_of(part.get("seeds", defaults["seeds"] if source else [0]), f"{where}.seeds"),
        gpus=count(part.get("gpus", defaults["gpus"]), f"{where}.gpus"),
        overrides=_overrides(part, where),
        data=tuple(text(one, f"{where}.data") for one in items(part.get("data", []), where)),
        optional=bool(part.get("optional", False)),
        options=options,
    )


def _overrides(part: dict, where: str) -> dict:
    overrides = part.get("overrides") or {}
    if not isinstance(overrides, dict):
        raise ConfigError(
            f"{where}.overrides is {overrides!r}; expected entries of the config with their "
            "values: train_cfg.max_epochs: 3"
        )
    for key in overrides.keys() & {"load_from", "resume", "work_dir"}:
        raise ConfigError(
            f"{where}.overrides has `{key}`, which the chain decides. To start from a checkpoint, "
            "write a config with load_from, or name it as a pretraining: {checkpoint: FILE}."
        )
    return overrides
