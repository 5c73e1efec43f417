"""The values that entries of a config can have, checked before anything is built."""

import math
import os
from collections.abc import Callable
from typing import NamedTuple

from mmengine.config import Config

from ..errors import ConfigError
from .config_leaves import without_indices
from .recipe_rules import AUTO, ENTRIES


class Rule(NamedTuple):
    """What a value must be, in words and as a function."""

    expected: str
    accepts: Callable[[object], bool]


def whole(least: int, most: float = math.inf) -> Rule:
    """An integer in [least, most]; not True or False."""
    words = f"a whole number from {least} " + ("on" if most == math.inf else f"to {most}")
    return Rule(words, lambda value: type(value) is int and least <= value <= most)


def or_none(rule: Rule) -> Rule:
    """What a rule accepts, and None."""
    return Rule(f"{rule.expected}, or None", lambda value: value is None or rule.accepts(value))


def or_auto(rule: Rule) -> Rule:
    """What a rule accepts, and "auto": `recipe_rules` has the value."""
    return Rule(f"{rule.expected}, or '{AUTO}'", lambda v: v == AUTO or rule.accepts(v))


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
STEPS = Rule(
    "a list of whole numbers from 1 on, each above the one before",
    lambda v: (
        isinstance(v, list | tuple) and all(map(whole(1).accepts, v)) and list(v) == sorted(set(v))
    ),
)
FLAG = Rule("True or False", lambda v: isinstance(v, bool))
DICTIONARY = Rule("a dictionary", lambda v: isinstance(v, dict))
SECTION = Rule("a dictionary", lambda v: isinstance(v, dict | None))
SECTIONS = Rule(
    "a dictionary or a list of dictionaries, each with a type",
    lambda v: (
        isinstance(v, dict | None)
        or (isinstance(v, list | tuple) and all(isinstance(i, dict) and "type" in i for i in v))
    ),
)
ITEMS = Rule("a list", lambda v: isinstance(v, list | tuple | None))
NAME = Rule("a name", lambda v: isinstance(v, str | type))
TEXT = Rule("text", lambda v: isinstance(v, str))
LEVEL = Rule(f"one of {', '.join(LEVELS)}", lambda v: v in LEVELS or whole(0).accepts(v))
PATH = Rule("a path", _is_path)
PATHS = Rule("a path or a list of paths", lambda v: all(map(_is_path, _items(v))))
START_METHOD = Rule("fork, forkserver or spawn", ("fork", "forkserver", "spawn").__contains__)
FILE_NAME = Rule("a name without /", lambda v: isinstance(v, str) and "/" not in v)

LOADERS = ("train_dataloader", "val_dataloader", "test_dataloader")
# Rule -> keys of entries that are checked if they are there; LOADER stands for each of LOADERS. A
# key that leads through a list means all its items.
_KEYS = {
    SECTION: """model model.backbone model.neck model.head model.data_preprocessor LOADER
        LOADER.dataset LOADER.sampler LOADER.batch_sampler train_cfg optim_wrapper
        optim_wrapper.optimizer optim_wrapper.paramwise_cfg randomness visualizer default_hooks
        log_processor auto_scale_lr
        custom_imports""",
    DICTIONARY: "env_cfg env_cfg.mp_cfg env_cfg.dist_cfg",
    SECTIONS: "param_scheduler val_evaluator test_evaluator visualizer.vis_backends",
    ITEMS: "custom_hooks",
    FLAG: """bf16_on_cpu model.compile model.channels_last train_cfg.by_epoch resume
        auto_scale_lr.enable
        param_scheduler.by_epoch randomness.deterministic LOADER.drop_last LOADER.pin_memory
        LOADER.persistent_workers LOADER.sampler.shuffle env_cfg.cudnn_benchmark""",
    FRACTION: """model.teacher_momentum model.head.group_loss_weight
        optim_wrapper.optimizer.momentum""",
    POSITIVE: """optim_wrapper.optimizer.lr optim_wrapper.optimizer.eps
        optim_wrapper.clip_grad.max_norm""",
    NOT_NEGATIVE: "optim_wrapper.optimizer.weight_decay param_scheduler.warmup LOADER.timeout",
    TWO_NUMBERS: "optim_wrapper.optimizer.betas train_dataloader.dataset.views.scale",
    STEPS: "param_scheduler.milestones",
    whole(2): "model.head.prototypes.num_prototypes model.decoder_head.prototypes.num_prototypes",
    whole(1): """train_dataloader.dataset.views.size train_dataloader.sampler.rounds
        LOADER.batch_size total_batch_size auto_scale_lr.base_batch_size train_cfg.max_epochs
        train_cfg.max_iters train_cfg.val_interval optim_wrapper.accumulative_counts
        log_processor.window_size default_hooks.logger.interval env_cfg.resource_limit""",
    whole(0): "LOADER.num_workers train_cfg.val_begin env_cfg.mp_cfg.opencv_num_threads",
    or_none(whole(1)): "LOADER.prefetch_factor",
    COUNT_OR_OFF: "default_hooks.checkpoint.interval default_hooks.checkpoint.max_keep_ckpts",
    or_none(SEED): "randomness.seed",
    NAME: """model.type optim_wrapper.type optim_wrapper.optimizer.type train_cfg.type
        LOADER.dataset.type LOADER.sampler.type param_scheduler.type visualizer.type""",
    or_none(NAME): "default_scope",
    or_none(FILE_NAME): "experiment_name",
    or_none(TEXT): "launcher sync_bn LOADER.dataset.preset",
    LEVEL: "log_level",
    or_none(START_METHOD): "env_cfg.mp_cfg.mp_start_method",
    PATHS: "train_dataloader.dataset.source",
    or_none(PATH): """load_from work_dir default_hooks.backbone.source
        train_dataloader.dataset.list_root""",
}
RULES = {
    key.replace("LOADER", loader): rule
    for rule, keys in _KEYS.items()
    for key in keys.split()
    for loader in LOADERS
}
# Entries that `recipe_rules` and `transfer.own_data` derive.
AUTO_KEYS = [*ENTRIES.values(), "total_batch_size", "param_scheduler.milestones"]
AUTO_KEYS += ["train_cfg.max_iters", "train_cfg.val_interval"]
RULES |= {key: or_auto(RULES[key]) for key in AUTO_KEYS}


def check_values(cfg: Config) -> None:
    """Raise a ConfigError for an entry of `RULES` with another type or out of range, or without
    effect."""
    for key, rule in RULES.items():
        _check_entry(cfg._cfg_dict, key.split("."), "the config's ", rule)
    wrapper = cfg.get("optim_wrapper") or {}
    if "layer_decay" in (wrapper.get("paramwise_cfg") or {}) and not wrapper.get("constructor"):
        raise ConfigError(
            "the config's optim_wrapper.paramwise_cfg.layer_decay has no effect without "
            "optim_wrapper.constructor = 'LayerDecayConstructor'"
        )


def _check_entry(node: object, parts: list[str], where: str, rule: Rule) -> None:
    if isinstance(node, list | tuple):
        for i, item in enumerate(node):
            _check_entry(item, parts, f"{where}{i}.", rule)
    elif isinstance(node, dict) and parts[0] in node:
        first, *rest = parts
        if rest:
            _check_entry(node[first], rest, f"{where}{first}.", rule)
        else:
            check_value(f"{where}{first}", node[first], rule)


def find_rule(key: str) -> Rule | None:
    """The rule of an entry, by its dotted key with or without indices of lists; None if none."""
    return RULES.get(without_indices(key))


def check_value(name: str, value: object, rule: Rule) -> None:
    """Raise a ConfigError if a value of a config, of a command's option, whose name begins with --,
    or of a function does not fulfill a rule."""
    if not rule.accepts(value):
        in_python = f" (in Python: {name[2:].replace('-', '_')}=)" * name.startswith("--")
        raise ConfigError(f"{name} is {value!r}, expected {rule.expected}{in_python}")
