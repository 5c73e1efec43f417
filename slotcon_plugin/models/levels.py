"""The maps that are grouped, and their names: "encoder", and the decoder's numbers from 0 on."""

from collections.abc import Sequence
from typing import NamedTuple

from torch import nn

from ..errors import ConfigError
from ..runtime.text_formats import listed

ENCODER = "encoder"


class Level(NamedTuple):
    """Maps that are grouped: the encoder's last ones, or those of one level of a decoder."""

    suffix: str  # of the names of its logged values
    weight: float  # of its losses
    head: nn.Module

    @property
    def name(self) -> str | int:
        """ "encoder", or the number of the decoder's level; 0 is the finest."""
        return int(self.suffix.removeprefix("_dec")) if self.suffix else ENCODER


def choose_level(names: Sequence[str | int], level: str | int | None, owner: object) -> str | int:
    """The name of a level; None: the finest, the decoder's 0 if there is a decoder.

    Raises:
        ConfigError: `owner` has no such level.
    """
    if level is None:
        return 0 if 0 in names else ENCODER
    if level not in names:
        raise ConfigError(f"level {level}: {owner} has {listed(map(str, names))}.")
    return level
