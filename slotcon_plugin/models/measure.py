"""What a module returns, found without data."""

import copy
import inspect
from collections.abc import Callable, Sequence
from functools import cached_property

import torch
from mmengine.registry import MODELS
from torch import Tensor, nn

from ..errors import ConfigError

SIDE = 224  # pixels; models that take images of one size usually take these


@torch.random.fork_rng(devices=())
def run_on_meta(
    module: nn.Module, inputs: Tensor | Sequence[Tensor] | None = None, side: int = SIDE
) -> tuple[nn.Module, list[Tensor]]:
    """A copy of a module on the device "meta", and the maps that it returns: shapes without values.

    It is run on two images of `side` x `side` pixels unless `inputs` are given. Random numbers stay
    as they are. Errors are those of the module.
    """
    twin = copy.deepcopy(module).to("meta")
    maps = twin(torch.empty(2, 3, side, side, device="meta") if inputs is None else inputs)
    return twin, [maps] if isinstance(maps, Tensor) else list(maps)


@torch.no_grad()
def measure(module: nn.Module, inputs: Tensor | Sequence[Tensor] | None = None) -> list[Tensor]:
    """The maps of `run_on_meta`, without a graph."""
    return run_on_meta(module, inputs)[1]


class Measured:
    """The maps of a module of a model, measured when they are asked for.

    Args:
        module, name: the module, and its `type` in the config, for the message.
        inputs: what it is run on; see `measure`.
    """

    def __init__(self, module: nn.Module, name: object, inputs: Callable | None = None) -> None:
        self.module, self.name, self.inputs = module, name, inputs

    @cached_property
    def maps(self) -> list[Tensor]:
        inputs = self.inputs and self.inputs()
        try:
            return measure(self.module, inputs)
        except Exception as error:  # of any module
            raise ConfigError(
                f"The channels of {self.name}'s maps cannot be found out "
                f"({type(error).__name__}: {error}): give in_channels to the neck and the decoder."
            ) from error

    @property
    def channels(self) -> list[int]:
        return [one.shape[1] for one in self.maps]


def with_channels(config: dict | None, channels: Callable[[], int | list[int]]) -> dict | None:
    """A module's config, with `in_channels` if its class takes them and the config has none."""
    if config is None or "in_channels" in config:
        return config
    kind = config.get("type")
    kind = MODELS.get(kind) if isinstance(kind, str) else kind
    if not inspect.isclass(kind) or "in_channels" not in inspect.signature(kind).parameters:
        return config
    return {**config, "in_channels": channels()}
