"""What entries "auto" of a config with `own_data` follow from in the weights of a ResNet."""

from pathlib import Path
from typing import Any, NamedTuple

from ..checkpoints import read_encoder
from ..checkpoints.architecture import ResNetArchitecture
from ..checkpoints.metadata import lookup, read_config
from ..errors import ConfigError
from ..models.backbones import DEPTHS


class ResNetFacts(NamedTuple):
    """Its depth, and whether the first block of a dilated stage has the dilation of the stage
    before. The defaults are those without weights."""

    depth: int = 18
    contract_dilation: bool = True


def facts_of_config(backbone: Any, source: str | Path) -> ResNetFacts:
    """Read them from the config of a backbone, from a file `source` that may be damaged.

    Without dilation, where there is no difference, `contract_dilation` is True, the default.
    A ConfigError if it is no ResNet's config.
    """
    depth, dilations = lookup(backbone, "depth"), lookup(backbone, "dilations")
    if depth not in DEPTHS:
        raise ConfigError(
            f"{source} is no ResNet: its backbone has depth {depth!r:.40}, expected one of "
            f"{', '.join(map(str, DEPTHS))}. See docs/encoders.md for other encoders."
        )
    is_dilated = isinstance(dilations, list | tuple) and any(n != 1 for n in dilations)
    return ResNetFacts(depth, not is_dilated or lookup(backbone, "contract_dilation") is True)


def facts_of_file(path: str | Path) -> ResNetFacts:
    """Read them from a file of weights; a ConfigError if it is no ResNet's."""
    architecture = read_encoder(path).architecture
    if not isinstance(architecture, ResNetArchitecture):
        raise ConfigError(f"{path} is no ResNet: see docs/encoders.md for other encoders.")
    return facts_of_config(architecture._asdict(), path)


def facts_of_checkpoint(content: dict, path: str | Path) -> ResNetFacts | None:
    """Read them from the config in a checkpoint of this package; None if it has none."""
    backbone = lookup(read_config(content), "model.backbone")
    return None if backbone is None else facts_of_config(backbone, path)
