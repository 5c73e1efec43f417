"""An encoder as the files of other libraries: names, layout and container of each."""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from ..errors import CheckpointError
from .architecture import Architecture
from .containers import META, pkl_bytes, pth_bytes, safetensors_bytes
from .encoder import Encoder
from .name_tables import DETECTRON2, TORCHVISION
from .renaming import Pairs, rename


def _state_dict_and_meta(state: dict[str, Tensor], meta: dict) -> dict:
    return {"meta": meta, "state_dict": state}


def _bare_state_dict(state: dict[str, Tensor], meta: dict) -> dict:
    """A plain state dict; the notes hide where torch keeps its modules' versions."""
    bare = OrderedDict(state)
    bare._metadata = OrderedDict({META: meta})
    return bare


def _detectron2(state: dict[str, Tensor], meta: dict) -> dict:
    """`matching_heuristics` lets detectron2 find `backbone.bottom_up.` by itself."""
    return {
        "model": state,
        "__author__": "slotcon_plugin",
        "matching_heuristics": True,
        "meta": meta,
    }


@dataclass(frozen=True)
class Target:
    """A library that weights go to.

    Attributes:
        table: torchvision's names -> its names.
        layout: what a `.pth` or `.pkl` of it holds.
        suffixes: the containers it may be written to; the first is its own.
        truncated: it builds a ResNet of fewer than four stages.
        usage: how its users load the file.
    """

    table: Pairs
    layout: Callable[[dict[str, Tensor], dict], dict]
    suffixes: tuple[str, ...]
    truncated: bool
    usage: str


TARGETS = {
    "openmmlab": Target(
        TORCHVISION,
        _state_dict_and_meta,
        (".pth", ".safetensors"),
        truncated=True,
        usage="backbone=dict(type='ResNet', depth={depth}, {stages}"
        "init_cfg=dict(type='Pretrained', checkpoint='{file}')), in mmdet and mmseg",
    ),
    "torchvision": Target(
        TORCHVISION,
        _bare_state_dict,
        (".pth", ".safetensors"),
        truncated=False,
        usage="net = torchvision.models.resnet{depth}(); net.fc = torch.nn.Identity(); "
        "net.load_state_dict({load})",
    ),
    "timm": Target(
        TORCHVISION,
        _state_dict_and_meta,
        (".pth", ".safetensors"),
        truncated=False,
        usage="timm.create_model('resnet{depth}', num_classes=0, checkpoint_path='{file}')",
    ),
    "detectron2": Target(
        DETECTRON2,
        _detectron2,
        (".pkl", ".pth", ".safetensors"),
        truncated=True,
        usage="MODEL: {{WEIGHTS: {file}, PIXEL_MEAN: {mean}, PIXEL_STD: {std}, "
        "RESNETS: {{DEPTH: {depth}, STRIDE_IN_1X1: False}}}}, INPUT: {{FORMAT: RGB}}",
    ),
}
_LOADERS = {
    ".pth": "torch.load('{file}', weights_only=True)",
    ".safetensors": "safetensors.torch.load_file('{file}')",
}
_FOREIGN = {("openmmlab", ".safetensors"), ("detectron2", ".safetensors")}


def check_target(name: str, suffix: str, architecture: Architecture | None = None) -> None:
    """Whether there is such a file, and whether the library can build the encoder.

    Raises:
        CheckpointError: no, and why.
    """
    target = TARGETS[name]
    if suffix not in target.suffixes:
        raise CheckpointError(
            f"--to {name} is written as {' or '.join(target.suffixes)}, not as "
            f"{suffix or 'a file without a suffix'}. The suffix of OUT chooses the container; .pkl "
            "is detectron2's alone."
        )
    if architecture is not None and not architecture.complete and not target.truncated:
        raise CheckpointError(
            f"This encoder is a {architecture}; {name}'s {architecture.name} always has four "
            "stages, so the last ones would stay random. Export it --to openmmlab (num_stages="
            f"{architecture.num_stages}) or --to detectron2 (OUT_FEATURES up to res"
            f"{architecture.num_stages + 1}), or pretrain with four stages."
        )


def export(encoder: Encoder, target: str, suffix: str) -> tuple[bytes, dict[str, str]]:
    """The file that a library's users load.

    Args:
        encoder: from `read_encoder`.
        target: a key of TARGETS.
        suffix: ".pth", ".safetensors" or ".pkl".

    Returns:
        The file's bytes, and each of its names with the name in the source.

    Raises:
        CheckpointError: see `check_target`.
    """
    check_target(target, suffix, encoder.architecture)
    named = rename(encoder.state_dict, TARGETS[target].table, (), str(encoder.source))
    state = {name: value.detach().contiguous().clone() for name, value in named.values.items()}
    used = {new: encoder.used[old] for new, old in named.used.items()}
    if suffix == ".safetensors":
        return safetensors_bytes(state, encoder.meta), used
    content = TARGETS[target].layout(state, encoder.meta)
    return (pkl_bytes if suffix == ".pkl" else pth_bytes)(content), used


def usage(encoder: Encoder, target: str, out: Path) -> str:
    """One line that loads the file in its library."""
    if (target, out.suffix) in _FOREIGN:
        return (
            f"{target} itself does not read {out.suffix}; this package does (--backbone {out.name})"
        )
    pixels, architecture = encoder.meta["pixels"], encoder.architecture
    count = architecture.num_stages
    fewer = (
        f"num_stages={count}, strides={(1, 2, 2, 2)[:count]}, dilations={(1,) * count}, "
        f"out_indices={tuple(range(count))}, "
    )
    return TARGETS[target].usage.format(
        depth=architecture.depth,
        stages=fewer * (not architecture.complete),
        file=out.name,
        load=_LOADERS.get(out.suffix, "").format(file=out.name),
        mean=pixels["mean_0_255"],
        std=pixels["std_0_255"],
    )
