"""Bytes that a process hands to torch.distributed."""

from collections import Counter

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

# Where each collective's input stands among its arguments.
INPUTS = {
    "allreduce_": 0,
    "allgather_": 1,
    "_allgather_base_": 1,
    "broadcast_": 0,
    "reduce_scatter_": 1,
    "_reduce_scatter_base_": 1,
    "barrier": None,
}


class CountTraffic(TorchDispatchMode):
    """While active, counts the bytes of the tensors handed to collectives, by collective.

    It sits below torch.distributed's Python functions, where all of them arrive, whichever was
    called. What a backend makes of a tensor (a ring, a tree) is not counted.

    Attributes:
        sent: bytes by the collective's name.
    """

    def __init__(self) -> None:
        super().__init__()
        self.sent: Counter = Counter()

    @property
    def total(self) -> int:
        """Bytes of all collectives."""
        return self.sent.total()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        """Count, then run."""
        namespace, name = function._schema.name.split("::")
        if namespace == "c10d":
            if name not in INPUTS:
                raise NotImplementedError(
                    f"{name} is not in benchmark.traffic.INPUTS: add which argument is its input"
                )
            if INPUTS[name] is not None:
                tensors = args[INPUTS[name]]
                for tensor in [tensors] if isinstance(tensors, Tensor) else tensors:
                    self.sent[name] += tensor.numel() * tensor.element_size()
        return function(*args, **(kwargs or {}))
