"""float32 inside mixed precision."""

import functools
from collections.abc import Callable

import torch
from torch import Tensor


def _widen(value: object) -> object:
    half = isinstance(value, Tensor) and value.dtype in (torch.float16, torch.bfloat16)
    return value.float() if half else value


def full_precision(function: Callable) -> Callable:
    """Run a tensor function outside autocast, with half-precision arguments converted to float32.

    Cosine scores are divided by temperatures of 0.07 and exponentiated: three digits are not
    enough. float32 and float64 arguments do not change. The cost is small beside the backbone's.
    """

    @functools.wraps(function)
    def wrapped(*args, **kwargs):
        device = next(a.device.type for a in (*args, *kwargs.values()) if isinstance(a, Tensor))
        kwargs = {name: _widen(value) for name, value in kwargs.items()}
        with torch.autocast(device, enabled=False):
            return function(*map(_widen, args), **kwargs)

    return wrapped
