"""Configs from files and command lines, with error messages that name the wrong entry."""

import ast
import difflib
import inspect
import math
import os
import traceback
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from mmengine import registry as registries
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.registry import Registry, build_functions
from mmengine.runner import Runner

from ..errors import ConfigError


class Rule(NamedTuple):
    """What a value must be, in words and as a function."""

    expected: str
    accepts: Callable[[object], bool]


def whole(least: int, most: float = math.inf) -> Rule:
    """An integer in [least, most]; not True or False."""
    words = f"a whole number from {least} " + ("on" if most == math.inf else f"to {most}")
    return Rule(words, lambda value: type(value) is int and least <= value <= most)


def _is_real(value: object) -> bool:
    return type(value) in (int, float) and math.isfinite(value)


def _is_path(value: object) -> bool:
    return isinstance(value, str | os.PathLike)


def _items(value: object) -> list | tuple:
    return value if isinstance(value, list | tuple) else [value]


LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")

SEED = whole(0, 2**32 - 1)  # NumPy's range
COUNT_OR_OFF = Rule("-1 (off) or a whole number from 1 on", lambda v: v == -1 or whole(1)[1](v))
POSITIVE = Rule("a number above 0", lambda v: _is_real(v) and v > 0)
NOT_NEGATIVE = Rule("a number from 0 on", lambda v: _is_real(v) and v >= 0)
FRACTION = Rule("a number from 0 to 1", lambda v: _is_real(v) and 0 <= v <= 1)
TWO_NUMBERS = Rule("two numbers", lambda v: len(_items(v)) == 2 and all(map(_is_real, v)))
FLAG = Rule("True or False", lambda v: isinstance(v, bool))
SECTION = Rule("a dictionary", lambda v: isinstance(v, dict | None))
NAME = Rule("a name", lambda v: isinstance(v, str | type))
LEVEL = Rule(f"one of {', '.join(LEVELS)}", lambda v: v in LEVELS or whole(0).accepts(v))
SEED_OR_RANDOM = Rule(f"{SEED.expected}, or None", lambda v: v is None or SEED.accepts(v))
NAME_OR_NONE = Rule("a name or None", lambda v: v is None or NAME.accepts(v))
PATH = Rule("a path or None", lambda v: v is None or _is_path(v))
PATHS = Rule("a path or a list of paths", lambda v: all(map(_is_path, _items(v))))

# Entries of a config that are checked if they are there, before anything is built.
RULES = [
    (SECTION, ("model", "train_dataloader", "val_dataloader", "test_dataloader")),
    (SECTION, ("train_cfg", "optim_wrapper", "optim_wrapper.optimizer", "randomness")),
    (FLAG, ("model.compile", "model.channels_last", "train_dataloader.drop_last")),
    (FLAG, ("auto_scale_lr.enable", "param_scheduler.by_epoch", "resume")),
    (FRACTION, ("model.teacher_momentum", "model.head.group_loss_weight")),
    (FRACTION, ("optim_wrapper.optimizer.momentum",)),
    (POSITIVE, ("optim_wrapper.optimizer.lr",)),
    (NOT_NEGATIVE, ("optim_wrapper.optimizer.weight_decay", "param_scheduler.warmup")),
    (whole(2), ("model.head.prototypes.num_prototypes",)),
    (whole(1), ("train_dataloader.dataset.views.size",)),
    (whole(1), ("train_dataloader.sampler.rounds", "train_dataloader.batch_size")),
    (whole(1), ("val_dataloader.batch_size", "test_dataloader.batch_size", "total_batch_size")),
    (whole(1), ("train_cfg.max_epochs", "train_cfg.max_iters", "train_cfg.val_interval")),
    (whole(1), ("optim_wrapper.accumulative_counts", "auto_scale_lr.base_batch_size")),
    (whole(1), ("default_hooks.logger.interval",)),
    (whole(0), ("train_dataloader.num_workers", "val_dataloader.num_workers")),
    (whole(0), ("test_dataloader.num_workers",)),
    (COUNT_OR_OFF, ("default_hooks.checkpoint.interval",)),
    (COUNT_OR_OFF, ("default_hooks.checkpoint.max_keep_ckpts",)),
    (TWO_NUMBERS, ("train_dataloader.dataset.views.scale",)),
    (SEED_OR_RANDOM, ("randomness.seed",)),
    (NAME, ("optim_wrapper.optimizer.type",)),
    (NAME_OR_NONE, ("default_scope",)),
    (LEVEL, ("log_level",)),
    (PATHS, ("train_dataloader.dataset.source",)),
    (PATH, ("load_from",)),
]
# MMEngine's default hooks; only these may be None in its Runner.
MMENGINE_HOOKS = {
    "runtime_info",
    "timer",
    "sampler_seed",
    "logger",
    "param_scheduler",
    "checkpoint",
}
CLOSE = 0.85  # similarity from which an added key is taken for a misspelled one


def read_config(path: str | Path, options: list[str] | None = None) -> Config:
    """Read a config file, replace entries, and check the values of `RULES`.

    Args:
        path: a config file.
        options: "dotted.key=value" for a key of the config, "+dotted.key=value" for a new one.
            Values are Python literals, true and false, or text.

    A ConfigError names the file, key or value that cannot be used.
    """
    path = Path(path)
    if not path.is_file():
        beside = [other.name for other in path.parent.glob("*.py")]
        raise ConfigError(f"There is no config {path}.{did_you_mean(path.name, beside)}")
    try:
        cfg = Config.fromfile(path)
    except Exception as error:  # a config is a program: it can raise anything
        what = f"{type(error).__name__}: {error}"
        raise ConfigError(f"The config {path} cannot be read: {what}") from error
    try:
        cfg.merge_from_dict(dict(_read_option(cfg, option) for option in options or []))
    except ConfigError:
        raise
    except Exception as error:
        raise ConfigError(f"--cfg-options do not fit {path.name}: {error}") from error
    check_values(cfg)
    _check_hooks(cfg)
    return cfg


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


def _read_option(cfg: Config, option: str) -> tuple[str, object]:
    marked, equals, text = option.partition("=")
    key = marked.removeprefix("+")
    if not equals or not key:
        raise ConfigError(f"--cfg-options {option}: expected KEY=VALUE without spaces around =")
    _check_key(cfg, key, new=marked.startswith("+"))
    if text.lower() in ("true", "false"):
        return key, text.lower() == "true"
    with suppress(ValueError, SyntaxError):
        return key, ast.literal_eval(text)
    return key, text


def _check_key(cfg: Config, key: str, new: bool) -> None:
    """Every part of a dotted key must be in the config; a new one must not resemble another."""
    node, where, option = cfg._cfg_dict, "the config", f"--cfg-options {'+' * new}{key}"
    for part in key.split("."):
        if isinstance(node, list | tuple):
            if not part.isdigit() or int(part) >= len(node):
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
            of_mmengine = node is cfg._cfg_dict and part in inspect.signature(Runner).parameters
            if close and not of_mmengine:
                only = "A new key with such a similar name can only be added in a config file."
                raise ConfigError(f"{absent} Did you mean {close[0]}? {only}")
            return
        where = part if where == "the config" else f"{where}.{part}"


def did_you_mean(name: str, known: Collection[str]) -> str:
    """The end of a message about an unknown name: a similar name, or all if they are few."""
    close = difflib.get_close_matches(name, known, n=1)
    if close:
        return f" Did you mean {close[0]}?"
    return f" There are: {', '.join(sorted(known))}." if 0 < len(known) <= 20 else ""


def check_values(cfg: Config) -> None:
    """Raise a ConfigError for an entry of `RULES` with another type or out of range."""
    for rule, keys in RULES:
        for key in keys:
            node = cfg._cfg_dict
            *parents, last = key.split(".")
            for part in parents:
                node = node.get(part) if isinstance(node, dict) else None
            if isinstance(node, dict) and last in node:
                check_value(f"the config's {key}", node[last], rule)


def check_value(name: str, value: object, rule: Rule) -> None:
    """Raise a ConfigError if a value of a config or a command does not fulfill a rule."""
    if not rule.accepts(value):
        raise ConfigError(f"{name} is {value!r}, expected {rule.expected}")


def check_optimizer(cfg: Config) -> None:
    """Raise a ConfigError if the optimizer's name is not registered.

    MMEngine's own message is "None is not a callable object".
    """
    name = cfg.optim_wrapper.optimizer.type
    if isinstance(name, str) and registries.OPTIMIZERS.get(name) is None:
        raise _unregistered("optimizer", name)


@contextmanager
def explained_build_errors() -> Iterator[None]:
    """Raise a ConfigError for what MMEngine and constructors raise on a wrong config entry.

    That is a `type` that is not registered or no name, an argument that the named class does not
    have, and a value that it refuses. Other errors are raised unchanged.
    """
    try:
        yield
    except (KeyError, TypeError, ValueError) as error:
        files = [frame.f_code.co_filename for frame, _ in traceback.walk_tb(error.__traceback__)]
        if build_functions.__file__ not in files:
            raise  # not raised while something was built
        message = str(error.args[0]) if error.args else ""
        if isinstance(error, KeyError) and " registry. Please check" in message:
            name, _, rest = message.partition(" is not in the ")
            kind = rest.partition(" registry")[0].split("::")[-1]
            raise _unregistered(kind, name) from error
        if isinstance(error, TypeError) and "__init__() " in message:
            argument = message.removeprefix("Error: ")
            raise ConfigError(f"The config has a wrong argument: {argument}") from error
        if isinstance(error, ValueError) or files[-1] == build_functions.__file__:
            raise ConfigError(f"The config has a value that cannot be used: {message}") from error
        raise


def _unregistered(kind: str, name: str) -> ConfigError:
    ours = (r for r in vars(registries).values() if isinstance(r, Registry) and r.name == kind)
    known = [known for registry in ours for known in registry.module_dict]
    library = name.rpartition(".")[0]
    advice = f" Is {library} installed?" if library else did_you_mean(name, known)
    return ConfigError(
        f"The config names {kind} type='{name}', which is not registered.{advice} A config of "
        "your own needs custom_imports = dict(imports=['slotcon_plugin'])."
    )
