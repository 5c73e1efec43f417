"""bfloat16 mixed precision where there is no GPU."""

from contextlib import contextmanager

import torch
from mmengine.optim import OptimWrapper
from torch import nn

from .config_options import type_name


class CpuAmpOptimWrapper(OptimWrapper):
    """bfloat16 autocast on the CPU, where MMEngine's `AmpOptimWrapper` refuses to work.

    Parameters and optimizer stay in float32. bfloat16 has its range, so there is no loss scale.
    """

    @contextmanager
    def optim_context(self, model: nn.Module):
        """As in `OptimWrapper`, and autocast to bfloat16 around the forward pass."""
        with super().optim_context(model), torch.autocast("cpu", dtype=torch.bfloat16):
            yield


def precision_of(wrapper: dict) -> str:
    """The precision of the forward pass, "float32", "bfloat16" or "float16", of an optimizer
    wrapper's config."""
    mixed = {"AmpOptimWrapper": wrapper.get("dtype") or "float16", "CpuAmpOptimWrapper": "bfloat16"}
    return mixed.get(type_name(wrapper.get("type", "OptimWrapper")), "float32")
