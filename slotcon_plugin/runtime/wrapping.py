"""A model inside the wrapper that distributed training puts around it."""

from mmengine.model import is_model_wrapper
from torch import nn


def unwrapped(model: nn.Module) -> nn.Module:
    """The model in a wrapper, or the model itself if it is not wrapped."""
    return model.module if is_model_wrapper(model) else model
