"""Expands a benchmark: every pretraining with every transfer and every seed, as commands to run."""

import hashlib
import json
import os
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from ..checkpoints.encoder import ALL
from ..checkpoints.named_networks import FOLDER_WEIGHTS, in_zoo, zoo_folder
from ..errors import ConfigError, SlotConError
from ..runtime.config_files import find_config
from ..runtime.recipe_rules import AUTO
from ..transfer.resnet_facts import ResNetFacts, facts_of_config
from .jobs import Job, Plan, Step
from .protocols import Protocols
from .recipe import (
    WITHOUT_EFFECT,
    file_digest,
    option_words,
    other_library,
    relative_paths,
    resolve,
)
from .schema import PATHS, Benchmark, Pretraining, Source, Transfer

FORMAT = 3  # counts up when results of older versions can no longer be used
MAX_LENGTH = 10**9  # of a training, in epochs or iterations
MAX_JOBS = 10_000
BACKBONE = "model.backbone."
# Read by the configs; a job gets the values of its plan.
ENVIRONMENT = ["ADE_ROOT", "CITYSCAPES_ROOT", "COCO_ROOT", "DATA_ROOT", "IMAGENET_ROOT"]
ENVIRONMENT += ["SLOTCON_DATA", "VOC_ROOT"]


class Encoder(NamedTuple):
    """A pretraining with one of its seeds."""

    pretraining: Pretraining
    seed: int
    job: Job | None  # that trains it; None if it is not trained

    @property
    def name(self) -> str:
        """The part of job names."""
        return f"{self.pretraining.name}.s{self.seed}"


class Planner:
    """Makes the plan of a benchmark, whose jobs run in `root`, where configs/ and tools/ are."""

    def __init__(self, benchmark: Benchmark, root: Path, protocols: Protocols) -> None:
        self.benchmark, self.root, self.protocols = benchmark, root, protocols
        self.jobs: dict[str, Job] = {}
        self.file_digest = cache(file_digest)
        self.resolved: dict[str, tuple] = {}
        given = {name: os.environ[name] for name in ENVIRONMENT if name in os.environ}
        here = [name for name, path in given.items() if os.path.exists(path)]
        self.environment = given | {name: os.path.abspath(given[name]) for name in here}

    def plan(self) -> Plan:
        """All jobs, each after those that it needs; ConfigError if there is nothing to run."""
        present, left_out = [], []
        for transfer in self.benchmark.transfers.values():
            missing = [path for path in transfer.data if not self.find(path).exists()]
            if transfer.kind == "detectron2" and find_spec("detectron2") is None:
                missing.append("detectron2")
            if missing and transfer.optional:
                left_out.append(f"{transfer.name}: no {', no '.join(missing)}")
            else:
                present.append(transfer)
        for one in self.benchmark.pretrainings.values():
            chosen = [t for t in present if one.transfers is None or t.name in one.transfers]
            if not chosen:
                left_out.append(f"{one.name}: none of its transfers")
            for seed in one.seeds if chosen else []:
                encoder = Encoder(one, seed, self._pretraining(one, seed) if one.trained else None)
                for transfer in chosen:
                    drawn = one.weights and transfer.config and not transfer.paired
                    if drawn and seed != one.seeds[0]:
                        continue  # random weights are drawn anew with each seed of the transfer
                    for transfer_seed in [seed] if transfer.paired else transfer.seeds:
                        self._transfer(encoder, transfer.with_seed(transfer_seed), transfer_seed)
        if not self.jobs:
            why = "; ".join(left_out) or "no transfer is named, and no pretraining is a config"
            raise ConfigError(f"{self.benchmark.path} has no job to run: {why}.")
        return Plan(list(self.jobs.values()), left_out)

    def find(self, name: str) -> Path:
        """A file as named in the benchmark: in the working directory, or in the repository."""
        if in_zoo(name):
            return zoo_folder(name) / FOLDER_WEIGHTS
        path = Path(name).expanduser()
        return path.absolute() if path.exists() else self.root / path

    def _add(self, rule: str, name: str, recipe: dict, steps: list[Step], **rest) -> Job:
        gpus, name = rest["gpus"], f"{rule}.{name}"
        if rule != "export":  # the number of threads changes the order of sums on a CPU
            recipe |= dict(gpus=gpus) if gpus else dict(gpus=0, threads=self.benchmark.cores)
        # Moving the repository or the work dir does not change the digest
        recipe = relative_paths(recipe, [self.benchmark.work_dir, self.root])
        text = json.dumps(dict(format=FORMAT, rule=rule, recipe=recipe), sort_keys=True)
        digest = hashlib.sha256(text.encode()).hexdigest()
        folder = str(self.benchmark.work_dir / "jobs" / name / digest[:12])
        cores = self.benchmark.cores * max(gpus, 1)
        job = Job(name, rule, digest, folder, recipe, steps, self.environment, cores=cores, **rest)
        if len(self.jobs) == MAX_JOBS and name not in self.jobs:
            raise ConfigError(f"{self.benchmark.path} has more than {MAX_JOBS:,} jobs.")
        return self.jobs.setdefault(name, job)

    def _resolve(self, one: Source, entry: str | None) -> tuple[Path, dict, int, list[str]]:
        """A section's config: path, entries with effect, length, deviations from the protocol.

        `entry` has the length; None: it is not trained.
        """
        where = f"{type(one).__name__.lower()}s.{one.name}"
        if (key := f"{where} {one.overrides}") not in self.resolved:
            try:
                config = find_config(one.config).absolute()
                content = resolve(config, one.overrides)
            except ConfigError as error:
                raise ConfigError(f"{self.benchmark.path}: {where}: {error}") from None
            length = content.get(entry)
            if entry and (type(length) is not int or not 0 < length <= MAX_LENGTH):
                raise ConfigError(
                    f"{self.benchmark.path}: {where}: {one.config} has {length!r:.40} for {entry}, "
                    f"expected a whole number from 1 to {MAX_LENGTH:,}. Pretrainings are in "
                    "configs/pretrain, transfers in configs/det and configs/seg."
                )
            deviations = self.protocols.deviations(one, content)
            kept = {key: v for key, v in content.items() if not WITHOUT_EFFECT.match(key)}
            if kept.get("load_from"):  # counts by its content; the jobs run in the repository
                start = self.root / Path(kept["load_from"]).expanduser()
                kept["load_from"] = self.file_digest(start)
            self.resolved[key] = config, kept, length, deviations
        return self.resolved[key]

    def _pretraining(self, one: Pretraining, seed: int) -> Job:
        one = self.benchmark.pretrainings.get(one.same_as, one)
        config, content, epochs, deviations = self._resolve(one, "train_cfg.max_epochs")
        values = dict(config=config, gpus=one.gpus, seed=seed, last=f"epoch_{epochs}.pth")
        options = _cfg_options(one.overrides)
        train = f"{_trainer(one.gpus)} --work-dir {{folder}} --seed {{seed}} --resume"
        draw = "python tools/draw_groups.py {config} {folder}/{last} --overwrite"
        draw += " --out {folder}/groups.png"
        steps = [
            Step(_words(train, values, options), values["last"]),
        ]
        if other_library(content) is None:
            steps.append(Step(_words(draw, values, options), "groups.png", needed=False))
        recipe = dict(config=content, seed=seed)
        about = dict(pretraining=one.name, seed=seed, config=one.config)
        rest = dict(gpus=one.gpus, length=epochs, about=about, deviations=deviations)
        return self._add("pretrain", f"{one.name}.s{seed}", recipe, steps, **rest)

    def _source(self, encoder: Encoder) -> tuple[str, dict, list[str]]:
        """The full checkpoint: its path, a recipe with a digest of its origin, the job needed.

        Of random weights, what `evaluation.networks` takes instead of a path.
        """
        one = encoder.pretraining
        if one.weights:
            config, content, *_ = self._resolve(one, None)
            model = {key: value for key, value in content.items() if key.startswith("model.")}
            return f"random:{config}", dict(of=model, seed=encoder.seed), []
        if encoder.job:
            path = f"{encoder.job.folder}/{encoder.job.steps[0].done}"
            return path, dict(of=encoder.job.digest), [encoder.job.name]
        try:
            path = self.find(encoder.pretraining.checkpoint)
            return str(path), dict(of=self.file_digest(path)), []
        except SlotConError as error:
            where = f"{self.benchmark.path}: pretrainings.{encoder.pretraining.name}.checkpoint"
            raise ConfigError(f"{where}: {error}") from None

    def _export(self, encoder: Encoder) -> Job:
        """The job that writes the encoder of a full checkpoint for the transfers."""
        source, recipe, needs = self._source(encoder)
        words = "python tools/export.py {source} {folder}/encoder.pth --to openmmlab --overwrite"
        if (parts := encoder.pretraining.parts) != ALL:
            words += f" --parts {parts}"
            recipe |= dict(parts=parts)
        steps = [Step(_words(words, dict(source=source)), "encoder.pth")]
        about = dict(pretraining=encoder.pretraining.name, seed=encoder.seed)
        return self._add("export", encoder.name, recipe, steps, gpus=0, about=about, needs=needs)

    def _transfer(self, encoder: Encoder, transfer: Transfer, seed: int) -> None:
        name = f"{encoder.name}.{transfer.name}.s{seed}"
        about = dict(pretraining=encoder.pretraining.name, seed=encoder.seed)
        about |= dict(transfer=transfer.name, transfer_seed=seed, config=transfer.config)
        about |= dict(kind=transfer.kind, column=transfer.column)
        weights = encoder.pretraining.weights
        if transfer.evaluate:
            if weights is None or encoder.pretraining.config:  # which says what network it is
                self._evaluation(name, encoder, transfer, about)
            return
        detectron2 = transfer.kind == "detectron2"
        entry = "SOLVER.MAX_ITER" if detectron2 else "train_cfg.max_iters"
        config, content, length, deviations = self._resolve(transfer, entry)
        if weights == "random" and encoder.pretraining.config:
            names = [n for n in ResNetFacts._fields if content.get(BACKBONE + n) == AUTO]
            if names:  # otherwise read in the file of the weights
                facts = self._facts_of_random(encoder.pretraining)
                follow = {BACKBONE + name: getattr(facts, name) for name in names}
                transfer = transfer.with_overrides(follow)
                config, content, length, deviations = self._resolve(transfer, entry)
        needs, origin, backbone = [], weights, "none" if weights == "random" else weights
        if weights is None:
            export = self._export(encoder)
            needs, origin = [export.name], export.digest
            backbone = f"{export.folder}/encoder.pth"
        recipe = dict(config=content, seed=seed, backbone=origin)
        if detectron2:  # its configs do not name the data's folder
            mini = "slotcon_mini" in str(content.get("DATASETS.TRAIN"))
            recipe["data"] = self.environment.get("SLOTCON_DATA" if mini else "COCO_ROOT")
        values = dict(config=config, gpus=transfer.gpus, backbone=backbone, seed=seed)
        values["last"] = f"iter_{length}.pth"
        steps = (_detectron2_steps if detectron2 else _openmmlab_steps)(transfer, values)
        rest = dict(gpus=transfer.gpus, length=length, about=about, deviations=deviations)
        self._add("transfer", name, recipe, steps, needs=needs, **rest)

    def _facts_of_random(self, one: Pretraining) -> ResNetFacts:
        entries = self._resolve(one, None)[1].items()
        backbone = {key[len(BACKBONE) :]: v for key, v in entries if key.startswith(BACKBONE)}
        where = f"{self.benchmark.path}: pretrainings.{one.name}: {one.config}"
        return facts_of_config(backbone, where)

    def _evaluation(self, name: str, encoder: Encoder, transfer: Transfer, about: dict) -> None:
        source, recipe, needs = self._source(encoder)
        command = ["python", "tools/evaluate.py", transfer.evaluate, source, "--quiet"]
        if encoder.pretraining.weights == "random":
            command.append(f"--seed={encoder.seed}")
        for option, value in transfer.options.items():
            recipe[option] = value
            if option in PATHS:
                value = self.find(value)
                recipe[option] = self.file_digest(value) if value.is_file() else str(value)
            command.append(f"--{option.replace('_', '-')}={value}")
        steps = [Step([*command, "--out", "{folder}/figures.json", "--overwrite"], "figures.json")]
        rest = dict(needs=needs, about=about, deviations=self.protocols.deviations(transfer, {}))
        self._add("evaluate", name, recipe, steps, gpus=min(transfer.gpus, 1), **rest)


def _openmmlab_steps(one: Transfer, values: dict) -> list[Step]:
    options = _cfg_options(one.overrides)
    train = _trainer(one.gpus)
    train += " --backbone {backbone} --work-dir {folder} --seed {seed} --resume"
    test = "torchrun {gpus}" if one.gpus > 1 else "python"
    test += " tools/test.py {config} {folder}/{last} --work-dir {folder}/test"
    test += " --out {folder}/figures.json --overwrite" + " --launcher pytorch" * (one.gpus > 1)
    return [
        Step(_words(train, values, options), values["last"]),
        Step(_words(test, values, options), "figures.json"),
    ]


def _detectron2_steps(one: Transfer, values: dict) -> list[Step]:
    options = [str(word) for pair in one.overrides.items() for word in pair]
    train = test = "python tools/train_detectron2.py {config} --num-gpus {gpus}"
    train += " --work-dir {folder} --backbone {backbone} --resume SEED {seed}"
    test += " --work-dir {folder}/test --eval-only --out {folder}/figures.json --overwrite"
    test += " MODEL.WEIGHTS {folder}/model_final.pth"
    return [  # detectron2 writes `last_checkpoint` after the checkpoint, which a kill can truncate
        Step(_words(train, values, options), "last_checkpoint", "model_final.pth"),
        Step(_words(test, values, options), "figures.json"),
    ]


def _trainer(gpus: int) -> str:
    return "tools/dist_train.sh {config} {gpus}" if gpus > 1 else "python tools/train.py {config}"


def _words(command: str, values: dict, options: list[str] = ()) -> list[str]:
    """The words of a command with `values`, and `options`; `{folder}` remains."""
    return [*(word.format(folder="{folder}", **values) for word in command.split()), *options]


def _cfg_options(overrides: dict) -> list[str]:
    return ["--cfg-options", *option_words(overrides)] if overrides else []
