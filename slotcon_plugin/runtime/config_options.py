"""Configs from files and command lines, with errors that name the mistake."""

import ast
import contextlib
import difflib
import traceback
from pathlib import Path

from mmengine import registry as registries
from mmengine.config import Config
from mmengine.registry import Registry, build_functions

from ..errors import ConfigError


def read_config(path: str | Path, options: list[str] | None = None) -> Config:
    """Read a config file and put command-line options in.

    Args:
        path: a config file.
        options: "dotted.key=value". The key has to be in the config already, so that a slip of the
            pen is not a silent no-op; "+key=value" adds one that is not. Values are Python
            literals, true and false, or else text as it stands.

    Raises:
        ConfigError: no such file, a file that cannot be run, or an option that the config does not
            have.
    """
    path = Path(path)
    if not path.is_file():
        raise ConfigError(
            f"There is no config {path}.{_did_you_mean(path.name, _names_beside(path))}"
        )
    try:
        cfg = Config.fromfile(path)
    except Exception as error:  # a config is a program: it can fail in any way
        raise ConfigError(
            f"The config {path} cannot be read: {type(error).__name__}: {error}"
        ) from error
    try:
        cfg.merge_from_dict(dict(_read_option(cfg, option) for option in options or []))
    except ConfigError:
        raise
    except Exception as error:
        raise ConfigError(f"--cfg-options cannot be put into {path.name}: {error}") from error
    return cfg


def _read_option(cfg: Config, option: str) -> tuple[str, object]:
    key, equals, text = option.partition("=")
    if not equals or not key:
        raise ConfigError(
            f"--cfg-options {option}: expected KEY=VALUE, without spaces around the ="
        )
    if not key.startswith("+"):
        _check_key(cfg, key)
    value: object = text
    if text.lower() in ("true", "false"):
        value = text.lower() == "true"
    else:
        with contextlib.suppress(ValueError, SyntaxError):
            value = ast.literal_eval(text)
    return key.removeprefix("+"), value


def _names_beside(path: Path) -> list[str]:
    return [other.name for other in path.parent.glob("*.py")] if path.parent.is_dir() else []


def _check_key(cfg: Config, key: str) -> None:
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
            raise ConfigError(
                f"--cfg-options {key}: {where} has no `{part}`.{_did_you_mean(part, known)} "
                f"To add a key that is not there, write +{key}=…"
            )
        passed.append(part)


def _did_you_mean(name: str, known: list[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    if close:
        return f" Did you mean {close[0]}?"
    return f" There are: {', '.join(sorted(known))}." if 0 < len(known) <= 20 else ""


def explain_build_error(error: Exception) -> ConfigError | None:
    """Turn what is raised on a bad config entry into one line; None if it is something else.

    Known are a `type` that nobody registered, an argument that the named class does not take, and
    a value that it refuses.
    """
    if not _raised_while_building(error):
        return None
    message = str(error.args[0]) if error.args else ""
    if isinstance(error, KeyError) and " registry. Please check" in message:
        name, _, rest = message.partition(" is not in the ")
        kind = rest.partition(" registry")[0].split("::")[-1]
        return _unregistered(kind, name)
    if isinstance(error, TypeError) and "__init__() " in message:
        return ConfigError(f"The config has a wrong argument: {message.removeprefix('Error: ')}")
    if isinstance(error, ValueError):
        return ConfigError(f"The config has a value that cannot be used: {message}")
    return None


def _raised_while_building(error: Exception) -> bool:
    frames = traceback.walk_tb(error.__traceback__)
    return any(frame.f_code.co_filename == build_functions.__file__ for frame, _ in frames)


def check_optimizer(cfg: Config) -> None:
    """MMEngine raises no more than "None is not a callable object" for an unknown optimizer.

    Raises:
        ConfigError: the optimizer's name is not registered.
    """
    name = cfg.optim_wrapper.optimizer.type
    if isinstance(name, str) and registries.OPTIMIZERS.get(name) is None:
        raise _unregistered("optimizer", name)


def _unregistered(kind: str, name: str) -> ConfigError:
    known = [
        known
        for one in vars(registries).values()
        if isinstance(one, Registry) and one.name == kind
        for known in one.module_dict
    ]
    library = name.rpartition(".")[0]
    advice = f" Is {library} installed?" if library else _did_you_mean(name, known)
    return ConfigError(
        f"The config names {kind} type='{name}', which is not registered.{advice} A config of "
        "your own needs custom_imports = dict(imports=['slotcon_plugin'])."
    )
