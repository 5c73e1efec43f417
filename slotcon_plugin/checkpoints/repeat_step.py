"""Builds the model of a kept training step and repeats the step."""

import random
from collections.abc import Iterator
from contextlib import ExitStack
from importlib import import_module
from typing import Any, NamedTuple

import numpy as np
import torch
from mmengine.config import ConfigDict
from mmengine.model import convert_sync_batchnorm
from mmengine.registry import MODELS, TASK_UTILS, DefaultScope, Registry
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten

from ..datasets.plain_batches import from_plain
from ..errors import CheckpointError
from ..functional.collectives import world_size
from .left_out import LeftOut

SCOPES = ("mmengine", "mmdet", "mmseg")
# mmpretrain's classes that are built; others of it read files or download.
MMPRETRAIN = (
    *("MoCo", "DenseCL", "BYOL", "SimSiam", "MoCoV2Neck", "DenseCLNeck", "NonLinearNeck"),
    *("ContrastiveHead", "LatentPredictHead", "CrossEntropyLoss", "CosineSimilarityLoss"),
)


class StepResult(NamedTuple):
    """A repeated step.

    Args:
        losses, recorded: each loss now, and in the training.
        same: whether they are bitwise the same; two NaN are.
        gradient_norms: L2 norm of the gradients of this process, of each part of the model.
        first: the first weight, input, module output or gradient that is not finite, "" if none.
    """

    losses: dict[str, float]
    recorded: dict[str, float]
    same: dict[str, bool]
    gradient_norms: dict[str, float]
    first: str


def repeat_step(content: dict, path: str, device: str, precision: str) -> StepResult:
    """Repeat a step twice: as it was, then with every module's output examined.

    Random states and settings of torch are the caller's again afterwards.

    Args:
        content: of a file of `StepRecorder`.
        path: the file, for messages.
        device: "cpu" or "cuda".
        precision: "fp16", "bf16", "off" (float32) or "float64".
    """
    with ExitStack() as stack:
        stack.callback(torch.set_num_threads, torch.get_num_threads())
        before = torch.are_deterministic_algorithms_enabled()
        stack.callback(torch.use_deterministic_algorithms, before)
        stack.callback(setattr, torch.backends.cudnn, "benchmark", torch.backends.cudnn.benchmark)
        stack.callback(random.setstate, random.getstate())
        stack.callback(np.random.set_state, np.random.get_state())
        stack.enter_context(
            torch.random.fork_rng([torch.cuda.current_device()] if device == "cuda" else [])
        )
        torch.set_num_threads(content["meta"]["threads"])
        torch.use_deterministic_algorithms(content["meta"]["deterministic"])
        torch.backends.cudnn.benchmark = content["meta"]["cudnn_benchmark"]
        return _repeat(content, path, device, precision)


def _repeat(content: dict, path: str, device: str, precision: str) -> StepResult:
    meta, double = content["meta"], torch.float64 if precision == "float64" else None
    model = build_model(content, path).to(device, double).train(meta["training"])

    def convert(value: Tensor) -> Tensor:
        return value.to(device, double if _is_float(value) else None)

    try:
        inputs = from_plain(content["inputs"], convert)
        _set_random_state(content["random"], device)
    except (LookupError, TypeError, ValueError, RuntimeError, AttributeError) as error:
        raise CheckpointError(
            f"{path} is damaged: its inputs or random states cannot be restored ({error})."
        ) from error
    buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
    scale = meta["loss_scale"] if precision == "fp16" else 1.0

    def step() -> dict[str, Tensor]:
        with torch.no_grad():
            for name, buffer in model.named_buffers():
                buffer.copy_(buffers[name])
        _set_random_state(content["random"], device)
        dtype = {"fp16": torch.float16, "bf16": torch.bfloat16}.get(precision)
        with torch.autocast(device, dtype, enabled=dtype is not None):
            outputs = model(*inputs["args"], **inputs["kwargs"])
        losses = {name: value for name, value in outputs.items() if "loss" in name}
        model.zero_grad()
        total = sum(part.mean() for part in tree_flatten(losses)[0])
        (total * scale / meta["accumulation"]).backward()
        return losses

    found = list(_not_finite(model.state_dict().items(), "weight"))
    found += _not_finite(enumerate(tree_flatten(inputs)[0]), "input")
    losses = {name: _value(value) for name, value in step().items()}
    recorded = {name: _value(value) for name, value in content["losses"].items()}
    norms = {}
    for name, part in model.named_children():
        grads = [p.grad for p in part.parameters() if p.grad is not None]
        if grads:
            norms[name] = float(torch.stack(torch._foreach_norm(grads)).norm() / scale)
    with ExitStack() as stack:
        for name, module in model.named_modules():
            stack.enter_context(_watch(module, name or "the model", found))
        stack.callback(torch.compiler.set_stance, "default")
        torch.compiler.set_stance("force_eager")
        step()
    gradients = ((name, p.grad) for name, p in reversed(list(model.named_parameters())))
    found += _not_finite(gradients, "gradient of")
    same = {
        n: n in recorded and bool(np.array_equal(v, recorded[n], equal_nan=True))
        for n, v in losses.items()
    }
    return StepResult(losses, recorded, same, norms, found[0] if found else "")


def build_model(content: dict, path: str) -> nn.Module:
    """The model of a kept step with its weights.

    Only registered classes are built: MMEngine would also import what a `type` names with dots.
    """
    if content["scope"] not in SCOPES:
        raise CheckpointError(f"{path}: scope {content['scope']!r}, expected one of {SCOPES}.")
    with DefaultScope.overwrite_default_scope(content["scope"]):
        known: set[str] = set()
        if content["scope"] != "mmengine":
            import_module(f"{content['scope']}.models")  # registers them
            known = set(dir(import_module("mmcv.ops")))  # of RoI extractors
        known |= _names(MODELS) | _names(TASK_UTILS)
        for kind in _types(content["config"]):
            scope, _, name = kind.rpartition(".") if isinstance(kind, str) else ("?", "", "")
            if scope == "mmpretrain" and name in MMPRETRAIN:
                import_module("mmpretrain.models")
                continue
            if scope not in ("", *SCOPES) or name not in known:
                raise CheckpointError(
                    f"{path} names the type {kind!r}, which is not registered. Import the module "
                    "of a class of your own, then call slotcon_plugin.apis.replay.replay."
                )
        try:
            model = MODELS.build(ConfigDict(content["config"]))
        except Exception as error:  # of any class that is named
            why = f"{type(error).__name__}: {error}"
            raise CheckpointError(f"{path}: its model cannot be built ({why}).") from error
    if content["meta"]["sync_bn"] and world_size() > 1 and torch.cuda.is_available():
        model = convert_sync_batchnorm(model, "torch")
    # Unlike weights that a training begins with, these need not be finite.
    if problems := LeftOut().compare(content["state_dict"], model.state_dict(), path):
        raise CheckpointError(f"{path}: its weights do not fit its model. Tensors: {problems}.")
    model.load_state_dict(content["state_dict"])
    if hasattr(model, "expect_teacher_moves"):
        model.expect_teacher_moves()  # the kept weights are those after the move
    return model


def _types(config: Any) -> Iterator[Any]:
    if isinstance(config, dict):
        if "type" in config:
            yield config["type"]
        for value in config.values():
            yield from _types(value)
    elif isinstance(config, list):
        for value in config:
            yield from _types(value)


def _names(registry: Registry) -> set[str]:
    """The names in a registry and its children."""
    return set(registry.module_dict).union(*map(_names, registry.children.values()))


def _set_random_state(state: dict, device: str) -> None:
    version, numbers, gauss = state["python"]
    random.setstate((version, tuple(numbers), gauss))
    np.random.set_state(state["numpy"])
    torch.set_rng_state(state["torch"])
    if device == "cuda" and "cuda" in state:
        torch.cuda.set_rng_state(state["cuda"])


def _watch(module: nn.Module, name: str, found: list[str]):
    def examine(module: nn.Module, args: tuple, output: Any) -> None:
        outputs = [v for v in tree_flatten(output)[0] if _is_float(v)]
        if not found and not all(v.isfinite().all() for v in outputs):
            inputs = [v for v in tree_flatten(args)[0] if _is_float(v)]
            largest = max((float(v.detach().abs().max()) for v in inputs if v.numel()), default=0.0)
            kind = type(module).__name__
            found.append(f"output of {name} ({kind}), whose largest input is {largest:.4g}")

    return module.register_forward_hook(examine)


def _not_finite(values, what: str) -> Iterator[str]:
    for name, value in values:
        if _is_float(value) and not value.isfinite().all():
            yield f"{what} {name}"


def _is_float(value: Any) -> bool:
    return isinstance(value, Tensor) and value.is_floating_point()


def _value(value: Any) -> float:
    return float(sum(part.detach().mean() for part in tree_flatten(value)[0]))
