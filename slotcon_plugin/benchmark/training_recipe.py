"""What a job's result depends on: the config with everything in it, and its digest.

Code is no part of it: results of another version of this package stay valid, and say which one they
are of.
"""

import ast
import contextlib
import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path

import yaml

from ..errors import ConfigError
from ..runtime.config_options import read_config

# Entries that decide where and how fast something runs or what is logged, not what comes out.
WITHOUT_EFFECT = (
    "work_dir",
    "log_level",
    "log_processor",
    "visualizer",
    "default_hooks.logger",
    "default_hooks.checkpoint",
    *(
        f"{part}_dataloader.{name}"
        for part in ("train", "val", "test")
        for name in ("num_workers", "persistent_workers", "pin_memory", "prefetch_factor")
    ),
    # detectron2's
    "OUTPUT_DIR",
    "DATALOADER.NUM_WORKERS",
    "SOLVER.CHECKPOINT_PERIOD",
)
# They choose weights and folders; the jobs' command lines do that.
NOT_OURS = ("SLOTCON_BACKBONE", "SLOTCON_WORK_DIR")


def resolve(config: Path, overrides: dict) -> dict:
    """A config with its bases, the environment and `overrides` in it, as plain values.

    Args:
        config: a config of MMEngine (.py) or of detectron2 (.yaml).
        overrides: dotted entries and their values; they must be in the config, unless the name
            begins with a plus sign. Of a detectron2 config, any.

    Raises:
        ConfigError: the config cannot be read, or has no such entry.
    """
    if config.suffix != ".py":
        return _resolve_yaml(config, overrides)
    with _without(NOT_OURS):
        content = read_config(config, option_words(overrides))
    return json.loads(json.dumps(content.to_dict(), default=str))


def option_words(overrides: dict) -> list[str]:
    """Overrides as `--cfg-options` takes them, so that each value arrives as what it is."""
    return [f"{key}={_word(value)}" for key, value in overrides.items()]


def _word(value: object) -> str:
    if not isinstance(value, str):
        return repr(value)
    if value.startswith("("):
        return value  # a tuple, which YAML does not know: (96, 96)
    with contextlib.suppress(ValueError, SyntaxError):
        ast.literal_eval(value)
        return repr(value)  # text that looks like a number
    return repr(value) if value.lower() in ("true", "false") else value


def _resolve_yaml(config: Path, overrides: dict) -> dict:
    """A detectron2 config: its `_BASE_`s, then the file, then the overrides. detectron2's own
    defaults are left out: it may not be installed where the benchmark is planned."""
    if not config.is_file():
        raise ConfigError(f"There is no config {config}.")
    content = yaml.safe_load(config.read_text(encoding="utf-8")) or {}
    base = content.pop("_BASE_", None)
    if base and "://" not in base:
        content = _merged(_resolve_yaml(config.parent / base, {}), content)
    for key, value in overrides.items():
        *sections, name = key.split(".")
        inner: object = value
        for part in [name, *reversed(sections)]:
            inner = {part: inner}
        content = _merged(content, inner)
    return content


def _merged(one: dict, other: dict) -> dict:
    merged = dict(one)
    for key, value in other.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = _merged(merged[key], value) if both else value
    return merged


@contextlib.contextmanager
def _without(names: tuple[str, ...]) -> Iterator[None]:
    kept = {name: os.environ.pop(name) for name in names if name in os.environ}
    try:
        yield
    finally:
        os.environ.update(kept)


def with_effect(content: dict) -> dict:
    """A resolved config without the entries that do not change the result."""
    kept = json.loads(json.dumps(content, default=str))
    for entry in WITHOUT_EFFECT:
        *sections, name = entry.split(".")
        inner = kept
        for section in sections:
            inner = inner.get(section) if isinstance(inner, dict) else None
        if isinstance(inner, dict):
            inner.pop(name, None)
    return kept


def digest(content: object) -> str:
    """SHA-256 of nested plain values, 64 hexadecimal digits; the order of keys does not matter."""
    text = json.dumps(content, sort_keys=True, default=str, ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


def file_digest(path: Path) -> str:
    """SHA-256 of a file.

    Raises:
        ConfigError: there is no such file.
    """
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}.") from None


def entry_of(content: object, path: str) -> object:
    """A dotted entry of nested dictionaries and lists; None if it is not there."""
    for part in path.split("."):
        if isinstance(content, list) and part.isdigit() and int(part) < len(content):
            content = content[int(part)]
        elif isinstance(content, dict):
            content = content.get(part)
        else:
            return None
    return content


def deviations(content: dict, original: dict, facts: dict) -> list[str]:
    """Where a resolved config differs from a protocol, in words.

    Args:
        content: of `resolve`.
        original: of `resolve`, of this repository's config for the protocol, without overrides.
        facts: dotted entries and their values, of configs/benchmark/protocols.yaml: they hold also
            when the repository's config was edited.
    """
    found = []
    for path, wanted in facts.items():
        value = entry_of(content, path)
        if value != wanted:
            found.append(f"{path} is {value!r}, the paper's is {wanted!r}")
    others = sorted(_differences(with_effect(content), with_effect(original)) - facts.keys())
    if others:
        more = f" and {len(others) - 3} more" if len(others) > 3 else ""
        found.append(f"other values of {', '.join(others[:3])}{more}")
    return found


def _differences(one: object, other: object, path: str = "") -> set[str]:
    """Dotted entries whose values differ."""
    if isinstance(one, dict) and isinstance(other, dict):
        found = set()
        for key in one.keys() | other.keys():
            found |= _differences(one.get(key), other.get(key), f"{path}.{key}".lstrip("."))
        return found
    return set() if one == other else {path}
