"""Pretraining with SlotCon, and training of detectors and segmentation networks."""

import os
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from functools import partial
from pathlib import Path

from mmengine.config import Config
from mmengine.runner import Runner

from ..checkpoints.metadata import lookup
from ..checkpoints.named_networks import last_of_work_dir
from ..errors import ConfigError
from ..hooks.process_watch_hook import report_progress
from ..hooks.progress_bar_hook import progress_shown
from ..runtime.config_options import read_config, type_name
from ..runtime.config_rules import check_values
from ..runtime.disk_space import check_space
from ..runtime.explain_errors import check_types, explained_errors
from ..runtime.fit_machine import fit_to_processes, fit_training
from ..runtime.launch import announce, leave_processes, processes, store_is_up
from ..runtime.process_agreement import check_agreement, config_facts
from ..runtime.process_state import CheckedRunner, QuietRunner, process_state_kept
from ..runtime.process_watch import ProcessWatch
from ..runtime.resume_state import find_last_good_checkpoint, load_training_state
from ..runtime.run_loggers import choose_loggers, ended_runs
from ..runtime.safe_loading import load_checkpoint_safely, safe_loader
from ..runtime.scalars import note_images
from ..runtime.work_dir import claim, find_replaced, move_aside
from ..runtime.wrapping import unwrapped
from ..transfer.fill_backbone import backbone_hook, name_backbone
from ..transfer.fit_transfer import fit_transfer, is_slotcon
from ..transfer.own_data import follow_data, is_own
from .own_images import choose_images, choose_length, follow_rules, known_facts
from .training_plan import check_start, rehearse

# Entries without which no training can be planned.
NEEDED = ("model.type", "train_dataloader.dataset", "train_dataloader.batch_size", "train_cfg")
NEEDED += ("optim_wrapper.optimizer.type", "optim_wrapper.optimizer.lr")


def train(
    config: str | Path,
    data: str | Path | Sequence[str | Path] | None = None,
    epochs: int | None = None,
    budget: str | None = None,
    work_dir: str | Path | None = None,
    resume: str | Path | None = None,
    backbone: str | Path | None = None,
    amp: str | None = None,
    auto_scale_lr: bool | None = None,
    seed: int | None = None,
    deterministic: bool = False,
    compile: bool = False,
    allow_missing: list[str] | None = None,
    cfg_options: list[str] | None = None,
    launcher: str = "none",
    overwrite: bool = False,
    logger: str | Sequence[str] | None = None,
    hang_timeout: float = 90,
    dry_run: bool | Callable[..., str] = False,
    step: bool = True,
    parts: str | None = None,
    progress: bool = False,
) -> Path:
    """Train what a config describes, or print the plan; returns the work dir.

    The config is adapted to this machine (processes, precision, learning rate, workers); each
    change is printed. Checkpoints are read without running code that is in them, by MMEngine too.

    Args:
        data: the images of a pretraining, as `datasets.sources.list_images` takes them: a folder, a
            glob, a list file, an image or a sequence of these; None: the config's.
        epochs: length of the training; None: the config's.
        budget: length of a pretraining as time or epochs: "45min", "3h", "2days", "200epochs";
            "paper": 800 epochs, fewer of more than COCO's images. A time is divided by that of
            steps which are timed first. None: the config's.
        work_dir: folder of checkpoints and logs, for one training at a time; None: the config's.
        resume: "auto": the last good checkpoint in the work dir, if there is one; or a path.
        backbone: weights of the backbone: an exported file, a checkpoint, a work dir (its last good
            checkpoint) or "zoo:NAME"; "supervised": torchvision's ImageNet weights; "timm": timm's
            own, of a `TimmEncoder`; "none": random; None: the config's.
        amp: mixed precision, "fp16", "bf16" or "off"; None: the config's on a GPU, else float32.
        auto_scale_lr: scale the learning rate with the global batch; None: as in the config.
        seed: of weights, order and views; None: the checkpoint's or the config's.
        deterministic: bitwise repeatable kernels on a GPU; slower.
        compile: `torch.compile` encoder and projector.
        allow_missing: patterns (`*`, `?`) of tensors that may be missing, left over or of another
            shape in `load_from`, `backbone` or `init_cfg`; the model keeps its own. They are
            listed, and recorded in `meta` of each checkpoint. None: the config's, or none.
        cfg_options: "key=value" replaces an entry of the config, "+key=value" adds one.
        launcher: how the processes were started: "none", "pytorch", "slurm" or "mpi".
        overwrite: use a work dir with checkpoints of an earlier training, which are moved into a
            folder in it, `replaced_1` at first. Without it this is an error.
        logger: "tensorboard", "wandb" or "mlflow", or several of them, beside `scalars.json`; None:
            the config's, which is TensorBoard. A resumed training continues its runs.
        hang_timeout: seconds without progress after which a process is reported as hanging and the
            training ended; 0: never. See `ProcessWatch`.
        dry_run: build everything, take one step on one batch, print the plan and the losses, and
            return. Nothing is written. Without a GPU the batch has 2 images of each process. A
            function in place of True has `rehearse`'s arguments and result; `plan` gives one.
        step: with `dry_run`: take the step; False on a machine too small for it.
        parts: of `backbone`: "all": a pretrained decoder too, if the model has one of its class;
            "encoder": the encoder alone; None: the config's, "all".
        progress: print a progress bar and warnings; the other log lines are only in the log file.
    """
    rank, world_size = processes(launcher)
    planned = getattr(dry_run, "processes", None) or world_size
    cfg = read_config(config, cfg_options)
    check_complete(cfg, config)
    check_types(cfg)
    choose_images(cfg, config, data)
    lines = list(choose_length(cfg, config, epochs, budget, cfg_options or []))
    cfg.work_dir = str(work_dir or cfg.get("work_dir") or default_work_dir(config))
    cfg.randomness = {"seed": 0, **(cfg.get("randomness") or {})}
    if seed is not None:
        cfg.randomness.seed = seed
    if deterministic:
        cfg.randomness.deterministic = True
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS needs it
    if compile:
        if not is_slotcon(cfg):
            name = type_name(cfg.model.type)
            raise ConfigError(f"--compile is for pretraining with SlotCon; {config} trains {name}.")
        cfg.model.compile = True
    cfg.allow_missing = allow_missing or cfg.get("allow_missing") or []
    check_values(cfg)
    say = partial(announce, launcher=launcher)
    if backbone is not None:
        backbone = last_of_work_dir(backbone, say)
    source = backbone or (backbone_hook(cfg) or {}).get("source")
    if is_own(cfg):
        lines += follow_data(cfg, source, known_facts(cfg, resume))
    lines += fit_transfer(cfg, planned, amp, auto_scale_lr)
    for line in (*lines, *fit_to_processes(cfg, launcher)):
        say(line)
    with (
        process_state_kept(),
        ProcessWatch(rank, world_size, hang_timeout) as watch,
        claim(cfg.work_dir, dry_run) if rank == 0 else nullcontext(),
        safe_loader(cfg.work_dir),
        explained_errors(cfg),
    ):
        start, replaced = choose_start(cfg, resume, say, seed is None, overwrite, source)
        fit = partial(fit_training, world_size=planned, precision=amp, scale_lr=auto_scale_lr)
        for line in follow_rules(cfg, fit, planned, start, budget, timed=step or not dry_run):
            say(line)  # while it times steps
        for line in fit(cfg):
            say(line)
        for line in name_backbone(cfg, backbone, parts):
            say(line)
        choose_loggers(cfg, logger, project=Path(config).stem)
        check = partial(check_agreement, config_facts(cfg), rank, world_size)
        if early := store_is_up():
            check()
        if dry_run:
            plan = (rehearse if dry_run is True else dry_run)(cfg, planned, start, step)
            if rank == 0:
                print(plan, flush=True)
            leave_processes()
            return Path(cfg.work_dir)
        runner = (QuietRunner if progress else CheckedRunner).from_cfg(cfg)
        if not early:  # Slurm or MPI, which MMEngine connects, or one process
            check()
        check_start(runner, cfg, start)
        check_space(cfg, unwrapped(runner.model), cfg.work_dir)
        del start
        if not progress:
            runner.show_log()
        report_progress(runner, watch)
        if rank == 0:
            runner.at_start = partial(_begin, runner, replaced, say)
        with ended_runs(runner.visualizer), progress_shown(runner) if progress else nullcontext():
            runner.train()
    # Not after an error: the other processes may be waiting, and must see that this one ended.
    leave_processes()
    say(f"done; results are in {cfg.work_dir}")
    return Path(cfg.work_dir)


def _begin(runner: Runner, replaced: list[Path], say: Callable[[str], None]) -> None:
    """What changes the work dir, once the start has been checked."""
    move_aside(replaced, runner.work_dir, say)
    note_images(runner.work_dir, trained=len(runner.train_dataloader.dataset))


def check_complete(cfg: Config, config: str | Path) -> None:
    """Check that a config has what every training needs; a ConfigError names what is missing."""
    if missing := [key for key in NEEDED if lookup(cfg._cfg_dict, key) is None]:
        is_yaml = Path(config).suffix in (".yaml", ".yml")
        advice = " Is it for slotcon benchmark or slotcon train_detectron2?" * is_yaml
        raise ConfigError(f"{config} cannot be trained: it has no {', '.join(missing)}.{advice}")
    lengths = [name for name in ("max_epochs", "max_iters") if cfg.train_cfg.get(name) is not None]
    if len(lengths) != 1:
        found = "both max_epochs and max_iters" if lengths else "neither max_epochs nor max_iters"
        raise ConfigError(f"{config}: train_cfg has {found}, expected one of them.")


def default_work_dir(config: str | Path) -> str:
    """The work dir of a config that names none."""
    return os.environ.get("SLOTCON_WORK_DIR", f"work_dirs/{Path(config).stem}")


def choose_start(
    cfg: Config,
    resume: str | Path | None,
    say: Callable[[str], None],
    keep_seed: bool,
    overwrite: bool = False,
    backbone: str | Path | None = None,
) -> tuple[dict | None, list[Path]]:
    """Write the checkpoint that training starts from into the config.

    Returns its content, if any, and the checkpoints in the work dir that the training would
    replace; without `overwrite` a ConfigError, unless `resume` has found that none can be used.

    Args:
        resume: see `train`; None: as in the config.
        say: is called with each line about the choice.
        keep_seed: resume with the seed of the checkpoint's run, for the same order and views as
            without the interruption.
        backbone: where a training that does not resume gets its backbone's weights.
    """
    if resume is None and cfg.get("resume"):  # as in mmdet's and mmseg's configs
        resume = cfg.get("load_from") or "auto"
    path = state = None
    cfg.resume = False
    if resume == "auto":
        path, state = find_last_good_checkpoint(cfg.work_dir, warn=say) or (None, None)
        if path is None:
            say(f"no checkpoint in {cfg.work_dir} to resume from: a new training starts")
    elif resume is not None:
        path, state = Path(resume), load_training_state(resume)
    sources = [cfg.get("load_from"), backbone] if path is None else []
    meta, overwrite = state and state["meta"], overwrite or resume == "auto"
    replaced = find_replaced(cfg.work_dir, path, meta, overwrite, sources)
    if path is None:
        return load_checkpoint_safely(cfg.load_from) if cfg.get("load_from") else None, replaced
    cfg.load_from, cfg.resume = str(path), True
    if keep_seed and meta.get("seed") is not None:
        cfg.randomness.seed = meta["seed"]
    say(f"resuming from {path}, after epoch {meta['epoch']}, iteration {meta['iter']:,}")
    return state, replaced
