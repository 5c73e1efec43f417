"""Pretraining with SlotCon, and training of detectors and segmentation networks."""

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

from mmengine.config import Config
from mmengine.runner import Runner

from ..checkpoints.fill import check_state_dict
from ..checkpoints.metadata import lookup
from ..errors import ConfigError
from ..runtime.config_options import (
    check_optimizer,
    check_values,
    explained_build_errors,
    read_config,
)
from ..runtime.fit_machine import fit_to_machine
from ..runtime.launch import announce, leave_processes, processes
from ..runtime.resume_state import find_last_good_checkpoint, load_training_state
from ..runtime.safe_loading import load_checkpoint_safely, safe_loader
from ..runtime.scalars import note_images
from ..transfer.data_layout import check_listed_files
from ..transfer.fill_backbone import name_backbone
from ..transfer.fit_transfer import fit_transfer, is_transfer
from .training_plan import check_enough_images, describe_plan

# Entries without which no training can be planned.
NEEDED = ("model", "train_dataloader", "train_cfg", "optim_wrapper")
NEEDED_IN_THEM = ("model.type", "train_dataloader.dataset", "train_dataloader.batch_size")
NEEDED_IN_THEM += ("optim_wrapper.optimizer.type", "optim_wrapper.optimizer.lr")


def train(
    config: str | Path,
    work_dir: str | Path | None = None,
    resume: str | Path | None = None,
    backbone: str | Path | None = None,
    amp: str | None = None,
    auto_scale_lr: bool | None = None,
    seed: int | None = None,
    deterministic: bool = False,
    compile: bool = False,
    cfg_options: list[str] | None = None,
    launcher: str = "none",
    dry_run: bool = False,
) -> Path:
    """Train what a config describes, or print the plan; returns the work dir.

    The config is adapted to this machine (processes, precision, learning rate, workers); each
    change is printed. Checkpoints are read without running code that is in them, by MMEngine too.

    Args:
        work_dir: folder of checkpoints and logs; None: the config's.
        resume: "auto": the last good checkpoint in the work dir, if there is one; or a path.
        backbone: weights of the backbone: an exported file or a checkpoint of this package;
            "supervised": torchvision's ImageNet weights; "none": random; None: the config's.
        amp: mixed precision, "fp16", "bf16" or "off"; None: the config's on a GPU, else float32.
        auto_scale_lr: scale the learning rate with the global batch; None: as in the config.
        seed: of weights, order and views; None: the checkpoint's or the config's.
        deterministic: bitwise repeatable kernels on a GPU; slower.
        compile: `torch.compile` encoder and projector.
        cfg_options: "key=value" replaces an entry of the config, "+key=value" adds one.
        launcher: how the processes were started: "none", "pytorch", "slurm" or "mpi".
        dry_run: build model and data, print the plan and return.
    """
    rank, world_size = processes(launcher)
    cfg = read_config(config, cfg_options)
    check_complete(cfg, config)
    check_optimizer(cfg)
    cfg.work_dir = str(work_dir or cfg.get("work_dir") or default_work_dir(config))
    cfg.randomness = {"seed": 0, **(cfg.get("randomness") or {})}
    if seed is not None:
        cfg.randomness.seed = seed
    if deterministic:
        cfg.randomness.deterministic = True
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS needs it
    if compile:
        if is_transfer(cfg):
            raise ConfigError(f"--compile is for pretraining; {config} trains {cfg.model.type}.")
        cfg.model.compile = True
    check_values(cfg)
    say = partial(announce, launcher=launcher)
    lines = fit_transfer(cfg, world_size, amp, auto_scale_lr)
    for line in (*lines, *fit_to_machine(cfg, launcher, amp, auto_scale_lr)):
        say(line)
    start = choose_start(cfg, resume, say, keep_seed=seed is None)
    for line in name_backbone(cfg, backbone and str(backbone)):
        say(line)
    with safe_loader(cfg.work_dir), explained_build_errors():
        if dry_run:
            plan = describe_plan(cfg, world_size, start)
            if rank == 0:
                print(plan, flush=True)
            return Path(cfg.work_dir)
        runner = Runner.from_cfg(cfg)
        if start is not None:
            check_state_dict(runner.model, start, cfg.load_from)
            del start
        if is_transfer(cfg):
            check_listed_files(runner.train_dataloader.dataset, cfg)
        check_enough_images(runner.train_dataloader)
        if rank == 0:
            note_images(cfg.work_dir, trained=len(runner.train_dataloader.dataset))
        runner.train()
    # Not after an error: the other processes may be waiting, and must see that this one ended.
    leave_processes()
    say(f"done; results are in {cfg.work_dir}")
    return Path(cfg.work_dir)


def check_complete(cfg: Config, config: str | Path) -> None:
    """Check that a config has what every training needs; a ConfigError names what is missing."""
    missing = [name for name in NEEDED if not cfg.get(name)]
    if not missing:
        parts = {name: cfg[name] for name in NEEDED}
        missing = [name for name in NEEDED_IN_THEM if lookup(parts, name) is None]
    if missing:
        raise ConfigError(f"{config} cannot be trained: it has no {', '.join(missing)}.")
    lengths = [name for name in ("max_epochs", "max_iters") if cfg.train_cfg.get(name) is not None]
    if len(lengths) != 1:
        found = "both max_epochs and max_iters" if lengths else "neither max_epochs nor max_iters"
        raise ConfigError(f"{config}: train_cfg has {found}, expected one of them.")


def default_work_dir(config: str | Path) -> str:
    """The work dir of a config that names none."""
    return os.environ.get("SLOTCON_WORK_DIR", f"work_dirs/{Path(config).stem}")


def choose_start(
    cfg: Config, resume: str | Path | None, say: Callable[[str], None], keep_seed: bool
) -> dict | None:
    """Write the checkpoint that training starts from into the config; returns its content, if any.

    Args:
        resume: see `train`; None: as in the config.
        say: is called with each line about the choice.
        keep_seed: resume with the seed of the checkpoint's run, for the same order and views as
            without the interruption.
    """
    if resume is None and cfg.get("resume"):  # as in mmdet's and mmseg's configs
        resume = cfg.get("load_from") or "auto"
    if resume is None:
        return load_checkpoint_safely(cfg.load_from) if cfg.get("load_from") else None
    cfg.resume = False
    if resume == "auto":
        found = find_last_good_checkpoint(cfg.work_dir, warn=say)
        if found is None:
            say(f"no checkpoint in {cfg.work_dir} to resume from: a new training starts")
            return load_checkpoint_safely(cfg.load_from) if cfg.get("load_from") else None
        path, state = found
    else:
        path, state = Path(resume), load_training_state(resume)
    cfg.load_from, cfg.resume = str(path), True
    meta = state["meta"]
    if keep_seed and meta.get("seed") is not None:
        cfg.randomness.seed = meta["seed"]
    say(f"resuming from {path}, after epoch {meta['epoch']}, iteration {meta['iter']:,}")
    return state
