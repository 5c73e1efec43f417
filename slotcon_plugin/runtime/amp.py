"""bfloat16 mixed precision where there is no GPU."""

from contextlib import contextmanager

import torch
from mmengine.optim import OptimWrapper
from torch import nn


class CpuAmpOptimWrapper(OptimWrapper):
    """bfloat16 autocast on the CPU, where MMEngine's `AmpOptimWrapper` refuses to work.

    Parameters and optimizer stay in float32. bfloat16 has its range, so there is no loss scale.
    """

    @contextmanager
    def optim_context(self, model: nn.Module):
        """As in `OptimWrapper`, and autocast to bfloat16 around the forward pass."""
        with super().optim_context(model), torch.autocast("cpu", dtype=torch.bfloat16):
            yield
