"""What `apis.train` does with one's own images: `data`, `epochs` and `budget` in a config, and the
entries that follow from the images by `runtime.recipe_rules`."""

import copy
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.registry import DATASETS

from ..checkpoints.metadata import lookup, read_config
from ..errors import ConfigError
from ..functional.collectives import share_counts, world_size
from ..runtime.config_leaves import leaves
from ..runtime.config_options import type_name
from ..runtime.config_rules import check_value, find_rule, whole
from ..runtime.recipe_rules import (
    AUTO,
    ENTRIES,
    PAPER,
    PAPER_EPOCHS,
    Budget,
    Recipe,
    Setup,
    auto_entries,
    derive,
)
from ..runtime.resume_state import find_last_good_checkpoint
from ..runtime.safe_loading import load_checkpoint_safely
from ..runtime.stand_ins import is_count
from ..runtime.text_formats import describe_duration
from ..transfer.fit_transfer import is_transfer
from ..transfer.own_data import is_own
from ..transfer.resnet_facts import ResNetFacts, facts_of_checkpoint
from .first_step import batch_cost
from .step_times import time_steps
from .training_plan import rehearsal

USED_MEMORY = 0.8  # of what is free, where the batch is chosen by it
LONGEST_WARMUP = 0.2  # of a training that is shortened
TIMING = 60, 0.05  # timed steps take at most these seconds, and at most this share of the budget


def choose_images(cfg: Config, config: str | Path, data: str | Path | Iterable | None) -> None:
    """Pretrain on the images of `data`: everything that `datasets.sources.list_images` takes.

    Of a config with `own_data` it is the folder of images and labels.
    """
    if data is None:
        return
    is_one = isinstance(data, str | os.PathLike) or not isinstance(data, Iterable)
    paths = [data] if is_one else list(data)
    if wrong := [one for one in paths if not isinstance(one, str | os.PathLike)]:
        raise ConfigError(f"--data has {wrong[0]!r}, expected a path or several.")
    if is_own(cfg):
        if len(paths) != 1:
            raise ConfigError(f"--data names {len(paths)} paths, expected one folder with labels.")
        cfg.own_data.root = os.path.expanduser(paths[0])
        return
    if is_transfer(cfg):
        kind = type_name(cfg.train_dataloader.dataset.get("type"))
        raise ConfigError(
            f"--data names the images of a pretraining, but {config} trains "
            f"{type_name(cfg.model.type)} on images with labels ({kind}). The first lines of the "
            "config say how its data are named."
        )
    dataset = cfg.train_dataloader.dataset
    dataset.source = [os.fspath(one) for one in paths]
    dataset.preset = None


def known_facts(cfg: Config, resume: str | Path | None) -> ResNetFacts | None:
    """Those of the ResNet in the checkpoint that is resumed or loaded; None if there is none.

    `resume` and the config's entries are read as by `apis.train.choose_start`.
    """
    path, found = cfg.get("load_from"), None
    if resume is not None or cfg.get("resume"):
        path = resume or path or "auto"
    if path == "auto":
        path, found = find_last_good_checkpoint(cfg.work_dir, lambda line: None) or (None, None)
    elif path:
        found = load_checkpoint_safely(path)
    return found and facts_of_checkpoint(found, path)


def choose_length(
    cfg: Config,
    config: str | Path,
    epochs: int | None,
    budget: str | None,
    cfg_options: Iterable[str] = (),
) -> Iterator[str]:
    """Write the length of the training into the config; `follow_rules` applies the budget.

    Yields a line if a warm-up of epochs is shortened, to a fifth of `epochs`.
    """
    lengths = {"--epochs": epochs, "--budget": budget}
    if any(option.lstrip("+").startswith("train_cfg.max_epochs=") for option in cfg_options):
        lengths["--cfg-options train_cfg.max_epochs"] = True
    named = [name for name, value in lengths.items() if value is not None]
    if len(named) > 1:
        raise ConfigError(f"{' and '.join(named)} both give the length: give one of them.")
    if epochs is not None or budget is not None:
        if epochs is not None:
            check_value("--epochs", epochs, whole(1))
        if cfg.train_cfg.get("max_epochs") is None or is_transfer(cfg):
            key = "max_iters" if cfg.train_cfg.get("max_epochs") is None else "max_epochs"
            raise ConfigError(
                f"{named[0]} is for pretraining. The length of {config} is train_cfg.{key} "
                f"({cfg.train_cfg[key]}): set --cfg-options train_cfg.{key}=N."
            )
        cfg.train_cfg.max_epochs = epochs or AUTO
    if cfg.train_cfg.get("max_epochs") != AUTO:
        cfg.pop("budget", None)
    elif budget is not None:
        cfg.budget = budget
    if epochs is not None:
        yield from _shorten_warmup(cfg)


def follow_rules(
    cfg: Config,
    fit: Callable[[Config], object],
    processes: int = 1,
    start: dict | None = None,
    budget: str | None = None,
    timed: bool = True,
) -> Iterator[str]:
    """Replace the config's entries "auto" by the values of `recipe_rules`; yields the reasons.

    A training that resumes keeps the values of its checkpoint.

    Args:
        fit: adapts a config with all its values to the machine.
        processes: of the training that is planned; each that runs calls this function.
        start: the content of the checkpoint that the training starts from, if any.
        budget: as on the command line; the config's `budget` is used otherwise.
        timed: time steps if the budget is a time; otherwise the length is one epoch.
    """
    auto = auto_entries(cfg)
    if not auto:
        return
    if cfg.get("resume"):
        yield from _keep_values(cfg, auto, start, processes, budget)
        auto = auto_entries(cfg)
    fields = set(auto.values())
    given = {name: lookup(cfg._cfg_dict, key) for name, key in ENTRIES.items()}
    given = {n: value for n, value in given.items() if n not in fields and value is not None}
    images = len(DATASETS.build(cfg.train_dataloader.dataset))
    accumulated = cfg.optim_wrapper.get("accumulative_counts", 1)
    limit = Budget.read(cfg.get("budget", PAPER))
    setup = Setup(images, processes, accumulated, limit)
    recipe, lines = derive(setup, **given)

    def trial() -> Config:
        """The config with the values so far, and a length with room for every schedule."""
        tried = copy.deepcopy(cfg)
        _write(tried, recipe._replace(epochs=max(recipe.epochs, PAPER_EPOCHS)), auto)
        fit(tried)
        return tried

    if "batch" in fields and (largest := _largest_batch(trial(), start)) < recipe.batch:
        setup = setup._replace(largest=largest)
        recipe, lines = derive(setup, **given)
    if "epochs" in fields and limit.seconds and timed:
        seconds, share = TIMING
        most = min(seconds, share * limit.seconds)
        yield f"timing steps for the budget of {limit}: at most {describe_duration(most)}"
        times = time_steps(trial(), start, max_seconds=most)
        each = times.step / times.images * world_size() / processes  # a plan may be for more
        yield f"timed: {times.images_per_second:.3g} images/s, {times.step:.3g} s a step"
        recipe, lines = derive(setup._replace(image_seconds=each), **given)
    _write(cfg, recipe, auto)
    yield from lines
    if "epochs" in fields:
        yield from _shorten_warmup(cfg)


def _largest_batch(cfg: Config, start: dict | None) -> int:
    """The largest power of two of images that fits into the memory of each process, estimated."""
    batch, found = cfg.train_dataloader.batch_size, []

    def measure() -> None:
        loader, model = runner.train_dataloader, runner.model
        drawn = next(iter(loader.batch_sampler))[:1]
        cost = batch_cost(runner, loader.collate_fn([loader.dataset[one] for one in drawn]))
        fits = batch if cost is None or cost.fits else int(USED_MEMORY * cost.largest_batch)
        fits = torch.tensor([max(1, fits)], device=next(model.parameters()).device)
        found.append(min(map(min, share_counts(fits))))

    with rehearsal(cfg, start) as runner:
        runner.train_loop.run = measure
        runner.train()
    return 2 ** (found[0].bit_length() - 1)


def _keep_values(
    cfg: Config, auto: dict[str, str], start: dict, processes: int, budget: str | None
) -> Iterator[str]:
    """Write the values of the training that is resumed into the config."""
    saved = read_config(start)
    before = lookup(saved, "budget")
    if budget is not None and before is not None and Budget.read(budget) != Budget.read(before):
        raise ConfigError(
            f"--budget {budget}: the training that is resumed had the budget {before}, to which "
            "its learning rate is scheduled. Resume without --budget; or start a new training from "
            f"its weights: --cfg-options load_from={cfg.load_from} in another --work-dir."
        )
    if before is not None:
        cfg.budget = before
    known = dict(leaves(saved))
    values = {key: known[key] for key in auto if known.get(key) not in (None, AUTO)}
    for key, value in values.items():
        check_value(f"{key} in the checkpoint", value, find_rule(key))
    batch, then = ENTRIES["batch"], lookup(start, "meta.run.processes")
    if batch in values and is_count(then):
        values[batch] = max(1, values[batch] * then // processes)
    cfg.merge_from_dict(values)
    yield "as in the checkpoint: " + ", ".join(f"{key} {v:g}" for key, v in values.items())


def _write(cfg: Config, recipe: Recipe, auto: dict[str, str]) -> None:
    cfg.merge_from_dict({key: getattr(recipe, name) for key, name in auto.items()})


def _shorten_warmup(cfg: Config) -> Iterator[str]:
    """Of epochs, to a fifth of the training."""
    schedules = cfg.get("param_scheduler") or []
    longest = LONGEST_WARMUP * cfg.train_cfg.max_epochs
    for schedule in schedules if isinstance(schedules, list) else [schedules]:
        warmup = schedule.get("warmup", AUTO)
        if schedule.get("by_epoch", True) and warmup != AUTO and warmup > longest:
            yield f"warm-up of {longest:g} epochs instead of {warmup:g}: a fifth of the training"
            schedule.warmup = longest
