"""Compares weights with the model that they enter, and notes the tensors that may be left out."""

import fnmatch
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from ..errors import CheckpointError, ConfigError
from ..runtime.safe_loading import check_finite, load_checkpoint_safely
from ..runtime.text_formats import listed
from ..runtime.wrapping import unwrapped
from .names import WRAPPER, differences

RECORD = "left_out"  # in a checkpoint's meta: file -> names of tensors, see `LeftOut.names`


class LeftOut:
    """Loads weights completely, except for the tensors that the user names.

    Args:
        patterns: shell patterns (`*`, `?`, `[ab]`) of tensor names, as messages show them. Such a
            tensor may be missing in the file, left over there, or of another shape; the model then
            keeps its own. Another type of numbers is an error for every tensor.
    """

    def __init__(self, patterns: Sequence[str] | None = ()) -> None:
        patterns = () if patterns is None else patterns
        is_list = isinstance(patterns, list | tuple)
        if not is_list or not all(isinstance(one, str) and one for one in patterns):
            raise ConfigError(
                f"allow_missing is {patterns!r}, expected a list of patterns of tensor names, e.g. "
                "['decode_head.conv_seg.*']"
            )
        self.patterns = tuple(patterns)
        self.names: dict[str, list[str]] = {}  # file -> tensors that were left out
        self.saw_initial = False  # whether `check_initial_weights` was called

    def compare(self, given: Mapping[str, Any], own: Mapping[str, Tensor], file: str) -> str:
        """How the tensors in a file differ from a model's own, apart from those left out."""

        def shape(tensors: Mapping[str, Any], name: str) -> object:
            return getattr(tensors.get(name), "shape", None)

        apart = [name for name in {**own, **given} if shape(given, name) != shape(own, name)]
        left = {n for n in apart if any(fnmatch.fnmatchcase(n, one) for one in self.patterns)}
        if left:
            self.names[file] = [name for name in apart if name in left]
        parts = ({n: v for n, v in part.items() if n not in left} for part in (given, own))
        return differences(*parts)

    def check_used(self) -> None:
        """Raise ConfigError for a pattern that was not needed, after all weights were compared."""
        names = [name for found in self.names.values() for name in found]
        for pattern in self.patterns:
            if not any(fnmatch.fnmatchcase(name, pattern) for name in names):
                others = listed(names) or "no tensor: all fit, or no weights are loaded"
                raise ConfigError(
                    f"--allow-missing {pattern}: no tensor of this name is missing, left over or "
                    "of another shape. Correct the pattern or omit it. Left out would be: "
                    f"{others}."
                )

    def lines(self) -> list[str]:
        """What was left out, one line for each file."""
        return describe(self.names)

    def resume(self, meta: Mapping[str, Any], file: str) -> None:
        """Take over what the resumed training had left out at its start."""
        self.names = read_record(meta, file)


def describe(names: Mapping[str, list[str]]) -> list[str]:
    """What was left out, one line for each file."""
    return [
        f"{len(left)} tensors are not loaded from {file}, as --allow-missing permits: "
        + ", ".join(left)
        for file, left in names.items()
    ]


def read_record(meta: Mapping[str, Any], file: str) -> dict[str, list[str]]:
    """The tensors that the training of a checkpoint left out at its start; {} if none."""
    found = meta.get(RECORD, {})
    if not isinstance(found, dict) or not all(
        isinstance(name, str) and isinstance(value, list) and all(isinstance(n, str) for n in value)
        for name, value in found.items()
    ):
        raise CheckpointError(f"{file}: `meta.{RECORD}` is damaged, expected names by file.")
    return found


def check_initial_weights(model: nn.Module, left_out: LeftOut) -> None:
    """Check the files that `init_cfg=dict(type='Pretrained')` and detectron2's MODEL.WEIGHTS name.

    MMEngine and modules that read them themselves only warn about tensors that do not fit.

    Raises:
        CheckpointError: a file cannot be read, does not fit its module, or is detectron2's.
    """
    model = unwrapped(model)
    if type(model).__name__ == "Detectron2Wrapper" and model.cfg.MODEL.WEIGHTS:
        raise CheckpointError(
            f"model.detector has weights={model.cfg.MODEL.WEIGHTS}, which detectron2 would "
            "unpickle and load without a check. Remove the entry, and use --backbone FILE or "
            "load_from."
        )
    if left_out.saw_initial:
        return
    left_out.saw_initial = True
    for name, module, file, prefix in _pretrained(model):
        content = load_checkpoint_safely(file)
        tensors = {str(n): value for n, value in content.get("state_dict", content).items()}
        start = f"{prefix.rstrip('.')}." if prefix else ""
        given = {
            n.removeprefix(start or WRAPPER): value
            for n, value in tensors.items()
            if n.startswith(start)
        }
        check_finite({n: v for n, v in given.items() if isinstance(v, Tensor)}, str(file))
        if problems := left_out.compare(given, module.state_dict(), str(file)):
            raise CheckpointError(
                f"The config initializes {name or 'the model'} from {file}"
                + f" (prefix='{prefix}')" * bool(prefix)
                + f", which does not fit {type(module).__name__}. Tensors: {problems}. MMEngine "
                "would only warn. Remove init_cfg (or pretrained) there, and use --backbone FILE "
                "for a ResNet, which converts names, load_from for a whole model, or "
                "--allow-missing PATTERN for tensors that may be left out."
            )


def initial_files(model: nn.Module) -> list[str]:
    """The files from which MMEngine initializes parts of a model."""
    return list(dict.fromkeys(str(file) for _, _, file, _ in _pretrained(model)))


def _pretrained(module: nn.Module, name: str = "") -> Iterator[tuple[str, nn.Module, str, str]]:
    """The modules that MMEngine will fill from files: name, module, file, prefix in the file."""
    for init in _list(getattr(module, "init_cfg", None)):
        if (found := _file_of(init)) is not None:
            yield name, module, *found
        for other in _list(init.get("override")):
            if (found := _file_of(other)) is not None:
                yield f"{name}.{other['name']}".strip("."), getattr(module, other["name"]), *found
    for child, part in module.named_children():
        if hasattr(part, "init_weights"):  # as MMEngine descends
            yield from _pretrained(part, f"{name}.{child}".strip("."))


def _file_of(init: Mapping[str, Any]) -> tuple[str, str] | None:
    kind = init.get("type")
    if getattr(kind, "__name__", kind) not in ("Pretrained", "PretrainedInit"):
        return None
    if not init.get("checkpoint"):
        raise ConfigError(f"init_cfg is {dict(init)}, which names no `checkpoint` to read.")
    return init["checkpoint"], init.get("prefix") or ""


def _list(value: Any) -> list:
    return value if isinstance(value, list | tuple) else [value] if isinstance(value, dict) else []
