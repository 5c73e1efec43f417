"""YAML files, read without running code and with limits on size and nesting."""

import re
from pathlib import Path

import yaml

from ..errors import ConfigError

MAX_VALUES = 100_000  # in a file, each alias counted as what it refers to
MAX_LEVELS = 50


class YamlLoader(yaml.SafeLoader):
    """A SafeLoader that refuses duplicate keys, aliases that multiply and deep nesting."""

    def __init__(self, stream: str) -> None:
        super().__init__(stream)
        self._sizes: dict[int, tuple[int, int]] = {}  # of nodes by id(): values, levels

    def compose_node(self, parent, index):
        """PyYAML's, with the limits."""
        is_alias = self.check_event(yaml.AliasEvent)
        line = self.peek_event().start_mark.line + 1
        node = super().compose_node(parent, index)
        if is_alias:
            if id(node) not in self._sizes:
                raise ConfigError(f"line {line}: the alias refers to a section that contains it")
            return node
        inner = []
        if isinstance(node, yaml.MappingNode):
            inner = [self._sizes[id(part)] for pair in node.value for part in pair]
        elif isinstance(node, yaml.SequenceNode):
            inner = [self._sizes[id(part)] for part in node.value]
        values = 1 + sum(size for size, _ in inner)
        levels = 1 + max((levels for _, levels in inner), default=0)
        if values > MAX_VALUES:
            raise ConfigError(f"line {line}: more than {MAX_VALUES} values, aliases expanded")
        if levels > MAX_LEVELS:
            raise ConfigError(f"line {line}: more than {MAX_LEVELS} levels of nesting")
        self._sizes[id(node)] = values, levels
        return node

    def compose_mapping_node(self, anchor):
        """PyYAML's, with an error for a key that is given twice."""
        node = super().compose_mapping_node(anchor)
        seen = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if key.value in seen:
                    line = key.start_mark.line + 1
                    raise ConfigError(f"line {line}: duplicate key `{key.value}`; remove one")
                seen.add(key.value)
        return node


# YAML 1.1 reads 1e-4 as text.
YamlLoader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+$"), list("-+0123456789")
)


def read_yaml(path: Path) -> object:
    """Read a YAML file; every reason not to is a ConfigError that names the file."""
    try:
        return yaml.load(path.read_text(encoding="utf-8-sig"), YamlLoader)
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}.") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not UTF-8 text: {error}. Save it as UTF-8.") from None
    except RecursionError:
        raise ConfigError(f"{path}: more than {MAX_LEVELS} levels of nesting") from None
    except (yaml.YAMLError, ValueError) as error:  # ValueError: a date or a number out of range
        raise ConfigError(f"{path} is not valid YAML: {error}") from None
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None
