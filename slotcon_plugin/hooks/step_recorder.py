"""Keeps what one training step depends on, so that it can be repeated."""

import random
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..checkpoints.containers import pth_bytes
from ..datasets.plain_batches import to_plain
from ..functional.collectives import rank, world_size
from ..runtime.atomic_files import write_atomically
from ..runtime.config_options import type_name
from ..runtime.environment import collect_versions, processor_name
from ..runtime.wrapping import unwrapped

FOLDER = "nonfinite_step"  # in the work dir
KEYS = ("meta", "config", "state_dict", "inputs", "random", "losses")  # dictionaries in a file


class StepRecorder:
    """Records the inputs, random states and buffers of a step, and writes them with its weights.

    Buffers are copied before each step, because the step changes them. Weights change only in the
    optimizer's step: `save` must be called before it.
    """

    def __init__(self, model: nn.Module) -> None:
        self.model = unwrapped(model)
        self.buffers = {name: buffer.clone() for name, buffer in self.model.named_buffers()}
        self.copies: dict[torch.dtype, tuple[list[Tensor], list[Tensor]]] = {}
        for name, buffer in self.model.named_buffers():
            copies, originals = self.copies.setdefault(buffer.dtype, ([], []))
            copies.append(self.buffers[name])
            originals.append(buffer)
        self.inputs: dict[str, Any] = {}
        self.losses: dict[str, Tensor | list[Tensor]] = {}
        self.random: dict[str, Any] = {}

    @torch.no_grad()
    def begin(self, args: tuple, kwargs: dict) -> None:
        """Record a step that begins: the arguments of the model's forward, after preprocessing."""
        for copies, originals in self.copies.values():
            torch._foreach_copy_(copies, originals)  # one launch for all
        self.inputs = {"args": args, "kwargs": kwargs}
        self.random = dict(python=random.getstate(), numpy=np.random.get_state())
        self.random["torch"] = torch.get_rng_state()
        if torch.cuda.is_available():
            self.random["cuda"] = torch.cuda.get_rng_state()

    def end(self) -> None:
        """Forget the inputs."""
        self.inputs, self.losses = {}, {}

    def save(self, runner, reason: str) -> Path:
        """Write the step to the work dir, one file per process, in place of an earlier one.

        Raises:
            OSError: the file cannot be written.
            TypeError: the inputs are of a type that is not written.
        """
        wrapper = runner.optim_wrapper
        kind = type_name(runner.cfg.get("optim_wrapper", {}).get("type") or type(wrapper).__name__)
        scaler = getattr(wrapper, "loss_scaler", None)
        meta = dict(
            step=runner.iter + 1,
            epoch=runner.epoch + 1,
            reason=reason,
            rank=rank(),
            world_size=world_size(),
            seed=runner.seed,
            device=str(next(self.model.parameters()).device.type),
            processor=processor_name(),
            versions=collect_versions(),
            threads=torch.get_num_threads(),
            deterministic=torch.are_deterministic_algorithms_enabled(),
            cudnn_benchmark=torch.backends.cudnn.benchmark,
            sync_bn=bool(runner.cfg.get("sync_bn")),
            precision=_precision(kind, runner.cfg.get("optim_wrapper", {})),
            loss_scale=float(scaler.get_scale()) if hasattr(scaler, "get_scale") else 1.0,
            accumulation=wrapper._accumulative_counts,
            training=self.model.training,
        )
        weights = self.model.state_dict()
        weights |= {name: self.buffers[name] for name in self.buffers.keys() & weights.keys()}
        content = dict(
            meta=meta,
            config=_plain_config(runner.cfg.get("model")),
            scope=runner.cfg.get("default_scope") or "mmengine",
            state_dict={name: value.detach().cpu() for name, value in weights.items()},
            inputs=to_plain(self.inputs),
            random=self.random,
            losses=to_plain(self.losses),
        )
        path = Path(runner.work_dir, FOLDER, f"rank{rank()}.pth")
        write_atomically(pth_bytes(content), path)
        return path


def _precision(wrapper: str, options: dict) -> str:
    """ "fp16", "bf16" or "off", of an optimizer wrapper's config."""
    if wrapper == "CpuAmpOptimWrapper":
        return "bf16"
    if wrapper != "AmpOptimWrapper":
        return "off"
    return "bf16" if options.get("dtype") == "bfloat16" else "fp16"


def _plain_config(value: Any) -> Any:
    """A config of plain values: the names of classes in place of classes."""
    if isinstance(value, dict):
        return {str(key): _plain_config(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_plain_config(part) for part in value]
    return (
        value if value is None or isinstance(value, str | bool | int | float) else type_name(value)
    )
