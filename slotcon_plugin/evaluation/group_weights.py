"""Projector and prototypes of each level in the content of a full checkpoint."""

import re
from itertools import count, takewhile
from pathlib import Path

import torch.nn.functional as F
from torch import Tensor

from ..checkpoints.file_kinds import find_tensors
from ..checkpoints.metadata import lookup, read_config
from ..checkpoints.names import PUBLISHED, differences, rename, reverse
from ..errors import CheckpointError
from ..models.levels import ENCODER
from ..models.mlp import PixelProjector
from ..runtime.config_rules import POSITIVE
from ..runtime.safe_loading import check_finite

ENCODER_ALONE = (
    "{} is an encoder alone, without projector and prototypes: a full checkpoint of SlotCon is "
    "needed here. "
    "slotcon evaluate overcluster, retrieval, probe and knn take any encoder."
)

PAPERS_TEMPERATURE = 0.07  # of the attention that pools slots: the paper's τ_t
# Names of projector and prototypes of each part, in our checkpoints.
GROUPING = {
    "teacher": ("teacher.neck.", "teacher.prototypes.weight"),
    "student": ("neck.", "head.prototypes.weight"),
}
# The same of a decoder's level.
GROUPING_DECODER = {
    "teacher": ("teacher.decoder_necks.{}.", "teacher.decoder_prototypes.{}.weight"),
    "student": ("decoder_necks.{}.", "decoder_heads.{}.prototypes.weight"),
}


def levels_in(content: dict, path: str | Path, part: str = "teacher") -> list[str | int]:
    """The levels of which a file has prototypes; [] for an encoder alone."""
    tensors, kind = find_tensors(content, str(path), known=True)
    first = [ENCODER] if kind == "published" or GROUPING[part][1] in tensors else []
    prototypes = GROUPING_DECODER[part][1]
    return first + list(takewhile(lambda i: prototypes.format(i) in tensors, count()))


def read_temperature(content: dict, path: str | Path, level: str | int) -> float:
    """τ of the attention that pools slots; the paper's if the file has no config."""
    model = lookup(read_config(content), "model")
    head = lookup(model, "head" if level == ENCODER else "decoder_head")
    if isinstance(head, list | tuple) and level != ENCODER:
        head = head[level] if level < len(head) else None
    value = lookup(head, "prototypes.temperature") or PAPERS_TEMPERATURE
    if not POSITIVE.accepts(value):
        raise CheckpointError(f"{path}: its temperature is {value!r}, expected a positive number.")
    return value


def read_grouping(
    content: dict, path: str | Path, part: str = "teacher", level: str | int = ENCODER
) -> tuple[PixelProjector, Tensor]:
    """Projector and prototypes (k, d), of unit length, of a level of a full checkpoint."""
    tensors, kind = find_tensors(content, str(path))
    if kind == "published":
        tensors = rename(tensors, reverse(PUBLISHED), (), str(path)).values
    names = GROUPING[part] if level == ENCODER else GROUPING_DECODER[part]
    neck, prototypes = (name.format(level) for name in names)
    state = {k.removeprefix(neck): v for k, v in tensors.items() if k.startswith(neck)}
    layers = [w for name, w in state.items() if re.fullmatch(r"mlp\.\d+\.weight", name)]
    layers = [weight for weight in layers if weight.ndim == 4]
    if not layers or prototypes not in tensors:
        raise CheckpointError(
            f"{ENCODER_ALONE.format(path)} It has no {neck}mlp.* and {prototypes}."
        )
    (hidden, inputs), outputs = layers[0].shape[:2], len(layers[-1])
    norm = "mlp.1.weight" in state
    projector = PixelProjector(inputs, hidden, outputs, len(layers), batch_norm=norm)
    prototypes_kd = tensors[prototypes]
    problems = differences(state, projector.state_dict())
    if problems or prototypes_kd.shape[1:] != (outputs,):
        found = f"{tuple(prototypes_kd.shape)} prototypes"
        raise CheckpointError(
            f"{path}: these are not SlotCon's projector and prototypes. Of the projector: "
            f"{problems or 'nothing differs'}; {found}, expected (K, {outputs})."
        )
    check_finite({**state, prototypes: prototypes_kd}, str(path))
    projector.load_state_dict(state)
    return projector, F.normalize(prototypes_kd.float(), dim=1)
