"""Entries of a benchmark file: YAML with the environment in it, and checks that name the entry.

The checks return the value as it is wanted, or raise ConfigError; `where` is the entry's full name.
"""

import difflib
import os
import re

import yaml

from ..errors import ConfigError

NAME = re.compile(r"[a-z0-9][a-z0-9_+-]*")  # becomes part of folders' and jobs' names
VARIABLE = re.compile(r"\$\{(\w+)(?::-([^}]*))?\}")


class Loader(yaml.SafeLoader):
    """YAML without code, that refuses a key given twice."""


def _mapping(loader: yaml.SafeLoader, node: yaml.MappingNode) -> dict:
    seen = set()
    for key, _ in node.value:
        if key.value in seen:
            raise ConfigError(
                f"line {key.start_mark.line + 1}: `{key.value}` is there twice; YAML would "
                "silently take the last. Remove one."
            )
        seen.add(key.value)
    return yaml.SafeLoader.construct_mapping(loader, node, deep=True)


Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping)
# YAML 1.1 takes 1e-4 for text
Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+$"), list("-+0123456789")
)


def section(value: object, where: str, keys: tuple, expected: str = "a section") -> dict:
    """Names with values; no other names than `keys`."""
    if not isinstance(value, dict):
        raise ConfigError(f"{where} is {value!r}; expected {expected} with {', '.join(keys)}.")
    for key in value:
        if key not in keys:
            raise ConfigError(f"{where} has no `{key}`.{close_to(str(key), keys)}")
    return value


def close_to(name: str, known: tuple) -> str:
    """The end of a message about an unknown name: what may have been meant, or what there is."""
    close = difflib.get_close_matches(name, known, n=1)
    return f" Did you mean {close[0]}?" if close else f" There are: {', '.join(known)}."


def with_environment(value: object, where: str) -> object:
    """The value with the environment's variables put into its strings."""
    if isinstance(value, dict):
        return {
            key: with_environment(one, f"{where}.{key}".lstrip(".")) for key, one in value.items()
        }
    if isinstance(value, list):
        return [with_environment(one, f"{where}.{i}") for i, one in enumerate(value)]
    if not isinstance(value, str):
        return value

    def look_up(found: re.Match) -> str:
        name, default = found.groups()
        if os.environ.get(name):
            return os.environ[name]
        if default is None:
            raise ConfigError(
                f"{where} asks for ${{{name}}}, which the environment does not set. Set it, or "
                f"write ${{{name}:-default}}."
            )
        return default

    return VARIABLE.sub(look_up, value)


def name_of(name: object, where: str) -> str:
    """A name that can be part of folders' and jobs' names."""
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise ConfigError(
            f"{where}: the name {name!r} cannot be part of a file's name; expected lower-case "
            "letters, digits, -, _ and +."
        )
    return name


def text(value: object, where: str) -> str:
    """Text that is not empty."""
    if not isinstance(value, str) or not value:
        raise ConfigError(f"{where} is {value!r}; expected text.")
    return value


def count(value: object, where: str, least: int = 0) -> int:
    """A whole number."""
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise ConfigError(f"{where} is {value!r}; expected a whole number from {least}.")
    return value


def items(value: object, where: str) -> list:
    """A list."""
    if not isinstance(value, list):
        raise ConfigError(f"{where} is {value!r}; expected a list: [one, two].")
    return value


def seeds_of(value: object, where: str) -> tuple[int, ...]:
    """Different whole numbers, at least one."""
    seeds = tuple(count(seed, where) for seed in items(value, where))
    if not seeds or len(set(seeds)) != len(seeds):
        raise ConfigError(f"{where} is {value!r}; expected different whole numbers: [0, 1, 2].")
    return seeds
