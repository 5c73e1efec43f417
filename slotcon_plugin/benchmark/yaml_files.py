"""YAML files, read without running code and with limits on size and nesting; errors in them."""

import os
import re
import unicodedata
from pathlib import Path

import yaml
from pydantic import ValidationError

from ..errors import ConfigError
from ..runtime.regular_files import read_regular_file

MAX_BYTES = 2**22
MAX_VALUES = 100_000  # in a file, each alias counted as what it refers to
MAX_LEVELS = 50
VARIABLE = re.compile(r"\$\{(\w+)(?::-([^}]*))?\}")


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
        if isinstance(node, yaml.ScalarNode):
            _check_text(node.value, line)
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


def _check_text(text: str, line: int) -> None:
    """Control characters have no place in names, paths and titles: they change a terminal."""
    kinds = {sign: unicodedata.category(sign) for sign in set(text) - set("\n\t")}
    if wrong := [sign for sign, kind in kinds.items() if kind in ("Cc", "Cs")]:
        raise ConfigError(f"line {line}: the text has the character {wrong[0]!r}; remove it")


def read_yaml(path: Path) -> object:
    """Read a YAML file; every reason not to is a ConfigError of one line that names the file."""
    try:
        text = read_regular_file(path, MAX_BYTES).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not UTF-8 text: {error}. Save it as UTF-8.") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ConfigError(f"{path} cannot be read: {reason}.") from None
    try:
        return yaml.load(text, YamlLoader)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None
    except RecursionError:
        raise ConfigError(f"{path}: more than {MAX_LEVELS} levels of nesting") from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        what = " ".join(filter(None, [error.context, error.problem]))
        raise ConfigError(f"{path}{where}: is not valid YAML: {what}") from None
    except Exception as error:  # PyYAML raises many types for values such as !!bool abc
        what = f"{type(error).__name__}: {' '.join(str(error).split())}"
        raise ConfigError(f"{path} is not valid YAML: {what}") from None


def with_environment(value: object, where: str) -> object:
    """The value with environment variables inserted into its texts."""
    if isinstance(value, dict):
        return {key: with_environment(one, f"{where}{key}.") for key, one in value.items()}
    if isinstance(value, list):
        return [with_environment(one, f"{where}{i}.") for i, one in enumerate(value)]

    def look_up(found: re.Match) -> str:
        text = os.environ.get(found[1]) or found[2]
        if text is None:
            raise ConfigError(
                f"{where.rstrip('.: ')}: the environment variable {found[1]} is not set. "
                f"Set it, or write ${{{found[1]}:-default}}."
            )
        return text

    return VARIABLE.sub(look_up, value) if isinstance(value, str) else value


def describe_errors(error: ValidationError) -> str:
    """A line for each entry that cannot be used: its full name, its value, what is expected."""
    lines = []
    for one in error.errors():
        where = ".".join(str(part) for part in one["loc"] if part != "[key]")
        if one["type"] == "missing":
            lines.append(f"`{where}` is missing")
        elif one["type"] == "value_error":
            lines.append(f"{where}: {one['ctx']['error']}".removeprefix(": "))
        else:
            expected = re.sub("^Input should be", "expected", one["msg"])
            lines.append(f"{where} is {one['input']!r:.80}; {expected}")
    return "\n  ".join(lines)
