"""What a result depends on: a config with its bases, overrides and environment, and digests.

The code is not part of it: results of other versions of this package stay valid; each has its
version.
"""

import ast
import contextlib
import hashlib
import inspect
import json
import os
import re
from pathlib import Path

from ..errors import ConfigError
from ..runtime.config_leaves import LOADING
from ..runtime.config_options import read_config
from .yaml_files import read_yaml

# Entries that decide speed, logs and folders, not the result; the last line has detectron2's.
WITHOUT_EFFECT = re.compile(
    rf"({LOADING}|work_dir|log_level|log_processor|visualizer|default_hooks\.(logger|checkpoint"
    r"|group_images|feature_rank)|OUTPUT_DIR|DATALOADER\.NUM_WORKERS|SOLVER\.CHECKPOINT_PERIOD)(\.|$)"
)
MAX_BASES = 50
PLAIN = (str, int, float, bool, type(None))
SET_BY_JOBS = ("SLOTCON_BACKBONE", "SLOTCON_WORK_DIR")  # variables that configs read


def resolve(config: Path, overrides: dict) -> dict:
    """A config with its bases, the environment and `overrides`: dotted entries and plain values.

    Args:
        config: of MMEngine (.py), or of detectron2 (.yaml): then without detectron2's defaults,
            since detectron2 may not be installed on the machine that plans.
        overrides: values by dotted entry. MMEngine's must exist, or begin with a plus sign.
    """
    if config.suffix != ".py":
        return _read_detectron2(config) | _flatten(overrides)
    removed = {name: os.environ.pop(name) for name in SET_BY_JOBS if name in os.environ}
    try:
        content = read_config(config, option_words(overrides), "overrides").to_dict()
    finally:
        os.environ.update(removed)
    return _flatten(_as_json(content))


def _as_json(content: object) -> object:
    """A config's content with the types of JSON, equal in every process."""

    def plain(value: object) -> object:
        if isinstance(value, dict):
            return {k if isinstance(k, PLAIN) else str(k): plain(v) for k, v in value.items()}
        if isinstance(value, set | frozenset):  # whose order changes
            return sorted(map(str, value))
        if isinstance(value, list | tuple):
            return [plain(one) for one in value]
        if inspect.isroutine(value):  # whose text has its address
            return f"{value.__module__}.{value.__qualname__}"
        return value if isinstance(value, PLAIN) else str(value)

    return json.loads(json.dumps(plain(content)))


def _flatten(content: dict, prefix: str = "") -> dict:
    """Nested dictionaries as one with dotted keys."""
    flat = {}
    for key, value in content.items():
        if isinstance(value, dict) and value:
            flat |= _flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def other_library(content: dict) -> str | None:
    """The library whose method a resolved config of a pretraining trains; None for SlotCon."""
    library = str(content.get("model.type", "")).rpartition(".")[0]
    return None if library in ("", "mmengine") else library


def _read_detectron2(config: Path, used_by: tuple[Path, ...] = ()) -> dict:
    if config.resolve() in used_by:
        raise ConfigError(f"{used_by[-1]}: `_BASE_` leads back to {config}.")
    if len(used_by) == MAX_BASES:
        raise ConfigError(f"{used_by[0]} has more than {MAX_BASES} bases, one after another.")
    content = read_yaml(config) or {}
    if not isinstance(content, dict):
        raise ConfigError(f"{config}: expected sections, found {content!r:.80}.")
    base = str(content.pop("_BASE_", None) or "")
    content = _flatten(_as_json(content))
    if not base or "://" in base:  # an address is one of detectron2's own configs
        return content
    return _read_detectron2(config.parent / base, (*used_by, config.resolve())) | content


def option_words(overrides: dict) -> list[str]:
    """Overrides as words of `--cfg-options`, so that each value keeps its type."""
    return [f"{key}={_word(value)}" for key, value in overrides.items()]


def _word(value: object) -> str:
    if not isinstance(value, str):
        return repr(value)
    if value.startswith("("):
        return value  # a tuple, which YAML does not have: (96, 96)
    with contextlib.suppress(ValueError, SyntaxError):
        ast.literal_eval(value)
        return repr(value)  # text that looks like a number
    return repr(value) if value.lower() in ("true", "false") else value


def relative_paths(content: object, folders: list[Path]) -> object:
    """Nested values in which absolute paths in one of `folders` are relative to it."""
    if isinstance(content, dict):
        return {key: relative_paths(value, folders) for key, value in content.items()}
    if isinstance(content, list):
        return [relative_paths(value, folders) for value in content]
    for folder in folders:
        if isinstance(content, str) and content.startswith(f"{folder}/"):
            return content.removeprefix(f"{folder}/")
    return content


def file_digest(path: Path) -> str:
    """SHA-256 of a file's content in hexadecimal digits."""
    try:
        if path.exists() and not path.is_file():
            raise ConfigError(f"{path} is not a regular file.")  # a pipe may never end
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}.") from None
