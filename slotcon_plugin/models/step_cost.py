"""Arithmetic and memory of a training's step, found without allocating its tensors."""

import weakref
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.func import functional_call
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from ..datasets.data_preprocessor import TwoViewPreprocessor
from ..functional.alignment import ViewGeometry
from ..functional.collectives import as_one_process
from .slotcon import SlotCon


class StepCost(NamedTuple):
    """Of one iteration of one process, without the optimizer."""

    flops: int  # forward and backward, the teacher included; a multiply-add counts as two
    memory: int  # bytes, the most that exist at a time: activations and gradients, not the weights
    whole: bool  # False: only backbone and neck were run, so that both are lower bounds


class _Run(nn.Module):
    """A part of a step as a module, whose result is a sum that depends on all that it computes."""

    def __init__(self, model: nn.Module, function: Callable[[], object]) -> None:
        super().__init__()
        self.model, self.function = model, function

    def forward(self) -> Tensor:
        made = [part for part in tree_leaves(self.function()) if isinstance(part, Tensor)]
        return sum(part.float().sum() for part in made if part.requires_grad)


class _LiveBytes(TorchDispatchMode):
    """Counts the bytes of the tensors that are made within it and exist at a time."""

    def __init__(self) -> None:
        super().__init__()
        self.live = self.peak = 0
        self.known: set[int] = set()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        made = function(*args, **(kwargs or {}))
        for part in tree_leaves(made):
            if isinstance(part, Tensor):
                self._count(part.untyped_storage())
        return made

    def _count(self, storage: torch.UntypedStorage) -> None:
        key, size = storage._cdata, storage.nbytes()
        if key not in self.known:
            self.known.add(key)
            self.live += size
            self.peak = max(self.peak, self.live)
            weakref.finalize(storage, self._release, key, size)

    def _release(self, key: int, size: int) -> None:
        self.known.discard(key)
        self.live -= size


def step_cost(
    model: nn.Module,
    batch_size: int,
    size: tuple[int, int],
    precision: Callable[[], AbstractContextManager],
) -> StepCost | None:
    """Run a step on tensors that have a device, a type and a shape, but no values.

    Weights, statistics and random numbers stay as they are. Every prototype that could win a pixel
    counts as active, and other processes are left out. Of models other than SlotCon that depend on
    values the losses are left out, and the heads too if these do, as a detector's.

    Args:
        model: in training mode, on the device of the training, without a wrapper.
        batch_size: images of a process in one iteration.
        size: height and width of the images, or of each view, pixels.
        precision: a context for the forward pass, such as `OptimWrapper.optim_context`.

    Returns None for a model that cannot be run so.
    """
    device = next(model.parameters()).device

    def images() -> Tensor:
        return torch.empty(batch_size, 3, *size, device=device)

    def losses() -> list[Tensor]:
        boxes = torch.empty(2, batch_size, 4, device=device)
        geometry = ViewGeometry(boxes, torch.empty(2, batch_size, dtype=torch.bool, device=device))
        outputs = model([images(), images()], geometry, mode="loss")
        return [value for name, value in outputs.items() if "loss" in name]

    ways = [lambda: model(images(), mode="tensor"), lambda: model.extract_feat(images())]
    parts = [ways[1]]  # of a step
    if isinstance(getattr(model, "data_preprocessor", None), TwoViewPreprocessor):
        ways, parts = [losses, *ways], ways
    for function in [losses] if isinstance(model, SlotCon) else ways:
        try:
            flops, memory = _run(_Run(model, function), precision)
        except Exception:  # of any module: it only means that this cannot be found out
            continue
        return StepCost(flops, memory, whole=function not in parts)
    return None


def _run(step: _Run, precision: Callable[[], AbstractContextManager]) -> tuple[int, int]:
    with _without_values(step), FlopCounterMode(display=False) as flops:
        tensors = [*step.named_parameters(), *step.named_buffers()]
        empty = {
            name: torch.empty_like(one).requires_grad_(one.requires_grad) for name, one in tensors
        }
        with _LiveBytes() as memory:
            with precision():
                total = functional_call(step, empty, ())
            total.backward()
    return flops.get_total_flops(), memory.peak


@contextmanager
def _without_values(module: nn.Module) -> Iterator[None]:
    synchronized = [m for m in module.modules() if isinstance(m, nn.SyncBatchNorm) and m.training]
    with ExitStack() as at_end:
        for norm in synchronized:  # it would wait for the other processes
            at_end.callback(norm.train)
            norm.eval()
        at_end.enter_context(as_one_process())
        at_end.enter_context(torch.random.fork_rng(devices=()))
        at_end.enter_context(torch.compiler.set_stance("force_eager"))
        at_end.enter_context(FakeTensorMode(allow_non_fake_inputs=True))
        yield
