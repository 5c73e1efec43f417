"""Expands a benchmark: every pretraining with every transfer and every seed, as commands to run."""

import os
from importlib.util import find_spec
from pathlib import Path

from ..errors import ConfigError
from .benchmark_file import Benchmark, Pretraining, Transfer
from .jobs import Job, Plan, Step
from .protocols import Protocols
from .recipe import digest, file_digest, option_words, resolve, with_effect

FORMAT = 1  # counts up when results of older versions can no longer be used
# What the configs read of the environment; a job gets the values that it was planned with.
DETECTRON2_DATA = ("COCO_ROOT", "SLOTCON_DATA")
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
            for seed in pretraining.seeds:
                trained = self._pretrain(pretraining, seed)
                for transfer in present:
                    if pretraining.transfers is None or transfer.name in pretraining.transfers:
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

    def _pretrain(self, one: Pretraining, seed: int) -> Job | None:
        """The job that trains; None if nothing is to be trained."""
        if one.kind != "config":
            return None
        config = self._path(one.source)
        content = resolve(config, one.overrides)
        if "max_epochs" not in content.get("train_cfg", {}):
            raise ConfigError(f"pretrainings.{one.name}: {one.source} is no pretraining by epochs.")
        epochs = content["train_cfg"]["max_epochs"]
        options = option_words(one.overrides)
        train = [
            *self._trainer(config, one.gpus),
            *("--work-dir", "{folder}", "--seed", str(seed), "--resume"),
            *(["--cfg-options", *options] if options else []),
        ]
        groups = ["python", "tools/draw_groups.py", str(config), f"{{folder}}/epoch_{epochs}.pth"]
        groups += [
            "--out",
            "{folder}/groups.png",
            *(["--cfg-options", *options] if options else []),
        ]
        return self._add(
            f"pretrain.{one.name}.s{seed}",
            "pretrain",
            dict(config=with_effect(content), seed=seed, processes=max(one.gpus, 1)),
            needs=[],
            gpus=one.gpus,
            length=epochs,
            unit="epochs",
            steps=[
                Step(train, f"epoch_{epochs}.pth"),
                Step(groups, "groups.png"),
            ],
            about=dict(pretraining=one.name, seed=seed, config=one.source),
            deviations=self.protocols.pretraining(one, content),
        )

    def _export(self, one: Pretraining, seed: int, trained: Job | None) -> Job:
        if trained:
            source = f"{trained.folder}/{trained.steps[0].done}"
            recipe = dict(of=trained.digest)
        else:
            source = str(self._path(one.source))
            recipe = dict(file=file_digest(Path(source)))
        command = ["python", "tools/export.py", source, "{folder}/encoder.pth", "--to", "openmmlab"]
        return self._add(
            f"export.{one.name}.s{seed}",
            "export",
            recipe,
            needs=[trained.name] if trained else [],
            gpus=0,
            length=1,
            unit="files",
            steps=[Step(command, "encoder.pth")],
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
        make = self._detectron2 if transfer.kind == "detectron2" else self._openmmlab
        self._add(
            f"transfer.{name}",
            "transfer",
            dict(
                config=with_effect(content),
                seed=its_seed,
                processes=max(transfer.gpus, 1),
                backbone=export.digest if export else backbone,
                # detectron2's files do not name their data; the environment does
                data={k: v for k, v in self.environment.items() if k in DETECTRON2_DATA}
                if transfer.kind == "detectron2"
                else {},
            ),
            needs=[export.name] if export else [],
            gpus=transfer.gpus,
            length=length,
            unit="iterations",
            steps=make(transfer, config, backbone, its_seed, length),
            about=about,
            deviations=self.protocols.transfer(transfer, content),
        )

    def _openmmlab(
        self, transfer: Transfer, config: Path, backbone: str, seed: int, length: int
    ) -> list[Step]:
        options = option_words(transfer.overrides)
        options = ["--cfg-options", *options] if options else []
        train = [
            *self._trainer(config, transfer.gpus),
            *("--backbone", backbone, "--work-dir", "{folder}", "--seed", str(seed), "--resume"),
            *options,
        ]
        test = [
            *(["torchrun", str(transfer.gpus)] if transfer.gpus > 1 else ["python"]),
            *("tools/test.py", str(config), f"{{folder}}/iter_{length}.pth"),
            *("--work-dir", "{folder}/test", "--out", "{folder}/figures.json"),
            *(["--launcher", "pytorch"] if transfer.gpus > 1 else []),
            *options,
        ]
        return [Step(train, f"iter_{length}.pth"), Step(test, "figures.json")]

    def _detectron2(
        self, transfer: Transfer, config: Path, backbone: str, seed: int, length: int
    ) -> list[Step]:
        options = [str(word) for pair in transfer.overrides.items() for word in pair]
        tool = ["python", "tools/train_detectron2.py", str(config), "--num-gpus"]
        tool += [str(transfer.gpus), "--work-dir"]
        train = [*tool, "{folder}", "--backbone", backbone, "--resume", "SEED", str(seed), *options]
        test = [*tool, "{folder}/test", "--eval-only", "--out", "{folder}/figures.json"]
        test += ["MODEL.WEIGHTS", "{folder}/model_final.pth", *options]
        return [
            Step(train, "last_checkpoint", "model_final.pth"),  # its own files are not atomic
            Step(test, "figures.json"),
        ]

    def _evaluate(
        self, name: str, one: Pretraining, trained: Job | None, transfer: Transfer, about: dict
    ) -> None:
        options = dict(transfer.options)
        if trained:
            source, origin = f"{trained.folder}/{trained.steps[0].done}", trained.digest
        else:
            source = str(self._path(one.source))
            origin = file_digest(Path(source))
        listed = options.get("list")
        recipe = dict(of=origin, options=options)
        if listed:
            recipe["list"] = file_digest(self._path(listed))
        for key in ("pictures", "labels", "list"):
            if key in options:
                options[key] = str(self._path(options[key]))
        words = [f"--{key.replace('_', '-')}={value}" for key, value in options.items()]
        command = ["python", "tools/evaluate.py", "unsupervised", source, *words]
        command += ["--quiet", "--out", "{folder}/figures.json"]
        self._add(
            name,
            "evaluate",
            recipe,
            needs=[trained.name] if trained else [],
            gpus=min(transfer.gpus, 1),
            length=1,
            unit="evaluations",
            steps=[Step(command, "figures.json")],
            about=about,
            deviations=self.protocols.unsupervised(transfer),
        )

    def _trainer(self, config: Path, gpus: int) -> list[str]:
        if gpus > 1:
            return ["tools/dist_train.sh", str(config), str(gpus)]
        return ["python", "tools/train.py", str(config)]
