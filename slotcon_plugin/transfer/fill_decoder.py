"""Fills the decoder of a detection or segmentation network with the one that was pretrained."""

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from torch import Tensor, nn

from ..checkpoints import Encoder
from ..checkpoints.decoder_weights import COUNTER, FCN, HIDDEN, SAME_LAYERS, Decoder
from ..checkpoints.left_out import LeftOut
from ..checkpoints.names import rename
from ..errors import CheckpointError
from ..runtime.text_formats import listed

PLACES = ("neck", "decode_head", "decoder")  # in mmdet's and mmseg's models, and in SlotCon
OUTPUTS = re.compile(r"(fpn_convs\.\d+|fpn_output\d+)\..+")  # of levels that may be untrained


class Match(NamedTuple):
    """A pretrained decoder, compared with a network's."""

    part: nn.Module | None  # that is filled
    weights: dict[str, Tensor]
    line: str  # for the log
    left_out: LeftOut

    def load(self, left_out: LeftOut) -> str:
        """Load the weights; tensors that were left out are added to `left_out`."""
        if self.part is not None:
            self.part.load_state_dict(self.weights, strict=False)
        for file, names in self.left_out.names.items():
            left_out.names.setdefault(file, []).extend(names)
        return self.line


def match_decoder(model: nn.Module, encoder: Encoder, left_out: LeftOut) -> Match | None:
    """Compare the decoder of a file with that of a network; nothing is loaded yet.

    The network's own is its `neck`, `decode_head` or `decoder`, or detectron2's FPN, if the class
    has the same name. Output convolutions of an FPN that the file does not have keep their weights,
    and so do all parts of a head but its convolutions.

    Returns:
        None for a file without a decoder. For a network without a decoder of this class, a match
        that says so.

    Raises:
        CheckpointError: names or shapes differ.
    """
    decoder, source = encoder.decoder, str(encoder.source)
    if decoder is None:
        return None
    is_detectron2 = hasattr(model.backbone, "bottom_up")
    places = {name: getattr(model, name, None) for name in PLACES}
    places = {name: part for name, part in places.items() if isinstance(part, nn.Module)}
    if is_detectron2:
        places = {"backbone": model.backbone}
    table = decoder.table("detectron2" if is_detectron2 else "openmmlab")
    fitting = [name for name, part in places.items() if _class_name(part) == decoder.name]
    if not fitting or table is None:
        found = ", ".join(f"{name}: {type(part).__name__}" for name, part in places.items())
        line = (
            f"decoder: the file's {decoder} is left out, since {type(model).__name__} has no such "
            f"decoder ({found or 'none at all'})"
        )
        return Match(None, {}, line, LeftOut())
    name, part = fitting[0], places[fitting[0]]
    named = decoder.state_dict
    if is_detectron2:
        named = rename(named, table, (), source).values
    own, kept = _expected(part, decoder, named)
    if not any(one.endswith(COUNTER) for one in own):
        named = {one: value for one, value in named.items() if not one.endswith(COUNTER)}
    given, wanted = ({f"{name}.{n}": v for n, v in some.items()} for some in (named, own))
    left_out = LeftOut(left_out.patterns)
    if problems := left_out.compare(given, wanted, source):
        raise CheckpointError(
            f"The decoder in {source}, {decoder}, does not fit {type(model).__name__}.{name}. "
            f"Tensors: {problems}. Nothing was loaded. Give it the same channels, levels and norms "
            "as in the pretraining, or use the encoder alone: --parts encoder."
        )
    apart = {one for names in left_out.names.values() for one in names}
    weights = {one: value for one, value in named.items() if f"{name}.{one}" not in apart}
    line = f"decoder: {decoder} from {source} in {name}, {len(weights)} tensors used"
    line += f"; initial weights remain in {listed(kept)}" * bool(kept)
    line += _differences(part, decoder)
    return Match(part, weights, line, left_out)


def _class_name(part: nn.Module) -> str:
    name = type(part).__name__
    return SAME_LAYERS.get(name, name)


def _expected(
    part: nn.Module, decoder: Decoder, given: Mapping[str, Any]
) -> tuple[dict[str, Tensor], list[str]]:
    """The tensors of a network's part that a file must have, and its modules that it need not."""
    own, kept = {}, {}
    for name, value in part.state_dict().items():
        output = OUTPUTS.fullmatch(name)
        if name.startswith("bottom_up."):  # detectron2's FPN contains the encoder
            continue
        if output and not any(one.startswith(f"{output[1]}.") for one in given):
            kept[output[1]] = None
        elif decoder.name == FCN and not name.startswith("convs."):
            kept[name.partition(".")[0]] = None
        else:
            own[name] = value
    return own, list(kept)


def _differences(part: nn.Module, decoder: Decoder) -> str:
    """What a network's decoder does otherwise with the same weights; "" if nothing is known."""
    layers = getattr(part, "lateral_convs", None) or getattr(part, "convs", ())
    found = dict(HIDDEN.get(decoder.name, {}))
    for layer in layers if hasattr(next(iter(layers), None), "act_cfg") else ():
        found |= dict(act_cfg=layer.act_cfg, dilation=layer.dilation[0])
    found["upsample_cfg"] = getattr(part, "upsample_cfg", found.get("upsample_cfg"))
    words = [
        f"{option} {found[option]!r} instead of {trained!r}"
        for option, trained in decoder.description["options"].items()
        if option != "start_level" and found[option] != trained
    ]
    return f"; here with {', '.join(words)}" * bool(words)
