"""Explains exceptions to users: what failed, on which file or in which part of a config."""

import errno
import inspect
import os
import re
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import NamedTuple

from mmengine.config import Config
from mmengine.registry import OPTIMIZERS, PARAM_SCHEDULERS, Registry, build_functions
from torch import nn

from ..errors import ConfigError, DataError, SlotConError
from ..installation import where_from
from .config_options import did_you_mean, entries, environment_texts, type_name

MEMORY = (
    "Memory is full: take a smaller train_dataloader.batch_size, fewer num_workers, --amp bf16, or "
    "smaller images. (A dry run with --no-step needs no memory for a step.)"
)
REMEDIES = {
    errno.ENOENT: "Check the path.",
    errno.EACCES: "Check the permissions.",
    errno.EPERM: "Check the permissions.",
    errno.EROFS: "Choose another place.",
    errno.ENOSPC: "The disk is full: free space or choose another place.",
    errno.EDQUOT: "The quota is used up: free space or choose another place.",
    errno.ENOMEM: MEMORY,
    errno.EMFILE: "Allow more open files (ulimit -n) or use fewer loading workers.",
    errno.EFBIG: "The limit of a file's size is reached: raise it (ulimit -f).",
    errno.EADDRINUSE: "Another program uses the port: set MASTER_PORT to a free one.",
}
# The same by words in the text of errors that are no OSError.
REMEDIES_BY_TEXT = {
    "EADDRINUSE": REMEDIES[errno.EADDRINUSE],
    "shared memory": "The loading workers need more space in /dev/shm than there is: enlarge it "
    "(docker run --shm-size=8g), or use fewer: --cfg-options train_dataloader.num_workers=0.",
}
# Of gloo and NCCL, in a collective.
CONNECTION = re.compile(
    r"gloo/transport|NCCL error|ncclRemoteError|[Cc]onnection (closed|reset) by"
)
LOST = (
    "Another process of the training ended, so that this one cannot go on. Look for the first "
    "error above, or the exit status that the launcher reports for that process (-9: killed, often "
    "for lack of memory), then continue with --resume."
)


class Part(NamedTuple):
    """The part of a config that an error concerns."""

    words: str
    frame: FrameType
    is_building: bool  # whether it was being built, or already running


def describe(error: BaseException) -> str:
    """The message for an exception of any kind, without its traceback.

    An error of another process, such as a loading worker, contains that process's traceback; its
    last line is the error.
    """
    kind, text = _last_of_traceback(error)
    noted = getattr(error, "__notes__", ())
    if isinstance(error, SlotConError):
        return "\n".join([text, *noted])
    notes = "".join(f", {note}" for note in noted)
    if _is_of_memory(error):
        return f"{MEMORY} ({kind}: {text.splitlines()[0] if text else 'no details'}{notes})"
    if isinstance(error, RuntimeError) and CONNECTION.search(text):
        return f"{LOST} ({kind}: {text.splitlines()[0]})"
    remedy = ""
    if isinstance(error, OSError) and error.strerror:
        names = [str(name) for name in (error.filename, error.filename2) if name is not None]
        text = ": ".join([*dict.fromkeys(names), error.strerror])
        remedy = f" {REMEDIES.get(error.errno, '')}".rstrip()
    elif known := [advice for words, advice in REMEDIES_BY_TEXT.items() if words in text]:
        remedy = f" {known[0]}"
    elif isinstance(error, ImportError) and (sentence := where_from(error)):
        return f"{text}. {sentence}"
    elif file := _file_in_use(error):
        notes += f", while {file} was read"
    return (
        f"{kind}: {text.rstrip('. ') or 'no details'}{notes}.{remedy}\nIf this does not tell what "
        "to change, run again with --traceback, which shows where it arose, and report it."
    )


@contextmanager
def explained_errors(cfg: Config) -> Iterator[None]:
    """Name the part of a config in errors of what is built from it.

    An error of a constructor, and a `type` that is not registered, become a ConfigError. Errors
    that arise later keep their type and get a note, which `describe` shows.
    """
    try:
        yield
    except DataError as error:
        values = [value for _, value in entries(cfg._cfg_dict) if isinstance(value, str)]
        for name, text in environment_texts(cfg):
            is_used = text and any(value.startswith(text) for value in values)
            if is_used and text in str(error) and name not in str(error):
                add_note(error, f"The config takes {text} from {_where(name, cfg)}.")
        raise
    except (SlotConError, OSError):
        raise
    except Exception as error:
        part = None if _is_of_memory(error) else _find_part(error, cfg)
        if part is None:
            raise
        if not part.is_building:
            add_note(error, part.words)
            raise
        raise ConfigError(_why_not_built(error, part)) from error


def _where(name: str, cfg: Config) -> str:
    """Where a text of a config comes from, and how to name another one."""
    found = f"the environment variable {name}"
    if name not in os.environ:
        found = f"its default for {found}, which is not set"
    dataset = cfg.get("train_dataloader", {}).get("dataset", {})
    return f"{found}; --data names other images" if "source" in dataset else found


def _is_of_memory(error: BaseException) -> bool:
    """Whether memory was refused; torch says so in a RuntimeError on a CPU."""
    refused = re.search("can't allocate memory|out of memory", str(error), re.IGNORECASE)
    return isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and bool(refused))


def add_note(error: BaseException, note: str) -> None:
    """Add to an error what `describe` shows after its text."""
    error.__notes__ = [*getattr(error, "__notes__", ()), note]  # add_note is new in Python 3.11


def _last_of_traceback(error: BaseException) -> tuple[str, str]:
    """The name of the error's class and its text."""
    kind, text = type(error).__name__, str(error).strip()
    text = text.partition("\nException raised from ")[0]  # torch adds its C++ functions
    _, remote, frames = text.rpartition("Traceback (most recent call last):\n")
    if remote:
        last = re.sub(r"\A(?:[ \t].*\n|\n)*", "", frames)  # frames are indented
        name, _, text = last.partition(": ")
        kind, text = name.rpartition(".")[2], text.strip()
    return kind, text


def _frames(error: BaseException) -> list[FrameType]:
    """From the innermost to the outermost, of the error and of its causes."""
    frames = []
    while error is not None:
        frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)][::-1] + frames
        error = error.__cause__ or error.__context__
    return frames


def _file_in_use(error: BaseException) -> str | None:
    """The file that a library was reading when it raised an error of its own, or of Unicode."""
    if type(error).__module__ == "builtins" and not isinstance(error, UnicodeError | EOFError):
        return None
    for frame in _frames(error):
        for value in frame.f_locals.values():
            is_path = isinstance(value, Path) or (isinstance(value, str) and len(value) < 4096)
            if is_path and Path(value).suffix not in (".py", "") and os.path.isfile(value):
                return str(value)
    return None


def _find_part(error: BaseException, cfg: Config) -> Part | None:
    """The innermost part of a config that was being built, or else whose object was running."""
    keys = {key: part for key, part in entries(cfg._cfg_dict) if isinstance(part, dict)}
    frames = _frames(error)
    for frame in frames:
        is_build = frame.f_code is build_functions.build_from_cfg.__code__
        if is_build and isinstance(frame.f_locals["cfg"], dict):  # or look at what contains it
            return Part(_words(frame.f_locals["cfg"], keys), frame, True)
        if frame.f_code.co_name.startswith("build_") and "mmengine" in frame.f_code.co_filename:
            for value in frame.f_locals.values():
                if isinstance(value, dict) and value in keys.values():
                    return Part(_words(value, keys), frame, True)
    kinds = {type_name(part["type"]) for part in keys.values() if "type" in part}
    layer = ""
    for frame in frames:
        running = frame.f_locals.get("self")
        if isinstance(running, nn.Module) and not layer and len(f"{running!r}") < 100:
            layer = f"{running!r} of "
        if type(running).__name__ in kinds:
            name = type(running).__name__
            same = [key for key, part in keys.items() if type_name(part.get("type")) == name]
            where = f"the config's {same[0]} ({name})" if len(same) == 1 else name
            return Part(f"in {layer if not layer.startswith(name) else ''}{where}", frame, False)
    return None


def _words(part: dict, keys: dict[str, dict]) -> str:
    kind = type_name(part.get("type", ""))
    same = [key for key, value in keys.items() if value == part]
    # Some libraries add arguments before they build: then its class tells which part it is.
    alike = [key for key, value in keys.items() if kind and type_name(value.get("type")) == kind]
    found = same or (alike if len(alike) == 1 else [])
    name = f" ({kind})" if kind and found else kind
    return f"The config's {found[0] if found else ''}{name}".rstrip()


def _why_not_built(error: Exception, part: Part) -> str:
    local, text = part.frame.f_locals, str(error.args[0]) if error.args else ""
    registry, kind = local.get("registry"), local.get("obj_type")
    if isinstance(error, KeyError) and " registry. Please check" in text:
        return _unregistered(registry, kind)
    if unknown := re.search(r"unexpected keyword argument '(\w+)'", text):
        built = local.get("obj_cls")
        known = inspect.signature(built).parameters if callable(built) else {}
        text += f".{did_you_mean(unknown[1], [name for name in known if name != 'self'])}"
    if not isinstance(error, ValueError | TypeError | AssertionError):
        text = f"{type(error).__name__}: {text}"
    return f"{part.words} cannot be built: {text or type(error).__name__}"


def check_types(cfg: Config) -> None:
    """Raise a ConfigError if the name of the optimizer or of a schedule is not registered.

    MMEngine's own messages are "None is not a callable object" and an error of its builder.
    """
    schedules = cfg.get("param_scheduler") or []
    schedules = schedules if isinstance(schedules, list | tuple) else [schedules]
    named = [(OPTIMIZERS, cfg.optim_wrapper.optimizer.type)]
    named += [(PARAM_SCHEDULERS, schedule.get("type")) for schedule in schedules]
    for kinds, name in named:
        if isinstance(name, str):
            with kinds.switch_scope_and_registry(cfg.get("default_scope")) as registry:
                if registry.get(name) is None:
                    raise ConfigError(_unregistered(registry, name))


def _unregistered(registry: Registry, name: str) -> str:
    """The message for a name that is in no registry."""
    known, node = [], registry
    while node is not None:
        known += node.module_dict
        node = node.parent
    scope = name.rpartition(".")[0]
    libraries = registry._get_root_registry().children.items()
    others = [f"{other}.{name}" for other, child in libraries if name in child.module_dict]
    advice = f" Did you mean {others[0]}?" if others else did_you_mean(name, known)
    advice = f" Is {scope} installed?" if scope else advice
    return (
        f"The config names {registry.name} type='{name}', which is not registered.{advice} A config"
        " of your own needs custom_imports = dict(imports=['slotcon_plugin'])."
    )
