"""Configs from files and command lines, with error messages that name the wrong entry."""

import ast
import difflib
import inspect
import os
import re
import traceback
from collections.abc import Iterator
from pathlib import Path

from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.registry import Registry
from mmengine.runner import Runner

from ..errors import ConfigError, did_you_mean
from ..installation import where_from
from .config_files import find_config
from .config_rules import check_values, find_rule
from .launch import announce

# MMEngine's default hooks; only these may be None in its Runner.
MMENGINE_HOOKS = {
    *("runtime_info", "timer", "sampler_seed", "logger", "param_scheduler", "checkpoint"),
}
CLOSE = 0.85  # similarity from which an added key is taken for a misspelled one
# Entries of the first level that are read after the file was read: by MMEngine's Runner, by this
# package, and by mmdet's and mmseg's tools. Others, as `data_root`, only serve inside the file.
READ_LATER = inspect.signature(Runner).parameters.keys() - {"launcher", "cfg"} | {
    *("model_wrapper_cfg", "sync_bn", "find_unused_parameters", "activation_checkpointing"),
    *("efficient_conv_bn_eval", "compile", "total_batch_size", "data_layout", "tta_model"),
    *("tta_pipeline", "allow_missing", "budget", "own_data", "bf16_on_cpu"),
}
CODE = re.compile(r"[\[({].*[\])}]|[A-Za-z_][\w.]*\(.*\)", re.DOTALL)


def read_config(
    path: str | Path, options: list[str] | None = None, named: str = "--cfg-options"
) -> Config:
    """Read a config file, replace entries, and check the values of `config_rules.RULES`.

    Args:
        path: a config file, see `config_files.find_config`.
        options: "dotted.key=value" for a key of the config, "+dotted.key=value" for a new one.
            Values are Python literals, true and false, or text. Of two for one key, the later one
            is used, with a warning.
        named: what the options are called in messages.

    A ConfigError names the file, key or value that cannot be used.
    """
    path, options = find_config(path), [] if options is None else options
    is_list = isinstance(options, list | tuple)
    if not is_list or any(not isinstance(one, str) for one in options):
        raise ConfigError(f"{named}: {options!r}, expected a list of texts KEY=VALUE")
    try:
        _check_bases(path)
        cfg = Config.fromfile(path)
    except (Exception, SystemExit) as error:  # a config is a program: it can raise anything
        why = _why_not_read(error, path)
        raise ConfigError(f"The config {path} cannot be read: {why}") from error
    pairs = [_read_option(cfg, option, named) for option in options]
    values = dict(pairs)
    try:
        cfg.merge_from_dict(values)
    except Exception as error:
        raise ConfigError(f"{named} do not fit {path.name}: {error}") from error
    check_values(cfg)
    _check_hooks(cfg)
    for key in [key for key, value in pairs if values[key] != value]:
        announce(f"{named}: {key} is given more than once; {values[key]!r} is used", "pytorch")
    return cfg


def _check_bases(path: Path, above: tuple[Path, ...] = ()) -> None:
    """A file must not be its own base: MMEngine would read for long before it stops."""
    if path.resolve() in above:
        raise ConfigError(f"`_base_` of {above[-1]} leads back to {path}")
    for base in Config._get_base_files(str(path)) if path.suffix == ".py" else []:
        if not isinstance(base, str):
            raise ConfigError(f"`_base_` of {path} is {base!r}, expected a path or a list of paths")
        if "::" not in base:  # of another library
            _check_bases(path.parent / base, (*above, path.resolve()))


def _why_not_read(error: BaseException, path: Path) -> str:
    if isinstance(error, ConfigError):
        return str(error)
    first = error  # of `custom_imports`, MMEngine repeats it with sys.path
    while isinstance(first.__context__, ImportError):
        first = first.__context__
    if isinstance(first, ImportError) and (sentence := where_from(first)):
        return f"{first}. {sentence}"
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    files = [frame.f_locals.get("filename") for frame in reversed(frames)]
    files = [file for file in files if isinstance(file, str) and os.path.isfile(file)]
    bases = [file for file in files if not path.samefile(file)]
    return f"{type(error).__name__}: {error}" + (f" (in {bases[0]})" if bases else "")


def hooks_of(cfg: Config) -> dict[str, dict]:
    """A config's hooks by the names of their entries, without default hooks that are None."""
    hooks = (cfg.get("default_hooks") or {}).items()
    named = {f"default_hooks.{name}": hook for name, hook in hooks if hook is not None}
    custom = enumerate(cfg.get("custom_hooks") or [])
    return named | {f"custom_hooks.{i}": hook for i, hook in custom}


def _check_hooks(cfg: Config) -> None:
    """Check that hooks are dictionaries with a type; remove the hooks that are switched off."""
    hooks = cfg.get("default_hooks") or {}
    for name in [name for name, hook in hooks.items() if hook is None]:
        if name not in MMENGINE_HOOKS:
            del hooks[name]
    for name, hook in hooks_of(cfg).items():
        if not isinstance(hook, Hook) and not (isinstance(hook, dict) and "type" in hook):
            raise ConfigError(f"The config's {name} is {hook!r}, expected a dictionary with a type")


def _read_option(cfg: Config, option: str, named: str) -> tuple[str, object]:
    marked, equals, text = option.partition("=")
    key, option = marked.removeprefix("+"), f"{named} {option}"
    if not equals or not key:
        raise ConfigError(f"{option}: expected KEY=VALUE without spaces around =")
    present = _check_key(cfg, key, marked.startswith("+"), f"{named} {marked}")
    if text.lower() in ("true", "false"):
        return key, text.lower() == "true"
    try:
        value = ast.literal_eval(text)
        for kind in (bool, dict) if find_rule(key) is None else ():
            if isinstance(present, kind) and not isinstance(value, kind | None):
                raise ConfigError(f"{option}: {key} is now {present!r}, expected a {kind.__name__}")
        return key, value
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        replaced = present is not None and not isinstance(present, str) and find_rule(key) is None
        if replaced or CODE.fullmatch(text):
            now = f", and {key} is now {present!r}"[:200] * replaced
            raise ConfigError(
                f"{option}: `{text}` is not a Python literal{now}. Dictionaries are written "
                "{'a': 1}, not dict(a=1), lists [1, 2]; a text that must stay one, \"'text'\"."
            ) from None
    return key, text


def _check_key(cfg: Config, key: str, new: bool, option: str) -> object:
    """Every part of a dotted key must be in the config; a new one must not resemble another.

    Returns the present value, None for a new key.
    """
    node, where, first = cfg._cfg_dict, "the config", key.partition(".")[0]
    if first in node:
        _check_is_read(cfg, first, option)
    for part in key.split("."):
        if isinstance(node, list | tuple):
            if not part.isdecimal() or int(part) >= len(node):
                items = f"a list of {len(node)}; its items are 0, 1, …"
                raise ConfigError(f"{option}: {where} is {items}")
            node = node[int(part)]
        elif isinstance(node, dict) and part in node:
            node = node[part]
        else:
            known = list(node) if isinstance(node, dict) else []
            absent = f"{option}: {where} has no `{part}`."
            if not new:
                close = did_you_mean(part, known)
                raise ConfigError(f"{absent}{close} To add a new key, write +{key}=…")
            close = difflib.get_close_matches(part, known, n=1, cutoff=CLOSE)
            if close and not (where == "the config" and part in READ_LATER):
                only = "A new key with such a similar name can only be added in a config file."
                raise ConfigError(f"{absent} Did you mean {close[0]}? {only}")
            _check_is_read(cfg, first, option)
            return None
        where = part if where == "the config" else f"{where}.{part}"
    return node


def _check_is_read(cfg: Config, name: str, option: str) -> None:
    """A variable of the file must not be replaced: entries were computed from it already."""
    if name in READ_LATER:
        return
    value = cfg._cfg_dict.get(name)
    rest = {key: part for key, part in cfg._cfg_dict.items() if key != name}
    keys = [] if value is None else [key for key, part in entries(rest) if _is_from(part, value)]
    keys = [key for key in keys if key.partition(".")[0] in READ_LATER][:6]
    instead = f" Replace the entries with its value: {', '.join(keys)}." * bool(keys)
    variables = [name for name, text in environment_texts(cfg) if _is_from(value, text)]
    instead += f" Or set the environment variable {variables[0]}." if variables else ""
    raise ConfigError(
        f"{option} has no effect: `{name}` is not read once the file was read.{instead}"
    )


def environment_texts(cfg: Config) -> list[tuple[str, str]]:
    """The environment variables that a config's files name, with their present values."""
    found = re.findall(r"\{\{\s*\$(\w+):(.*?)\}\}", cfg.text)
    return [(name, os.environ.get(name, default)) for name, default in dict(found).items()]


def entries(node: object, key: str = "") -> Iterator[tuple[str, object]]:
    """Every entry of a config with its dotted key, the outer ones first."""
    if isinstance(node, dict | list | tuple):
        for name, value in node.items() if isinstance(node, dict) else enumerate(node):
            inner = f"{key}.{name}" if key else str(name)
            yield inner, value
            yield from entries(value, inner)


def _is_from(part: object, value: object) -> bool:
    texts = isinstance(part, str) and isinstance(value, str) and value != ""
    return part.startswith(value) if texts else type(part) is type(value) and part == value


def type_name(kind: object) -> str:
    """The name of a class that a config's `type` gives as a class, a name or a dotted path."""
    return getattr(kind, "__name__", str(kind)).rpartition(".")[2]


def find_class(kind: object, registry: Registry) -> object:
    """The registered class that a `type` means, None if there is none; scopes are not compared."""
    return registry.module_dict.get(type_name(kind)) if isinstance(kind, str) else kind
