"""Mixed precision ends where the arithmetic of the method begins."""

import functools
from collections.abc import Callable

import torch
from torch import Tensor

_HALF = (torch.float16, torch.bfloat16)


def _widen(value: object) -> object:
    return value.float() if isinstance(value, Tensor) and value.dtype in _HALF else value


def full_precision(function: Callable) -> Callable:
    """Run a tensor function outside autocast, with half-precision arguments widened to float32.

    Cosine scores are divided by temperatures of 0.07 and exponentiated: three digits are not
    enough. float32 and float64 arguments pass as they are. The cost is small beside the backbone's.
    """

    @functools.wraps(function)
    def wrapped(*args, **kwargs):
        device = next(a.device.type for a in (*args, *kwargs.values()) if isinstance(a, Tensor))
        with torch.autocast(device, enabled=False):
            return function(
                *map(_widen, args), **{name: _widen(value) for name, value in kwargs.items()}
            )

    return wrapped
