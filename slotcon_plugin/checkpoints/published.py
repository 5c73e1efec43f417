"""Full checkpoints, the published ones and ours, in both directions.

Weights go over bit by bit. So does what an exact continuation needs (momentum, iteration, loss
scale) where it is there; the report says what is not.
"""

import argparse
from dataclasses import dataclass

import torch
from mmengine.config import Config
from mmengine.registry import MODELS
from torch import Tensor

from ..errors import CheckpointError
from ..models.slotcon import RECENT_STEPS
from . import optimizer_state as momentum
from .architecture import check_finite, recognize
from .digest import digest
from .encoder import locate
from .literals import lookup
from .metadata import arguments_of, config_of
from .name_tables import OURS_ALONE, PUBLISHED, PUBLISHED_ORDER, WRAPPER
from .renaming import listed, match, rename, reverse

# Entry of a config of ours -> name in the published command line.
ARGUMENTS = (
    ("model.head.prototypes.num_prototypes", "num_prototypes"),
    ("model.neck.hidden_channels", "dim_hidden"),
    ("model.neck.out_channels", "dim_out"),
    ("model.teacher_momentum", "teacher_momentum"),
    ("model.head.group_loss.teacher_temperature", "teacher_temp"),
    ("model.head.group_loss.student_temperature", "student_temp"),
    ("model.head.group_loss.center_momentum", "center_momentum"),
    ("model.head.group_loss_weight", "group_loss_weight"),
    ("optim_wrapper.optimizer.weight_decay", "weight_decay"),
    ("optim_wrapper.optimizer.momentum", "momentum"),
    ("train_cfg.max_epochs", "epochs"),
)


@dataclass(frozen=True)
class Converted:
    """A full checkpoint in the other format.

    Attributes:
        content: what is to be saved.
        used: new name -> old name, of the weights.
        dropped: what was left out of the weights, by name.
        remarks: what else came over, and what did not and why; one line each.
    """

    content: dict
    used: dict[str, str]
    dropped: tuple[str, ...]
    remarks: tuple[str, ...]

    @property
    def weights(self) -> dict[str, Tensor]:
        """The weights, under the names of this format."""
        return self.content.get("state_dict") or self.content["model"]

    @property
    def digest(self) -> str:
        """Of the weights under our names: the same for both formats."""
        named = {
            name.removeprefix(WRAPPER): value
            for name, value in self.weights.items()
            if name not in OURS_ALONE
        }
        if "model" in self.content:
            named = rename(named, reverse(PUBLISHED), (), "The result").values
        return digest(named)


def model_config(state: dict[str, Tensor], source: str) -> dict:
    """The `model` of a config that fits weights under our names, with the paper's temperatures."""
    encoder = {
        name.removeprefix("backbone."): value
        for name, value in state.items()
        if name.startswith("backbone.")
    }
    architecture = recognize(encoder, f"{source} (student's encoder)")
    prototypes, first, last = (
        _tensor(state, name, source).shape
        for name in ("head.prototypes.weight", "neck.mlp.0.weight", "neck.mlp.6.weight")
    )
    predictor = _tensor(state, "head.predictor.mlp.0.weight", source).shape
    return dict(
        type="SlotCon",
        backbone=dict(
            type="TorchvisionResNet",
            depth=architecture.depth,
            num_stages=architecture.num_stages,
        ),
        neck=dict(
            type="PixelProjector",
            in_channels=first[1],
            hidden_channels=first[0],
            out_channels=last[0],
        ),
        head=dict(
            type="PrototypeHead",
            prototypes=dict(
                type="Prototypes", num_prototypes=prototypes[0], channels=prototypes[1]
            ),
            group_loss=dict(type="GroupingLoss"),
            slot_loss=dict(type="SlotLoss"),
            predictor=dict(
                type="SlotPredictor", channels=predictor[1], hidden_channels=predictor[0]
            ),
        ),
        data_preprocessor=dict(type="TwoViewPreprocessor"),
    )


def to_ours(content: dict, source: str) -> Converted:
    """Turn a published full checkpoint into one that tools/train.py, --resume and `load_from` take.

    Raises:
        CheckpointError: not a published checkpoint, or not a whole one.
    """
    tensors, kind = locate(content, source)
    if kind != "published":
        raise CheckpointError(
            f"{source} is not a published SlotCon checkpoint but of the kind {kind!r}; --to slotcon"
            " converts published full checkpoints (model: module.encoder_q.*, …)."
        )
    named = rename(tensors, reverse(PUBLISHED), (), source)
    config = model_config(named.values, source)
    with torch.device("meta"):
        model = MODELS.build(config)
    expected = {name: value.shape for name, value in model.state_dict().items()}
    state = _as_expected(named.values, expected, source)
    check_finite(state, source)
    for name in OURS_ALONE:
        state[name] = torch.full(expected[name], RECENT_STEPS)
    state = {name: state[name] for name in expected}  # our modules' order
    parameters = [name for name, _ in model.named_parameters()]
    training, kept, remarks = momentum.to_ours(content, list(tensors), parameters, source)
    meta = {
        **training.pop("meta"),
        "cfg": Config(dict(model=config)).pretty_text,
        "published": {"args": arguments_of(content), **kept},
    }
    size = f"ResNet-{config['backbone']['depth']}, {model.num_prototypes} prototypes"
    remarks = (
        f"to go on from it, take a config with the same encoder and prototypes: {size}",
        f"begun anew: {', '.join(OURS_ALONE)} (a counter for the log)",
        *remarks,
    )
    return Converted(
        {"meta": meta, "state_dict": state, **training}, named.used, named.dropped, remarks
    )


def to_published(content: dict, source: str) -> Converted:
    """Turn a full checkpoint of ours into one that the published tools read.

    Raises:
        CheckpointError: not a checkpoint of ours, or not a whole one.
    """
    tensors, kind = locate(content, source)
    if kind != "slotcon":
        raise CheckpointError(
            f"{source} is of the kind {kind!r}; --to published converts full checkpoints of "
            "tools/train.py (teacher.backbone.*, head.prototypes.*, …)."
        )
    check_finite(tensors, source)
    named = rename(tensors, PUBLISHED, OURS_ALONE, source)
    config = model_config(tensors, source)
    with torch.device("meta"):
        model = MODELS.build(config)
    _as_expected(
        {old: tensors[old] for old in named.used.values()},
        {name: value.shape for name, value in model.state_dict().items()},
        source,
    )
    state = dict(sorted(named.values.items(), key=lambda item: _published_place(item[0])))
    used = {f"{WRAPPER}{new}": named.used[new] for new in state}
    parameters = [name for name, _ in model.named_parameters()]
    training, remarks = momentum.to_published(content, parameters, list(state))
    args = lookup(content, "meta.published.args")
    if args is None:
        whole = {**config_of(content)}
        whole["model"] = _merged(config, whole.get("model") or {})
        args = {theirs: lookup(whole, ours) for ours, theirs in ARGUMENTS}
        args = {name: value for name, value in args.items() if value is not None}
        args["arch"] = f"resnet{config['backbone']['depth']}"
        remarks = (*remarks, "args: only what our config knows of the published command line")
    weights = {f"{WRAPPER}{name}": value for name, value in state.items()}
    converted = {"args": argparse.Namespace(**args), "model": weights, **training}
    return Converted(converted, used, named.dropped, tuple(remarks))


def _merged(base: dict, over: dict) -> dict:
    both = {**base, **over}
    for name in base.keys() & over.keys():
        if isinstance(base[name], dict) and isinstance(over[name], dict):
            both[name] = _merged(base[name], over[name])
    return both


def _published_place(name: str) -> int:
    return next(i for i, pattern in enumerate(PUBLISHED_ORDER) if match(name, pattern) is not None)


def _tensor(state: dict[str, Tensor], name: str, source: str) -> Tensor:
    if name not in state:
        raise CheckpointError(
            f"{source} lacks {name}: it is not a full checkpoint. An encoder alone is exported "
            "with --to openmmlab, torchvision, timm or detectron2."
        )
    return state[name]


def _as_expected(
    state: dict[str, Tensor], expected: dict[str, torch.Size], source: str
) -> dict[str, Tensor]:
    """The state, if it is the whole of a SlotCon but for OURS_ALONE."""
    names = expected.keys() - set(OURS_ALONE)
    wrong = [name for name in names & state.keys() if state[name].shape != expected[name]]
    problems = [
        f"{title}: {listed(sorted(found))}"
        for title, found in (
            ("missing", names - state.keys()),
            ("not of it", state.keys() - names),
            ("of another shape", wrong),
        )
        if found
    ]
    if problems:
        raise CheckpointError(f"{source} is not a whole SlotCon. {'; '.join(problems)}.")
    return dict(state)
