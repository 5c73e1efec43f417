"""Fits a config to the machine it starts on: processes, precision, workers, learning rate.

A config describes the paper's set-up; these functions change the few entries that the machine
decides. Each returns what it changed in words, so that the tool can print it: nothing is adjusted
silently.
"""

import ctypes
import os
import signal
import sys
from datetime import timedelta
from importlib.util import find_spec

import torch
import torch.distributed as dist
from mmengine.config import Config

from ..errors import ConfigError

PR_SET_PDEATHSIG = 1  # of Linux's <sys/prctl.h>
PRECISIONS = ("fp16", "bf16", "off")

# Where each launcher tells a process its number: rank, processes in all, number on this machine.
LAUNCHER_VARIABLES = {
    "pytorch": ("RANK", "WORLD_SIZE", "LOCAL_RANK"),
    "slurm": ("SLURM_PROCID", "SLURM_NTASKS", "SLURM_LOCALID"),
    "mpi": ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_RANK"),
}


def processes(launcher: str) -> tuple[int, int]:
    """This process's number and the number of processes, as the launcher tells them.

    Raises:
        ConfigError: the launcher's variables are not there, i.e. the launcher was not used.
    """
    if launcher == "none":
        return 0, 1
    names = LAUNCHER_VARIABLES[launcher]
    missing = [name for name in names if name not in os.environ]
    if missing:
        raise ConfigError(
            f"--launcher {launcher} needs {', '.join(missing)} in the environment, which the "
            "launcher sets. Start with tools/dist_train.sh CONFIG PROCESSES or "
            "tools/slurm_train.sh, or leave --launcher away for one process."
        )
    if "TORCHELASTIC_RUN_ID" in os.environ:  # torchrun's workers outlive one that is killed
        _end_with_parent()
    rank, world_size, local_rank = (int(os.environ[name]) for name in names)
    # MMEngine places the model by it under every launcher.
    os.environ["LOCAL_RANK"] = str(local_rank)
    return rank, world_size


def _end_with_parent() -> None:
    """Let Linux end this process when the one that started it ends, however that happens."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def process_number(launcher: str) -> int:
    """This process's number without any check, for messages about what is wrong."""
    return 0 if launcher == "none" else int(os.environ.get(LAUNCHER_VARIABLES[launcher][0], 0))


def fit_to_processes(cfg: Config, launcher: str) -> list[str]:
    """Synchronized batch norm and NCCL on GPUs; gloo, plain batch norm and a share of the cores on
    CPUs.

    Joins the processes when they run on CPUs, since MMEngine would ask for a GPU there.
    """
    rank, world_size = processes(launcher)
    cfg.launcher = launcher
    if launcher == "none":
        if torch.cuda.device_count() > 1:
            return [
                f"one of {torch.cuda.device_count()} GPUs is used; tools/dist_train.sh CONFIG N "
                "uses N"
            ]
        return []
    if torch.cuda.is_available():
        cfg.sync_bn = "torch"
        return [f"{world_size} processes on GPUs: NCCL, synchronized batch norm"]
    cfg.model_wrapper_cfg = dict(
        type="MMDistributedDataParallel", device_ids=None, broadcast_buffers=False
    )
    cfg.pop("sync_bn", None)
    torch.set_num_threads(cores_each())
    if not dist.is_initialized():
        if launcher != "pytorch":  # which has set both
            if int(os.environ.get("SLURM_NNODES", 1)) > 1 and "MASTER_ADDR" not in os.environ:
                raise ConfigError("Several machines without GPUs: set MASTER_ADDR to the first's.")
            os.environ.setdefault("MASTER_ADDR", "127.0.0.1")
            os.environ.setdefault("MASTER_PORT", "29500")
        join_processes(rank, world_size)
    return [
        f"{world_size} processes on CPUs: gloo, batch norm per process, "
        f"{torch.get_num_threads()} thread{'s' * (torch.get_num_threads() > 1)} each"
    ]


def join_processes(rank: int, world_size: int, device: str = "cuda") -> None:
    """Meet the other processes: by NCCL where each has a GPU of its own, by gloo elsewhere.

    Args:
        rank: this process's number; `LOCAL_RANK` is its number on this machine.
        world_size: number of processes.
        device: the kind that they compute on, "cuda" or "cpu"; with "cpu" GPUs are left alone.
    """
    here = int(os.environ.get("LOCAL_WORLD_SIZE", 1))
    own_gpu = device == "cuda" and torch.cuda.device_count() >= here
    if own_gpu:
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", 0)))
    dist.init_process_group(
        "nccl" if own_gpu else "gloo",
        rank=rank,
        world_size=world_size,
        timeout=timedelta(minutes=30),
    )


def leave_processes() -> None:
    """Part from the other processes, if there are any."""
    if dist.is_initialized():
        dist.destroy_process_group()


def fit_precision(cfg: Config, precision: str | None = None) -> list[str]:
    """Choose the optimizer wrapper: what `precision` asks for, else what the config says if the
    machine can do it.

    Raises:
        ConfigError: float16 was asked for on a machine without a GPU.
    """
    cuda = torch.cuda.is_available()
    wrapper = cfg.optim_wrapper
    configured = wrapper.get("type", "OptimWrapper")
    if precision is None:
        if configured == "AmpOptimWrapper" and not cuda:
            _set_wrapper(wrapper, "OptimWrapper")
            return [
                "no GPU: float32 instead of the config's mixed precision (--amp bf16 works here)"
            ]
        return []
    if precision == "off":
        _set_wrapper(wrapper, "OptimWrapper")
    elif cuda and precision == "fp16":
        _set_wrapper(wrapper, "AmpOptimWrapper", dtype="float16", loss_scale="dynamic")
    elif cuda:  # bfloat16 has float32's range and needs no loss scale
        _set_wrapper(wrapper, "AmpOptimWrapper", dtype="bfloat16", loss_scale=dict(enabled=False))
    elif precision == "bf16":
        _set_wrapper(wrapper, "CpuAmpOptimWrapper")
    else:
        raise ConfigError(
            "--amp fp16 needs a GPU, and torch sees none: float16 is slow and inexact on a CPU. "
            "Use --amp bf16, or leave --amp away for float32."
        )
    return [
        f"precision: {dict(fp16='float16 mixed', bf16='bfloat16 mixed', off='float32')[precision]}"
    ]


def _set_wrapper(wrapper: dict, kind: str, **options) -> None:
    for name in ("dtype", "loss_scale", "use_fsdp"):
        wrapper.pop(name, None)
    wrapper.update(type=kind, **options)


def fit_learning_rate(cfg: Config, world_size: int, scale: bool | None = None) -> list[str]:
    """Scale the learning rate with the global batch: processes x batch x accumulation /
    base_batch_size.

    MMEngine's own scaling leaves gradient accumulation out; this one counts it, writes the result
    into the config with the batch it belongs to, and turns MMEngine's off, so that it is scaled
    once.

    Args:
        cfg: the config; `auto_scale_lr = dict(enable=..., base_batch_size=...)` is its own wish.
        world_size: number of processes.
        scale: overrules the config's `enable`.

    Raises:
        ConfigError: scaling is asked for and the config does not name its base batch size.
    """
    rule = cfg.get("auto_scale_lr") or {}
    scale = rule.get("enable", False) if scale is None else scale
    optimizer, batch = cfg.optim_wrapper.optimizer, global_batch(cfg, world_size)
    if not scale:
        cfg.auto_scale_lr = None
        return [f"peak learning rate {optimizer.lr:g}, as configured (global batch {batch})"]
    base = rule.get("base_batch_size")
    if not base:
        raise ConfigError(
            "--auto-scale-lr needs auto_scale_lr = dict(base_batch_size=...) in the config: "
            "the global batch that its learning rate is meant for."
        )
    configured, optimizer.lr = optimizer.lr, optimizer.lr * batch / base
    cfg.auto_scale_lr = dict(enable=False, base_batch_size=batch)
    return [f"peak learning rate {optimizer.lr:g} = {configured:g} x global batch {batch} / {base}"]


def global_batch(cfg: Config, world_size: int) -> int:
    """Images per optimizer step, over all processes and accumulated iterations."""
    return (
        world_size
        * cfg.train_dataloader.batch_size
        * cfg.optim_wrapper.get("accumulative_counts", 1)
    )


def fit_workers(cfg: Config) -> list[str]:
    """No more workers than cores for each process; page-locked memory where there is a GPU."""
    configured = cfg.train_dataloader.get("num_workers", 0)
    for name in ("train_dataloader", "val_dataloader", "test_dataloader"):
        loader = cfg.get(name)
        if not loader:
            continue
        loader.num_workers = min(loader.get("num_workers", 0), cores_each())
        if loader.num_workers == 0:  # torch refuses these two without workers
            loader.persistent_workers = False
            loader.pop("prefetch_factor", None)
        loader.pin_memory = torch.cuda.is_available()
    used = cfg.train_dataloader.num_workers
    if used < configured:
        return [
            f"{used} loading workers a process instead of {configured}: there are no more cores"
        ]
    return []


def fit_loggers(cfg: Config) -> list[str]:
    """Leave TensorBoard out where it is not installed: it is not needed for training."""
    visualizer = cfg.get("visualizer")
    if not visualizer or find_spec("tensorboard") is not None:
        return []
    kept = [b for b in visualizer.get("vis_backends", []) if b["type"] != "TensorboardVisBackend"]
    if len(kept) == len(visualizer.get("vis_backends", [])):
        return []
    visualizer.vis_backends = kept
    return [
        "TensorBoard is not installed: no TensorBoard logs (pip install tensorboard); "
        "scalars.json is written"
    ]


def cores_each() -> int:
    """Cores for each process. Slurm has given every task its own; torchrun and MPI have not."""
    sharing = os.environ.get("LOCAL_WORLD_SIZE") or os.environ.get("OMPI_COMM_WORLD_LOCAL_SIZE")
    if hasattr(os, "sched_getaffinity"):
        cores = len(os.sched_getaffinity(0))
    else:
        cores = os.cpu_count() or 1
    return max(1, cores // int(sharing or 1))


def fit_to_machine(
    cfg: Config, launcher: str = "none", precision: str | None = None, scale_lr: bool | None = None
) -> list[str]:
    """All of the above, in order. Returns what was changed, a line each."""
    _, world_size = processes(launcher)
    return [
        *fit_to_processes(cfg, launcher),
        *fit_precision(cfg, precision),
        *fit_learning_rate(cfg, world_size, scale_lr),
        *fit_workers(cfg),
        *fit_loggers(cfg),
    ]
