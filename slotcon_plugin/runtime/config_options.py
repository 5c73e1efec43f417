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
LEVEL = Rule(f"one of {', '.join(LEVELS)}", lambda v: v in LEVELS)
PATH = Rule("a path or None", lambda v: isinstance(v, str | os.PathLike | None))
PATHS = Rule(
    "a path or a list of paths",
    lambda v: all(isinstance(path, str | os.PathLike) for path in _items(v)),
)

# Entries of a config that are checked if they are there, before anything is built.
RULES = {
    "model": SECTION,
    "model.compile": FLAG,
    "model.channels_last": FLAG,
    "model.teacher_momentum": FRACTION,
    "model.head.group_loss_weight": FRACTION,
    "model.head.prototypes.num_prototypes": whole(1),
    "train_dataloader.dataset.source": PATHS,
    "train_dataloader.dataset.views.scale": TWO_NUMBERS,
    "train_dataloader.dataset.views.size": whole(1),
    "train_dataloader.drop_last": FLAG,
    "train_dataloader.sampler.rounds": whole(1),
    **{f"{part}_dataloader": SECTION for part in ("train", "val", "test")},
    **{f"{part}_dataloader.batch_size": whole(1) for part in ("train", "val", "test")},
    **{f"{part}_dataloader.num_workers": whole(0) for part in ("train", "val", "test")},
    "train_cfg": SECTION,
    "train_cfg.max_epochs": whole(1),
    "train_cfg.max_iters": whole(1),
    "train_cfg.val_interval": whole(1),
    "total_batch_size": whole(1),
    "optim_wrapper": SECTION,
    "optim_wrapper.accumulative_counts": whole(1),
    "optim_wrapper.optimizer": SECTION,
    "optim_wrapper.optimizer.type": NAME,
    "optim_wrapper.optimizer.lr": POSITIVE,
    "optim_wrapper.optimizer.momentum": FRACTION,
    "optim_wrapper.optimizer.weight_decay": NOT_NEGATIVE,
    "auto_scale_lr.enable": FLAG,
    "auto_scale_lr.base_batch_size": whole(1),
    "param_scheduler.by_epoch": FLAG,
    "param_scheduler.warmup": NOT_NEGATIVE,
    "default_hooks.logger.interval": whole(1),
    "default_hooks.checkpoint.interval": COUNT_OR_OFF,
    "default_hooks.checkpoint.max_keep_ckpts": COUNT_OR_OFF,
    "randomness": SECTION,
    "randomness.seed": SEED,
    "default_scope": NAME,
    "log_level": LEVEL,
    "resume": FLAG,
    "load_from": PATH,
}
CLOSE = 0.85  # similarity from which an added key is taken for a misspelled one


def read_config(path: str | Path, options: list[str] | None = None) -> Config:
    """Read a config file, replace entries, and check the values of `RULES`.

    Args:
        path: a config file.
        options: "dotted.key=value" for a key of the config, "+dotted.key=value" for a new one.
            Values are Python literals, true and false, or text.

    Raises:
        ConfigError: no such file; a file that cannot be run; a key that the config does not have;
            a new key that resembles one of the config's; a value out of range.
    """
    path = Path(path)
    if not path.is_file():
        beside = [other.name for other in path.parent.glob("*.py")]
        raise ConfigError(f"There is no config {path}.{did_you_mean(path.name, beside)}")
    try:
        cfg = Config.fromfile(path)
    except Exception as error:  # a config is a program: it can raise anything
        raise ConfigError(
            f"The config {path} cannot be read: {type(error).__name__}: {error}"
        ) from error
    try:
        cfg.merge_from_dict(dict(_read_option(cfg, option) for option in options or []))
    except ConfigError:
        raise
    except Exception as error:
        raise ConfigError(f"--cfg-options do not fit {path.name}: {error}") from error
    check_values(cfg)
    return cfg


def _read_option(cfg: Config, option: str) -> tuple[str, object]:
    key, equals, text = option.partition("=")
    if not equals or not key.removeprefix("+"):
        raise ConfigError(
            f"--cfg-options {option}: expected KEY=VALUE, without spaces around the ="
        )
    _check_key(cfg, key.removeprefix("+"), new=key.startswith("+"))
    value: object = text
    if text.lower() in ("true", "false"):
        value = text.lower() == "true"
    else:
        with suppress(ValueError, SyntaxError):
            value = ast.literal_eval(text)
    return key.removeprefix("+"), value


def _check_key(cfg: Config, key: str, new: bool) -> None:
    """Every part of a dotted key must be in the config; a new one must not resemble another."""
    node, passed = cfg._cfg_dict, []
    for part in key.split("."):
        where = ".".join(passed) or "the config"
        if isinstance(node, list | tuple):
            if not part.isdigit() or int(part) >= len(node):
                raise ConfigError(
                    f"--cfg-options {key}: {where} is a list of {len(node)}; its items are 0, 1, …"
                )
            node = node[int(part)]
        elif isinstance(node, dict) and part in node:
            node = node[part]
        else:
            known = list(node) if isinstance(node, dict) else []
            if not new:
                raise ConfigError(
                    f"--cfg-options {key}: {where} has no `{part}`.{did_you_mean(part, known)} "
                    f"To add a new key, write +{key}=…"
                )
            close = difflib.get_close_matches(part, known, n=1, cutoff=CLOSE)
            if close and (passed or part not in inspect.signature(Runner).parameters):
                raise ConfigError(
                    f"--cfg-options +{key}: {where} has no `{part}`. Did you mean {close[0]}? "
                    "A new key with such a similar name can only be added in a config file."
                )
            return
        passed.append(part)


def did_you_mean(name: str, known: Collection[str]) -> str:
    """The end of a message about an unknown name: a similar name, or all if they are few."""
    close = difflib.get_close_matches(name, known, n=1)
    if close:
        return f" Did you mean {close[0]}?"
    return f" There are: {', '.join(sorted(known))}." if 0 < len(known) <= 20 else ""


def check_values(cfg: Config) -> None:
    """Check the entries of `RULES` that a config has.

    Raises:
        ConfigError: a value of another type or out of range.
    """
    for key, rule in RULES.items():
        node = cfg._cfg_dict
        *parents, last = key.split(".")
        for part in parents:
            node = node.get(part) if isinstance(node, dict) else None
        if isinstance(node, dict) and last in node:
            check_value(f"the config's {key}", node[last], rule)


def check_value(name: str, value: object, rule: Rule) -> None:
    """Check a value of a config or an option of a command.

    Raises:
        ConfigError: the rule does not accept it.
    """
    if not rule.accepts(value):
        raise ConfigError(f"{name} is {value!r}, expected {rule.expected}")


def check_optimizer(cfg: Config) -> None:
    """MMEngine's own message for an unknown optimizer is "None is not a callable object".

    Raises:
        ConfigError: the optimizer's name is not registered.
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
        explained = _explain(error)
        if explained is None:
            raise
        raise explained from error


def _explain(error: Exception) -> ConfigError | None:
    files = [frame.f_code.co_filename for frame, _ in traceback.walk_tb(error.__traceback__)]
    if build_functions.__file__ not in files:
        return None  # not raised while something was built
    message = str(error.args[0]) if error.args else ""
    if isinstance(error, KeyError) and " registry. Please check" in message:
        name, _, rest = message.partition(" is not in the ")
        kind = rest.partition(" registry")[0].split("::")[-1]
        return _unregistered(kind, name)
    if isinstance(error, TypeError) and "__init__() " in message:
        return ConfigError(f"The config has a wrong argument: {message.removeprefix('Error: ')}")
    if isinstance(error, ValueError) or files[-1] == build_functions.__file__:
        return ConfigError(f"The config has a value that cannot be used: {message}")
    return None


def _unregistered(kind: str, name: str) -> ConfigError:
    known = [
        known
        for one in vars(registries).values()
        if isinstance(one, Registry) and one.name == kind
        for known in one.module_dict
    ]
    library = name.rpartition(".")[0]
    advice = f" Is {library} installed?" if library else did_you_mean(name, known)
    return ConfigError(
        f"The config names {kind} type='{name}', which is not registered.{advice} A config of "
        "your own needs custom_imports = dict(imports=['slotcon_plugin'])."
    )
