"""A model inside the wrapper that distributed training puts round it."""

from mmengine.model import is_model_wrapper
from torch import nn


def unwrapped(model: nn.Module) -> nn.Module:
    """The model itself; one that is not wrapped comes back as it is."""
    return model.module if is_model_wrapper(model) else model
