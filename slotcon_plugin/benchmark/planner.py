"""Expands a benchmark: every pretraining with every transfer and every seed, as commands to run."""

import os
from importlib.util import find_spec
from pathlib import Path

from ..errors import ConfigError
from . import commands
from .jobs import Job, Plan
from .protocols import Protocols
from .schema import Benchmark, Pretraining, Transfer
from .training_recipe import digest, entry_of, file_digest, resolve, with_effect

FORMAT = 2  # counts up when results of older versions can no longer be used
# What the configs read of the environment; a job gets the values that it was planned with.
ENVIRONMENT = (
    "ADE_ROOT",
    "CITYSCAPES_ROOT",
    "COCO_ROOT",
    "DATA_ROOT",
    "IMAGENET_ROOT",
    "SLOTCON_DATA",
    "VOC_ROOT",
)


class Planner:
    """Expands a benchmark.

    Args:
        benchmark: as read from its file.
        root: the repository's root folder.
        protocols: the paper's protocols.
    """

    def __init__(self, benchmark: Benchmark, root: Path, protocols: Protocols) -> None:
        self.benchmark = benchmark
        self.root = root
        self.protocols = protocols
        self.jobs: dict[str, Job] = {}
        self.digests: dict[Path, str] = {}
        self.environment = {name: os.environ[name] for name in ENVIRONMENT if name in os.environ}

    def plan(self) -> Plan:
        """All jobs, each after those that it needs.

        Raises:
            ConfigError: a config or a file that is named cannot be used.
        """
        present, left_out = [], []
        for transfer in self.benchmark.transfers:
            missing = self._missing(transfer)
            if missing and transfer.optional:
                left_out.append(f"{transfer.name}: no {', no '.join(missing)}")
            else:
                present.append(transfer)
        for pretraining in self.benchmark.pretrainings:
            wanted = pretraining.transfers or [transfer.name for transfer in present]
            measured = [transfer for transfer in present if transfer.name in wanted]
            if not measured:
                left_out.append(f"{pretraining.name}: none of its transfers")
                continue
            for seed in pretraining.seeds:
                trained = self._pretrain(pretraining, seed)
                for transfer in measured:
                    for its_seed in transfer.seeds:
                        self._measure(pretraining, seed, trained, transfer, its_seed)
        if not self.jobs:
            why = "; ".join(left_out) or "no transfer is named, and no pretraining is a config"
            raise ConfigError(f"{self.benchmark.path} has no job to run: {why}.")
        return Plan(list(self.jobs.values()), left_out)

    def _missing(self, transfer: Transfer) -> list[str]:
        missing = [path for path in transfer.data if not self._path(path).exists()]
        if transfer.kind == "detectron2" and find_spec("detectron2") is None:
            missing.append("detectron2")
        return missing

    def _path(self, name: str) -> Path:
        """A file as named in the benchmark: from the working directory, or the repository."""
        here = Path(name).expanduser()
        return here.absolute() if here.exists() else self.root / here

    def _add(self, name: str, rule: str, recipe: dict, **rest) -> Job:
        sign = digest(dict(format=FORMAT, rule=rule, recipe=recipe))
        folder = (self.benchmark.work_dir / "jobs" / name / sign[:12]).absolute()
        job = Job(
            name=name,
            rule=rule,
            digest=sign,
            folder=str(folder),
            recipe=recipe,
            cores=self.benchmark.cores * max(rest["gpus"], 1),
            environment=self.environment,
            **rest,
        )
        return self.jobs.setdefault(name, job)

    def _hardware(self, gpus: int) -> dict:
        """What of the hardware changes a result: processes, and the order of sums on a CPU."""
        return dict(gpus=gpus) if gpus else dict(gpus=0, threads=self.benchmark.cores)

    def _config(self, content: dict) -> dict:
        """`with_effect`; a checkpoint that it starts from counts by its digest."""
        kept = with_effect(content)
        if kept.get("load_from"):  # the jobs run in the repository
            kept["load_from"] = self._digest_of(self.root / Path(kept["load_from"]).expanduser())
        return kept

    def _digest_of(self, file: Path) -> str:
        """`file_digest`, once for each file."""
        if file not in self.digests:
            self.digests[file] = file_digest(file)
        return self.digests[file]

    def _pretrain(self, one: Pretraining, seed: int) -> Job | None:
        """The job that trains; None if nothing is to be trained."""
        if one.kind != "config":
            return None
        config = self._path(one.source)
        content = resolve(config, one.overrides)
        if "max_epochs" not in content.get("train_cfg", {}):
            raise ConfigError(f"pretrainings.{one.name}: {one.source} is no pretraining by epochs.")
        epochs = content["train_cfg"]["max_epochs"]
        return self._add(
            f"pretrain.{one.name}.s{seed}",
            "pretrain",
            dict(config=self._config(content), seed=seed, **self._hardware(one.gpus)),
            needs=[],
            gpus=one.gpus,
            length=epochs,
            unit="epochs",
            steps=commands.pretraining(config, one.overrides, one.gpus, seed, epochs),
            about=dict(pretraining=one.name, seed=seed, config=one.source),
            deviations=self.protocols.pretraining(one, content),
        )

    def _export(self, one: Pretraining, seed: int, trained: Job | None) -> Job:
        if trained:
            source = f"{trained.folder}/{trained.steps[0].done}"
            recipe = dict(of=trained.digest)
        else:
            source = str(self._path(one.source))
            recipe = dict(file=self._digest_of(Path(source)))
        return self._add(
            f"export.{one.name}.s{seed}",
            "export",
            recipe,
            needs=[trained.name] if trained else [],
            gpus=0,
            length=1,
            unit="files",
            steps=commands.export(source),
            about=dict(pretraining=one.name, seed=seed),
            deviations=[],
        )

    def _measure(
        self, one: Pretraining, seed: int, trained: Job | None, transfer: Transfer, its_seed: int
    ) -> None:
        about = dict(
            pretraining=one.name,
            seed=seed,
            transfer=transfer.name,
            transfer_seed=its_seed,
            kind=transfer.kind,
            column=transfer.column,
            config=transfer.source,
        )
        name = f"{one.name}.s{seed}.{transfer.name}.s{its_seed}"
        if transfer.kind == "unsupervised":
            if one.kind in ("config", "checkpoint"):  # the others have no prototypes
                self._evaluate(f"evaluate.{name}", one, trained, transfer, about)
            return
        config = self._path(transfer.source)
        content = resolve(config, transfer.overrides)
        if transfer.kind == "detectron2":
            length = (content.get("SOLVER") or {}).get("MAX_ITER")
        else:
            length = content.get("train_cfg", {}).get("max_iters")
        if not isinstance(length, int):
            raise ConfigError(
                f"transfers.{transfer.name}: {transfer.source} names no number of iterations; "
                "expected a transfer of configs/det or configs/seg."
            )
        direct = {"random": "none", "supervised": "supervised"}.get(one.kind)
        export = None if direct else self._export(one, seed, trained)
        backbone = direct or f"{export.folder}/{export.steps[0].done}"
        make = commands.detectron2 if transfer.kind == "detectron2" else commands.openmmlab
        self._add(
            f"transfer.{name}",
            "transfer",
            dict(
                config=self._config(content),
                seed=its_seed,
                backbone=export.digest if export else backbone,
                data=self._detectron2_data(content) if transfer.kind == "detectron2" else None,
                **self._hardware(transfer.gpus),
            ),
            needs=[export.name] if export else [],
            gpus=transfer.gpus,
            length=length,
            unit="iterations",
            steps=make(transfer, config, backbone, its_seed, length),
            about=about,
            deviations=self.protocols.transfer(transfer, content),
        )

    def _detectron2_data(self, content: dict) -> str | None:
        """Where a detectron2 config's data are, which it does not say; the environment does."""
        name = str(entry_of(content, "DATASETS.TRAIN"))
        return self.environment.get("SLOTCON_DATA" if "slotcon_mini" in name else "COCO_ROOT")

    def _evaluate(
        self, name: str, one: Pretraining, trained: Job | None, transfer: Transfer, about: dict
    ) -> None:
        options = dict(transfer.options)
        if trained:
            source, origin = f"{trained.folder}/{trained.steps[0].done}", trained.digest
        else:
            source = str(self._path(one.source))
            origin = self._digest_of(Path(source))
        listed = options.get("list")
        recipe = dict(of=origin, options=options, **self._hardware(min(transfer.gpus, 1)))
        if listed:
            recipe["list"] = self._digest_of(self._path(listed))
        for key in ("images", "labels", "list"):
            if key in options:
                options[key] = str(self._path(options[key]))
        self._add(
            name,
            "evaluate",
            recipe,
            needs=[trained.name] if trained else [],
            gpus=min(transfer.gpus, 1),
            length=1,
            unit="evaluations",
            steps=commands.unsupervised(source, options),
            about=about,
            deviations=self.protocols.unsupervised(transfer),
        )
