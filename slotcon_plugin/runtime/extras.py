"""Libraries that only some uses need."""

from importlib import import_module
from types import ModuleType

from ..errors import ConfigError


def import_extra(name: str, extra: str, purpose: str) -> ModuleType:
    """A library that an extra of this package installs.

    Raises:
        ConfigError: it cannot be imported; with its `purpose` and the command that installs it.
    """
    try:
        return import_module(name)
    except ImportError as error:
        raise ConfigError(
            f"{purpose} needs {name}, which cannot be imported ({error}): pip install "
            f"'slotcon_plugin[{extra}]'"
        ) from error
