"""Encoders that are known by the config they were built from: timm's and OpenMMLab's."""

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple

import torch
from mmengine.registry import MODELS
from torch import Tensor, nn
from torch.nn.modules.module import register_module_module_registration_hook
from torch.overrides import TorchFunctionMode

from ..errors import CheckpointError, SlotConError
from ..models.measure import SIDE, measure
from ..models.timm_encoder import create
from .names import Pairs

TIMM = "TimmEncoder"
LIBRARIES = ("mmdet", "mmseg", "mmpretrain")
# Their classes whose constructors read no files, unlike e.g. mmseg's TIMMBackbone.
CLASSES = (
    *("ConvNeXt", "SwinTransformer", "VisionTransformer", "MixVisionTransformer"),
    *("PyramidVisionTransformer", "PyramidVisionTransformerV2"),
)
LOADING = ("init_cfg", "pretrained")  # options that load weights, or initialize them
MOST_PARTS = 20_000  # modules of an encoder
LARGEST = 100_000  # number in an encoder's options
SAME_NAMES: Pairs = (("{rest}", "{rest}"),)


class ConfiguredEncoder(NamedTuple):
    """An encoder by its registered class and options; see `Architecture`."""

    config: dict[str, Any]  # literals, with `type`

    @property
    def is_timm(self) -> bool:
        return self.config["type"] == TIMM

    @property
    def is_plain(self) -> bool:
        return True  # the config is all there is to know

    def __str__(self) -> str:
        options = {name: value for name, value in self.config.items() if name != "type"}
        return f"{self.config['type']}({', '.join(f'{n}={v!r}' for n, v in options.items())})"

    def build(self, stage: int | None = None) -> nn.Module:
        config = copy.deepcopy(self.config)
        if stage is not None:
            if not self.is_timm:
                raise CheckpointError(
                    f"--stage {stage} is for ResNets and timm's models; this encoder is {self}."
                )
            config["out_indices"] = [stage - 1]
        try:
            with _few_parts():
                return MODELS.build(config)
        except Exception as error:  # of any class, for options from a file
            name = "" if isinstance(error, SlotConError) else f"{type(error).__name__}: "
            raise CheckpointError(f"The encoder {self} cannot be built: {name}{error}") from error

    def shapes(self) -> dict[str, Tensor]:
        with torch.device("meta"), _NumbersOnCpu():
            return self.build().state_dict()

    def unused_names(self) -> set[str]:
        """What the library's files have beside the encoder: timm's classifier and last norms."""
        if not self.is_timm:
            return set()
        return self._timm_names().keys() - self.shapes().keys()

    def describe(self) -> dict[str, Any]:
        name = self.config["name"] if self.is_timm else self.config["type"]
        known: dict[str, Any] = dict(name=name, config=self.config)
        with torch.device("meta"), _NumbersOnCpu():
            net = self.build()
            with suppress(Exception):  # of any class, for images of this size
                maps = measure(net)
                known["strides"] = [round(SIDE / one.shape[-1]) for one in maps]
                known["channels"] = [one.shape[1] for one in maps]
        return known

    def table(self, names: Mapping[str, object]) -> Pairs:
        return SAME_NAMES

    def refusal(self, library: str) -> str | None:
        if library == "openmmlab" or (library == "timm" and self.is_timm):
            return None
        fitting = "--to timm or --to openmmlab" if self.is_timm else "--to openmmlab"
        return f"This encoder is {self}, which {library} does not have. Export it {fitting}."

    def usage(self, library: str, file: str, load: str, pixels: dict) -> str:
        if library == "timm":
            words = dict(self.config, num_classes=0)
            name, _, _ = (words.pop(key, None) for key in ("name", "type", "out_indices"))
            net = f"timm.create_model({name!r}, {_words(words)})"
            shapes = self.shapes()
            absent = [name for name in self._timm_names(num_classes=0) if name not in shapes]
            strict = ", strict=False" * bool(absent)
            missing = f"  # missing, as no feature map uses them: {', '.join(absent)}"
            return f"net = {net}; net.load_state_dict({load}{strict})" + missing * bool(absent)
        if not self.is_timm:  # whose classes read init_cfg in ways of their own
            return f"--backbone {file}, for backbone=dict({_words(self.config)})"
        init = f"init_cfg=dict(type='Pretrained', checkpoint='{file}')"
        imports = "custom_imports=dict(imports=['slotcon_plugin'])"
        return f"backbone=dict({_words(self.config)}, {init}), in mmdet and mmseg, with {imports}"

    def limits(self) -> list[str]:
        return []

    def _timm_names(self, **changes: Any) -> dict[str, Tensor]:
        """The state dict of timm's whole model, without data."""
        options = {n: v for n, v in self.config.items() if n not in ("type", "out_indices")}
        with torch.device("meta"), _few_parts():
            return create(**options, **changes).state_dict()


def read_configured(backbone: Any, source: str) -> ConfiguredEncoder | None:
    """The encoder that a `model.backbone` in a file describes; None if it is of another class.

    Only classes that read no files are built.

    Raises:
        CheckpointError: it has other values than literals, very large numbers, or names a module.
    """
    kind = backbone.get("type") if isinstance(backbone, dict) else None
    library, _, name = kind.rpartition(".") if isinstance(kind, str) else ("", "", "")
    is_known = library in LIBRARIES and name in CLASSES
    if kind != TIMM and not is_known:
        return None
    options = {n: value for n, value in backbone.items() if n not in ("type", *LOADING)}
    if not is_plain(options):
        raise CheckpointError(
            f"{source}: the config of its encoder, {options}, cannot be used: expected words, "
            f"numbers up to {LARGEST:,}, and lists and dictionaries of them."
        )
    return ConfiguredEncoder({"type": kind, **options})


def is_plain(value: Any) -> bool:
    """Whether a value is a literal in which no `type` names a module, which MMEngine imports."""
    if isinstance(value, dict):
        words = all(isinstance(key, str) and not key.startswith("_") for key in value)
        has_module = "." in str(value.get("type", ""))
        return words and not has_module and all(map(is_plain, value.values()))
    if isinstance(value, list | tuple):
        return all(map(is_plain, value))
    if isinstance(value, int | float):
        return abs(value) <= LARGEST
    return value is None or isinstance(value, str)


@contextmanager
def _few_parts() -> Iterator[None]:
    """Stop building a model of very many modules, which a damaged config can describe."""
    count = 0

    def check(*_: Any) -> None:
        nonlocal count
        count += 1
        if count > MOST_PARTS:
            raise CheckpointError(f"it has more than {MOST_PARTS:,} modules")

    handle = register_module_module_registration_hook(check)
    try:
        yield
    finally:
        handle.remove()


class _NumbersOnCpu(TorchFunctionMode):
    """Within device "meta", the rates of stochastic depth, which constructors read, are numbers."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        if func is torch.linspace:
            kwargs.setdefault("device", "cpu")
        return func(*args, **kwargs)


def _words(options: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={value!r}" for name, value in options.items())
