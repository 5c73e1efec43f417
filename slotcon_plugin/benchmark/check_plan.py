"""What a plan needs is looked at before its first job: data, labels, GPUs, encoders that fit."""

import contextlib
import io
import logging
import tempfile
import warnings
from collections.abc import Callable, Iterator
from functools import lru_cache, partial
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from mmengine.config import Config
from mmengine.logging import MessageHub, MMLogger
from mmengine.registry import DATASETS, HOOKS, MODELS, init_default_scope
from mmengine.runner import Runner
from torch import nn
from torch.utils.data import DataLoader, Dataset

from ..checkpoints import read_encoder
from ..checkpoints.containers import pth_bytes
from ..checkpoints.export_formats import encoder_file
from ..datasets.decode import UnreadableImage, read_pixels
from ..errors import ConfigError, DataError
from ..evaluation.kinds import complete_options, open_images, open_network
from ..models.backbones import TorchvisionResNet
from ..models.slotcon import SlotCon
from ..runtime.atomic_files import write_atomically
from ..runtime.config_files import find_config
from ..runtime.config_options import hooks_of, read_config
from ..runtime.explain_errors import describe, explained_errors
from ..runtime.fit_machine import fit_to_machine
from ..runtime.recipe_rules import auto_entries, fill_auto
from ..transfer.annotations import check_annotations
from ..transfer.fill_backbone import SUPERVISED, depth_of, fill_backbone
from ..transfer.fit_transfer import fit_transfer, is_transfer
from ..transfer.own_data import follow_data, is_own
from ..transfer.resnet_facts import ResNetFacts, facts_of_config, facts_of_file
from .jobs import Job
from .recipe import option_words
from .schema import PATHS, Benchmark, Pretraining, Transfer

SAMPLES = 16  # images of each dataset that are read
Found = Callable[[str], Path]  # the file of a name in the benchmark


def check_plan(
    benchmark: Benchmark, jobs: list[Job], find: Found, gpus: int | None = None
) -> list[str]:
    """Why jobs would fail, a line for each entry of the benchmark file; empty if nothing is found.

    Builds each dataset and each model once, reads some images and labels, computes the losses of
    two images, and takes an untrained encoder of each pretraining through export and into each
    transfer.

    Args:
        jobs: those that have no result yet.
        find: the path of a file that the benchmark names.
        gpus: of this machine; None: the jobs run on other machines.
    """
    with tempfile.TemporaryDirectory() as folder, _silence():
        check = _Check(benchmark, find, Path(folder))
        for job in jobs:
            check.job(job, gpus)
        return list(check.problems)


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Without what libraries print while they build."""
    logger = MMLogger.get_instance("mmengine")
    level = logger.level
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        logger.setLevel(logging.CRITICAL)
        try:
            yield
        finally:
            logger.setLevel(level)


class _Check:
    def __init__(self, benchmark: Benchmark, find: Found, folder: Path) -> None:
        self.benchmark, self.find, self.folder = benchmark, find, folder
        self.problems: dict[str, None] = {}  # each once, in order
        self.results: dict[tuple, object] = {}  # of `once`
        self.untrained = lru_cache(maxsize=1)(self._untrained)  # more would fill the memory

    def once(self, function: Callable, one: Pretraining | Transfer, *rest: object) -> object:
        """A function's result for an entry of the file; None if it failed: then it is a problem."""
        names = [other.name for other in rest if isinstance(other, Pretraining)]
        facts = [fact for fact in rest if isinstance(fact, ResNetFacts)]
        key = (function.__name__, type(one), one.name, str(one.overrides), *names, *facts)
        if key not in self.results:
            self.results[key] = None
            try:
                self.results[key] = function(one, *rest)
            except Exception as error:  # of any library: whatever it is, the job would meet it
                where = f"{type(one).__name__.lower()}s.{one.name}"
                where += "".join(f" with pretrainings.{name}" for name in names)
                text = describe(error).partition("\nIf this does not tell")[0]
                text = " ".join(text.split()).replace(f"{self.folder}/", "")
                self.problems[f"{where}: {text}"] = None
        return self.results[key]

    def job(self, job: Job, gpus: int | None) -> None:
        one = self.benchmark.pretrainings[job.about["pretraining"]]
        other = self.benchmark.transfers.get(job.about.get("transfer"))
        other = other and other.with_seed(job.about["transfer_seed"])
        if gpus is not None and job.gpus > gpus:
            self.once(self.machine, other or one, job.gpus, gpus)
        if job.rule == "pretrain":
            self.once(self.pretraining, one)
        elif job.rule == "export":
            self.once(self.exported, one)
        elif job.rule == "evaluate":
            self.once(self.evaluated_images, other)
            if source := self.once(self.checkpoint, one):
                self.once(self.evaluated, other, one, source)
        elif job.about["kind"] == "detectron2":
            self.once(self.detectron2, other)
        else:
            facts = self.once(self.facts, one) if self.once(self.is_own, other) else None
            if self.once(self.network, other, facts) and one.weights != "random":
                exported = one.weights or self.once(self.exported, one)
                if exported:
                    self.once(self.fits, other, one, str(exported), facts)

    def machine(self, one: Pretraining | Transfer, asked: int, present: int) -> None:
        raise ConfigError(
            f"`gpus` is {asked}, this machine has {present}. Set `gpus` (0: CPU), or run it where "
            "they are."
        )

    def config(self, one: Pretraining | Transfer) -> Config:
        """The config of an entry as its job reads it."""
        cfg = read_config(one.config, option_words(one.overrides), "overrides")
        init_default_scope(cfg.get("default_scope") or "mmengine")
        return cfg

    def pretraining(self, one: Pretraining) -> None:
        cfg, model = self.untrained(one.name)
        fit_to_machine(cfg)
        with explained_errors(cfg):
            loader = Runner.build_dataloader(cfg.train_dataloader)
            read = partial(read_pixels, backend_args=loader.dataset.backend_args)
            _read_some(read, loader.dataset.paths)
            if isinstance(model, SlotCon):
                model.expect_teacher_moves()
            else:  # BYOL's momentum depends on the length of the training
                MessageHub.get_current_instance().update_info("max_iters", 1)
            _compute_losses(model, loader)

    def _untrained(self, name: str) -> tuple[Config, nn.Module]:
        """The config and the model of a pretraining."""
        one = self.benchmark.pretrainings[name]
        cfg = self.config(one)
        _build_hooks(cfg)
        if is_transfer(cfg):
            raise ConfigError(
                f"{one.config} trains {cfg.model.type} on images with labels, expected a "
                "pretraining, on UnlabeledImages. Name the checkpoint of another encoder: "
                "{checkpoint: FILE}."
            )
        fit_transfer(cfg, max(one.gpus or 0, 1))
        with explained_errors(cfg):
            if auto_entries(cfg):
                fill_auto(cfg, images=len(DATASETS.build(cfg.train_dataloader.dataset)))
            return cfg, MODELS.build(cfg.model)

    def checkpoint(self, one: Pretraining) -> Path | str:
        """The checkpoint of an entry; of a `config` one of the untrained model."""
        if one.checkpoint:
            return self.find(one.checkpoint)
        if one.weights:
            return f"random:{find_config(one.config)}"
        cfg, model = self.untrained(one.name)
        content = dict(state_dict=model.state_dict(), meta=dict(cfg=cfg.pretty_text))
        return self.write(f"{one.name}.pth", pth_bytes(content))

    def exported(self, one: Pretraining) -> Path | None:
        """The exported encoder of an entry."""
        if checkpoint := self.once(self.checkpoint, one):
            encoder = read_encoder(checkpoint, parts=one.parts)
            data, _ = encoder_file(encoder, "openmmlab", ".pth")
            return self.write(f"{one.name}_encoder.pth", data)
        return None

    def write(self, name: str, data: bytes) -> Path:
        write_atomically(data, self.folder / name)
        return self.folder / name

    def evaluated(self, one: Transfer, pretraining: Pretraining, source: Path | str) -> None:
        open_network(one.evaluate, str(source), self.evaluation_options(one)[1])

    def evaluation_options(self, one: Transfer) -> tuple[Path, dict]:
        """The images of an evaluation, and its options."""
        found = one.options
        found |= {name: self.find(found[name]) for name in PATHS if name in found}
        return found.pop("images"), complete_options(one.evaluate, found)

    def is_own(self, one: Transfer) -> bool:
        """Whether a transfer's entries follow from a folder of labels."""
        return is_own(self.config(one))

    def facts(self, one: Pretraining) -> ResNetFacts | None:
        """Those of an entry's ResNet; None: it names none."""
        if one.weights:
            backbone = one.config and self.config(one).model.backbone
            return backbone and facts_of_config(backbone, one.config)
        exported = self.once(self.exported, one)
        return exported and facts_of_file(exported)

    def network(self, one: Transfer, facts: ResNetFacts | None) -> tuple[nn.Module, Config]:
        """The model and the config of a transfer; `facts` are for entries that follow from them."""
        cfg = self.config(one)
        follow_data(cfg, known=facts)
        _build_hooks(cfg)
        with explained_errors(cfg):
            model = MODELS.build(cfg.model)
        self.once(self.transfer, one, cfg, model)
        return model, cfg

    def transfer(self, one: Transfer, cfg: Config, model: nn.Module) -> None:
        fit_transfer(cfg, max(one.gpus, 1))  # checks the data's layout and the batch
        fit_to_machine(cfg)
        with explained_errors(cfg):
            loaders: dict[str, DataLoader] = {}

            def built(name: str) -> Dataset:
                loaders[name] = Runner.build_dataloader(cfg[name])
                return loaders[name].dataset

            check_annotations(cfg, built)
            for loader in loaders.values():
                _read_some(loader.dataset.__getitem__, range(len(loader.dataset)))
            _compute_losses(model, loaders["train_dataloader"])

    def fits(
        self, one: Transfer, pretraining: Pretraining, exported: str, facts: ResNetFacts | None
    ) -> None:
        model, cfg = self.once(self.network, one, facts)
        if exported == SUPERVISED:  # its names and shapes, without a download
            net = TorchvisionResNet(depth_of(cfg.model))
            exported = str(self.write("supervised.pth", pth_bytes(dict(net.state_dict()))))
        fill_backbone(model, cfg.model, exported)

    def evaluated_images(self, one: Transfer) -> None:
        for dataset in filter(None, open_images(one.evaluate, *self.evaluation_options(one))):
            _read_some(dataset.__getitem__, range(len(dataset)))

    def detectron2(self, one: Transfer) -> None:
        if find_spec("detectron2") is None:
            raise ConfigError(
                "detectron2 is not installed. Install it (docs/transfers.md), or set `optional: "
                "true` to leave this transfer out."
            )
        from ..transfer import detectron2_route as route

        words = [str(word) for pair in one.overrides.items() for word in pair]
        cfg = route.read_yaml(one.config, words)
        route.check_batch(cfg, one.gpus)
        route.register_data(cfg)


def _build_hooks(cfg: Config) -> None:
    for hook in hooks_of(cfg).values():
        if isinstance(hook, dict):
            HOOKS.build(hook)  # hooks check their arguments


def _read_some(read: Callable[[object], object], items: list | range) -> None:
    """Read some of a dataset's items, from the first to the last."""
    if len(items) == 0:
        raise DataError("The dataset has no images.")
    wrong = []
    for i in np.unique(np.linspace(0, len(items) - 1, SAMPLES).astype(int)).tolist():
        try:
            read(items[i])
        except UnreadableImage as error:  # a training replaces single ones
            wrong.append(str(error))
    if len(wrong) > 1:
        raise DataError(f"{len(wrong)} of {SAMPLES} images that were tried: {'; '.join(wrong[:3])}")


def _compute_losses(model: nn.Module, loader: DataLoader) -> None:
    """Take two images through a model in training mode, on the CPU."""
    if len(loader) == 0:
        raise DataError(
            f"The dataset has {len(loader.dataset)} images, fewer than one batch of "
            f"{loader.batch_size}. Add images, or set train_dataloader.batch_size in `overrides`."
        )
    last = len(loader.dataset) - 1
    batch = loader.collate_fn([loader.dataset[i] for i in (0, last)])
    with torch.no_grad():
        model.train()(**model.data_preprocessor(batch, training=True), mode="loss")
