"""Adapts a config to the machine: processes, precision, learning rate, workers, loggers.

A config describes the paper's setup. Each function here changes the entries that depend on the
machine in place and returns one line for each change, so that a command can print them.
"""

from importlib.util import find_spec

import torch
from mmengine.config import Config

from ..errors import ConfigError
from .config_options import type_name
from .launch import TIMEOUT, cores_each, join_cpu_processes, processes

TENSORBOARD = "TensorboardVisBackend"


def fit_to_machine(
    cfg: Config, launcher: str = "none", precision: str | None = None, scale_lr: bool | None = None
) -> list[str]:
    """Apply all functions of this module; for the arguments see these and `launch.processes`."""
    _, world_size = processes(launcher)
    lines = fit_to_processes(cfg, launcher)
    return [*lines, *fit_training(cfg, world_size, precision, scale_lr)]


def fit_training(
    cfg: Config, world_size: int, precision: str | None = None, scale_lr: bool | None = None
) -> list[str]:
    """Apply all functions of this module that follow `fit_to_processes`."""
    return [
        *fit_precision(cfg, precision),
        *fit_learning_rate(cfg, world_size, scale_lr),
        *fit_workers(cfg),
        *fit_loggers(cfg),
    ]


def fit_to_processes(cfg: Config, launcher: str) -> list[str]:
    """NCCL and, unless `sync_bn` is None, synchronized batch norm on GPUs; gloo, batch norm per
    process and an equal part of the cores on CPUs.

    On CPUs the process group is initialized here: MMEngine would ask for a GPU.
    """
    _, world_size = processes(launcher)
    cfg.launcher = launcher
    if launcher == "none":
        gpus = torch.cuda.device_count()
        return [f"one of {gpus} GPUs is used; slotcon train CONFIG --gpus N uses N"] * (gpus > 1)
    if torch.cuda.is_available():
        cfg.sync_bn = cfg.get("sync_bn", "torch")
        cfg.env_cfg = cfg.get("env_cfg") or {}
        cfg.env_cfg.dist_cfg = cfg.env_cfg.get("dist_cfg") or {}
        cfg.env_cfg.dist_cfg.setdefault("timeout", int(TIMEOUT.total_seconds()))
        norm = "synchronized batch norm" if cfg.sync_bn else "batch norm per process"
        return [f"{world_size} processes on GPUs: NCCL, {norm}"]
    kind = "MMDistributedDataParallel"
    cfg.model_wrapper_cfg = dict(type=kind, device_ids=None, broadcast_buffers=False)
    cfg.pop("sync_bn", None)
    threads = cores_each()
    torch.set_num_threads(threads)
    join_cpu_processes(launcher)
    each = f"{threads} thread{'s' * (threads > 1)} each"
    return [f"{world_size} processes on CPUs: gloo, batch norm per process, {each}"]


def fit_precision(cfg: Config, precision: str | None = None) -> list[str]:
    """Choose the optimizer wrapper for "fp16" (only on a GPU), "bf16" or "off".

    None keeps the config's precision on a GPU. On a CPU it is bfloat16 if the config has
    `bf16_on_cpu = True` and the CPU computes in it; or else float32 if the config's needs a GPU.
    """
    cuda, wrapper = torch.cuda.is_available(), cfg.optim_wrapper
    if precision is None and not cuda and cfg.get("bf16_on_cpu") and has_bfloat16_instructions():
        precision = "bf16"
    if precision is None and (cuda or type_name(wrapper.get("type")) != "AmpOptimWrapper"):
        return []
    if precision == "fp16" and not cuda:
        raise ConfigError(
            "--amp fp16 needs a GPU, and torch sees none: float16 is slow and inexact on a CPU. "
            "Use --amp bf16, or omit --amp for float32."
        )
    fp16 = dict(type="AmpOptimWrapper", dtype="float16", loss_scale="dynamic")
    bf16 = dict(type="CpuAmpOptimWrapper")
    if cuda:  # bfloat16 has float32's range and needs no loss scale
        bf16 = dict(type="AmpOptimWrapper", dtype="bfloat16", loss_scale=dict(enabled=False))
    off = dict(type="OptimWrapper")
    change, options = {
        "fp16": ("precision: float16 mixed", fp16),
        "bf16": ("precision: bfloat16 mixed", bf16),
        "off": ("precision: float32", off),
        None: ("no GPU: float32 instead of the config's mixed precision", off),
    }[precision]
    for name in ("dtype", "loss_scale", "use_fsdp"):
        wrapper.pop(name, None)
    wrapper.update(options)
    if precision == "bf16" and not cuda and not has_fast_bfloat16():
        change += ", on a CPU without AVX-512, where it took 12 times as long as --amp off"
    return [change]


def has_fast_bfloat16() -> bool:
    """Whether this CPU computes in bfloat16 about as fast as in float32; True if it is not known.

    oneDNN has kernels for it from AVX-512 on. A step of ResNet-18 took 1.80 s in bfloat16 and 0.15
    in float32 with AVX2; 0.18 and 0.11 with AVX-512.
    """
    return torch.backends.cpu.get_cpu_capability() not in ("DEFAULT", "NO AVX", "AVX", "AVX2")


def has_bfloat16_instructions() -> bool:
    """Whether this CPU multiplies in bfloat16 (AVX-512's or AMX's); False if torch cannot tell.

    A step of slotcon_r18_small.py, with channels_last, took 0.80 s in float32 and 0.53 in bfloat16
    on a core that does; without channels_last 1.02 and 0.65.
    """
    known = getattr(torch.cpu, "get_capabilities", dict)()
    return bool(known.get("avx512_bf16") or known.get("amx_bf16"))


def fit_learning_rate(cfg: Config, world_size: int, scale: bool | None = None) -> list[str]:
    """Scale the learning rate by global batch / `auto_scale_lr.base_batch_size`.

    Unlike MMEngine's scaling, which is turned off, the global batch includes accumulated
    iterations. `scale=None` follows the config's `auto_scale_lr.enable`.
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
            "the global batch for which its learning rate is set."
        )
    configured, optimizer.lr = optimizer.lr, optimizer.lr * batch / base
    cfg.auto_scale_lr = dict(enable=False, base_batch_size=batch)
    return [f"peak learning rate {optimizer.lr:g} = {configured:g} x global batch {batch} / {base}"]


def global_batch(cfg: Config, world_size: int) -> int:
    """Images per optimizer step, over all processes and accumulated iterations."""
    accumulated = cfg.optim_wrapper.get("accumulative_counts", 1)
    return world_size * cfg.train_dataloader.batch_size * accumulated


def fit_workers(cfg: Config) -> list[str]:
    """At most one worker per core of the process; page-locked memory if there is a GPU."""
    changes = []
    for name in ("train_dataloader", "val_dataloader", "test_dataloader"):
        loader = cfg.get(name)
        if not loader:
            continue
        configured, cores = loader.get("num_workers", 0), cores_each()
        loader.num_workers = min(configured, cores)
        if configured > cores and name == "train_dataloader":
            instead = f"instead of {configured}: one per CPU core"
            changes.append(f"{cores} loading workers per process {instead}")
        if loader.num_workers == 0:  # torch refuses these without workers
            loader.persistent_workers = False
            for option in ("prefetch_factor", "timeout", "multiprocessing_context"):
                loader.pop(option, None)
        loader.pin_memory = torch.cuda.is_available()
    return changes


def fit_loggers(cfg: Config) -> list[str]:
    """Remove the TensorBoard backend if TensorBoard is not installed; training does not need it."""
    visualizer = cfg.get("visualizer") or {}
    visualizer.pop("name", None)  # runs of one process would share a visualizer of the same name
    backends = visualizer.get("vis_backends") or []
    kept = [backend for backend in backends if type_name(backend["type"]) != TENSORBOARD]
    if len(kept) == len(backends) or find_spec("tensorboard") is not None:
        return []
    cfg.visualizer.vis_backends = kept
    return [
        "TensorBoard is not installed: no TensorBoard logs (pip install tensorboard); "
        "scalars.json is written"
    ]
