"""The decoder that was pretrained together with an encoder (DeCon): its weights in files."""

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ..errors import CheckpointError
from ..models.decoders import LateralDropout, build_decoder
from ..runtime.safe_loading import check_finite
from .configured import is_plain
from .metadata import lookup
from .names import COUNTER, Pairs, differences, fpn_in_detectron2, rename, reverse

FPN, FCN = "FPN", "FCNHead"
SAME_LAYERS = {"FCNConvolutions": FCN}  # our class -> the one that has these layers
GROUPS = {FPN: ("lateral_convs", "fpn_convs"), FCN: ("convs",)}  # of layers
LAYER = re.compile(r"(\w*convs)\.(\d+)\.(?:conv\.(?:weight|bias)|bn\.\w+)")
NORM = ("weight", "bias", "running_mean", "running_var")
# What the weights do not show: options with their defaults.
HIDDEN: dict[str, dict[str, Any]] = {
    FPN: dict(start_level=0, act_cfg=None, upsample_cfg=dict(mode="nearest")),
    FCN: dict(dilation=1, act_cfg=dict(type="ReLU")),
}
DETECTRON2 = re.compile(r"fpn_lateral(\d{1,2})\.")
PREFIXES = {FCN: "decode_head."}  # in files for OpenMMLab; "neck." for every other class


class Decoder(NamedTuple):
    """The weights of a decoder, under the names of its class (mmdet's FPN, mmseg's FCNHead, …).

    FPNs and FCN heads with batch norm or without norm are known by their weights. Of every other
    decoder only the name of its class is known; it fits a network with the same class.
    """

    state_dict: dict[str, Tensor]
    description: dict[str, Any]  # plain values for metadata: `name`, `options`, sizes if known
    old_names: dict[str, str]  # name in `state_dict` -> name in the file

    @property
    def name(self) -> str:
        """Of its class, without the library."""
        return self.description["name"]

    @property
    def is_known(self) -> bool:
        """Whether it can be built from its weights."""
        return "layers" in self.description

    def __str__(self) -> str:
        if not self.is_known:
            return self.name
        known = self.description
        layers = f"{known['layers']} convolutions of dilation {known['options'].get('dilation')}"
        if self.name == FPN:
            laterals = len(known["in_channels"])
            layers = f"{laterals} lateral and {known['layers']} output convolutions"
        norm = "batch norm" if known["norm"] else "no norm"
        return f"{self.name} of {layers}, {known['out_channels']} channels, {norm}"

    @property
    def prefix(self) -> str:
        """Before its names in files for OpenMMLab."""
        return PREFIXES.get(self.name, "neck.")

    def table(self, library: str) -> Pairs | None:
        """From its names to those in a file for a library; None if that has no such decoder."""
        if library == "openmmlab":
            return [("{rest}", self.prefix + "{rest}")]
        options = {**self.description["options"], "start_level": 0}
        is_plain_fpn = self.name == FPN and self.is_known and options == HIDDEN[FPN]
        if library != "detectron2" or not is_plain_fpn:
            return None
        first = 2 + self.description["options"]["start_level"]
        return fpn_in_detectron2(range(first, first + len(self.description["in_channels"])))

    def build(self) -> nn.Module:
        """The network with these weights, without outputs that were not trained."""
        if not self.is_known:
            raise CheckpointError(
                f"The decoder {self.name} cannot be built from its weights. Known are mmdet's FPN "
                "and the convolutions of mmseg's FCNHead, with batch norm or no norm. "
                "--level encoder takes the encoder's groups."
            )
        known = self.description
        options = {name: v for name, v in known["options"].items() if name != "start_level"}
        config = dict(norm_cfg=dict(type="BN") if known["norm"] else None, **options)
        inputs, count = known["in_channels"], known["layers"]
        if self.name == FPN:
            config |= dict(type="mmdet.FPN", in_channels=inputs, num_outs=len(inputs))
            config["out_channels"] = known["out_channels"]
            config["no_norm_on_lateral"] = "lateral_convs.0.conv.bias" in self.state_dict
        else:
            config |= dict(type="FCNConvolutions", in_channels=inputs, num_convs=count)
            config |= dict(channels=known["out_channels"], kernel_size=known["kernel_size"])
        net = build_decoder(config, count, LateralDropout())
        net.load_state_dict(self.state_dict)
        return net


def take_decoder(content: dict, source: str, use: bool) -> tuple[dict, Decoder | None]:
    """An exported file's content without its decoder, and the decoder; None if it has none.

    With `use` False the decoder is only taken away.
    """
    described, key = lookup(content.get("meta"), "decoder"), "state_dict"
    if described is None:
        return content, None
    key = key if key in content else "model"
    name, options = (lookup(described, one) for one in ("name", "options"))
    tensors, own, stages = content.get(key), {}, []
    if isinstance(name, str) and isinstance(options, dict) and isinstance(tensors, dict):
        found = [DETECTRON2.match(str(one)) for one in tensors]
        stages = sorted({int(one[1]) for one in found if one})
        start = "fpn_" if stages else PREFIXES.get(name, "neck.")
        own = {one: value for one, value in tensors.items() if str(one).startswith(start)}
    if not own:
        raise CheckpointError(f"{source}: `meta.decoder` is damaged. Export the encoder again.")
    content = {**content, key: {n: value for n, value in tensors.items() if n not in own}}
    if not use:
        return content, None
    table = fpn_in_detectron2(stages) if stages else [("{rest}", start + "{rest}")]
    state, old_names, _ = rename(own, reverse(table), (), source)
    return content, decoder_of(state, {**options, "type": name}, old_names, source)


def decoder_of(
    state: Mapping[str, Any], config: Any, old_names: dict[str, str], source: str
) -> Decoder:
    """The decoder with these weights.

    Args:
        state: tensors under the names of the decoder's class.
        config: its config in the file, which may be absent.
        old_names: of the tensors in the file.
        source: the file, for messages.

    Raises:
        CheckpointError: the weights are not complete, or not finite; or the config has other values
            than literals.
    """
    config = config if isinstance(config, dict) else {}
    found = [LAYER.fullmatch(name) for name in state]
    groups = {one[1] for one in found if one}
    stated = str(config.get("type", "")).rpartition(".")[2]
    known = [name for name, own in GROUPS.items() if all(found) and groups == {*own}]
    by_names = known[0] if known else None
    name = SAME_LAYERS.get(stated, stated) or by_names or "of an unknown class"
    options = {key: config.get(key, default) for key, default in HIDDEN.get(name, {}).items()}
    whole = {key: value for key, value in options.items() if key in ("start_level", "dilation")}
    if not is_plain(options) or not all(type(n) is int and 0 <= n < 64 for n in whole.values()):
        raise CheckpointError(f"{source}: the options of its decoder, {options}, cannot be used.")
    description: dict[str, Any] = dict(name=name, options=options)
    if name == by_names:
        description |= _measure(name, state, source)
    check_finite({n: v for n, v in state.items() if isinstance(v, Tensor)}, source)
    return Decoder(dict(state), description, old_names)


def _measure(name: str, state: Mapping[str, Any], source: str) -> dict[str, Any]:
    """The sizes of an FPN or FCN head, whose weights must be complete.

    {} for an FPN with more outputs than laterals.
    """
    weights = {n.removesuffix(".conv.weight"): v for n, v in state.items() if n.endswith("weight")}
    weights = {n: v.shape for n, v in weights.items() if isinstance(v, Tensor) and v.ndim == 4}
    counts = {one: sum(n.startswith(f"{one}.") for n in weights) for one in GROUPS[name]}
    first = weights.get(f"{GROUPS[name][0]}.0", (0, 0, 0, 0))
    channels, kernel = first[0], first[-1]

    def inputs(layer: str) -> int:
        return weights.get(layer, first)[1]

    layers: dict[str, tuple[int, int]] = {}
    count = counts[GROUPS[name][-1]]
    in_channels: Any = first[1]
    if name == FPN:
        laterals = [f"lateral_convs.{i}" for i in range(counts["lateral_convs"])]
        if count > len(laterals):
            return {}
        in_channels = [inputs(layer) for layer in laterals]
        layers |= {layer: (inputs(layer), 1) for layer in laterals}
        layers |= {f"fpn_convs.{i}": (channels, 3) for i in range(count)}
    else:
        layers |= {f"convs.{i}": (channels if i else in_channels, kernel) for i in range(count)}
    normed = {group for group in counts if f"{group}.0.bn.weight" in state}
    expected = {}
    with torch.device("meta"):
        for layer, (ins, side) in layers.items():
            expected[f"{layer}.conv.weight"] = torch.empty(channels, ins, side, side)
            if layer.partition(".")[0] not in normed:
                expected[f"{layer}.conv.bias"] = torch.empty(channels)
                continue
            expected |= {f"{layer}.bn.{one}": torch.empty(channels) for one in NORM}
            expected[f"{layer}.bn.{COUNTER}"] = torch.empty((), dtype=torch.int64)
    if not count or (problems := differences(state, expected)):
        problems = problems if count else "no output convolution"
        raise CheckpointError(
            f"{source} has no complete decoder {name}. Tensors: {problems}. --parts encoder uses "
            "the encoder alone."
        )
    sizes = dict(in_channels=in_channels, out_channels=channels, kernel_size=kernel)
    return sizes | dict(layers=count, norm=list(counts)[-1] in normed)  # laterals may have none
