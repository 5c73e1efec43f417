"""The models of the golden records: their encoders, configs and the names of their weights."""

import runpy
from types import SimpleNamespace

import torch
from mmengine.registry import MODELS
from torch import nn

import slotcon_plugin  # noqa: F401  (registers the parts)
from benchmarks.processes import ROOT
from slotcon_plugin.checkpoints.names import PUBLISHED, published_name

recipe = SimpleNamespace(**runpy.run_path(str(ROOT / "tests" / "golden" / "recipe.py")))


class PatchEncoder(nn.Module):
    """The smallest encoder of the records: one strided convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 512, 8, stride=8, bias=False)
        self.bn1 = nn.BatchNorm2d(512)

    def forward(self, images):
        return (self.bn1(self.conv1(images)).relu(),)


class PyramidEncoder(nn.Module):
    """The encoder of the records with an FPN: four strided convolutions, and all of their maps."""

    CHANNELS = (32, 64, 96, 128)

    def __init__(self) -> None:
        super().__init__()
        for i, (inputs, outputs) in enumerate(zip((3, *self.CHANNELS), self.CHANNELS), start=1):
            size = 4 if i == 1 else 2
            setattr(self, f"conv{i}", nn.Conv2d(inputs, outputs, size, stride=size, bias=False))
            setattr(self, f"bn{i}", nn.BatchNorm2d(outputs))

    def forward(self, images):
        maps = [images]
        for i in (1, 2, 3, 4):
            maps.append(getattr(self, f"bn{i}")(getattr(self, f"conv{i}")(maps[-1])).relu())
        return tuple(maps[1:])


for _class in (PatchEncoder, PyramidEncoder):
    MODELS.register_module(module=_class, name=f"Parity{_class.__name__}", force=True)

# Our names and the records', of what only a model with a decoder has.
DECODER_NAMES = [
    *(
        (f"{prefix}decoder.{ours}.{{block}}.{mine}", f"decoder_{q}.{theirs}.{{block}}.{known}")
        for prefix, q in (("", "q"), ("teacher.", "k"))
        for ours, theirs in (("lateral_convs", "lateral"), ("fpn_convs", "output"), ("convs",) * 2)
        for mine, known in (("conv.weight",) * 2, ("bn.{stat}", "norm.{stat}"))
    ),
    ("decoder_necks.{block}.{rest}", "dec_projector_q.{block}.{rest}"),
    ("teacher.decoder_necks.{block}.{rest}", "dec_projector_k.{block}.{rest}"),
    ("decoder_heads.{block}.prototypes.{rest}", "dec_grouping_q.{block}.slot_embed.{rest}"),
    ("teacher.decoder_prototypes.{block}.{rest}", "dec_grouping_k.{block}.slot_embed.{rest}"),
    ("decoder_heads.{block}.predictor.{rest}", "dec_predictor_slot.{block}.{rest}"),
    ("decoder_heads.{block}.group_loss.center", "center_dec_{block}"),
]


def build_model(config: dict) -> nn.Module:
    """SlotCon with the record's hyper-parameters and `recipe.weight`'s weights, in float64."""
    if config["encoder"] in ("patch", "pyramid"):
        backbone = dict(type=f"Parity{config['encoder'].title()}Encoder")
        channels = 512 if config["encoder"] == "patch" else PyramidEncoder.CHANNELS[-1]
    else:
        depth = int(config["encoder"].removeprefix("resnet"))
        backbone = dict(type="TorchvisionResNet", depth=depth)
        channels = 512 if depth < 50 else 2048
    model = dict(type="SlotCon", backbone=backbone, teacher_momentum=config["teacher_momentum"])
    model |= dict(neck=projector(config, channels), head=head(config))
    if "decoder" in config:
        model |= decoder(config, channels)
    model = MODELS.build(model).double()
    state = model.state_dict()
    for name, value in state.items():
        if theirs := record_name(name):
            weight = recipe.weight(theirs, tuple(value.shape), config["seed"])
            state[name] = torch.as_tensor(weight, dtype=value.dtype)
    model.load_state_dict(state)
    return model.train()


def projector(config: dict, channels: int) -> dict:
    """The config of a projector of maps with these channels."""
    widths = dict(hidden_channels=config["dim_hidden"], out_channels=config["dim_out"])
    return dict(type="PixelProjector", in_channels=channels, **widths)


def head(config: dict, suffix: str = "") -> dict:
    """The config of the encoder's prototype head, with the suffix "_dec" of a decoder's level."""
    out = config["dim_out"]
    return dict(
        type="PrototypeHead",
        prototypes=dict(
            type="Prototypes",
            num_prototypes=config[f"num_prototypes{suffix}"],
            channels=out,
            temperature=config["teacher_temp"],
        ),
        group_loss=dict(
            type="GroupingLoss",
            student_temperature=config["student_temp"],
            teacher_temperature=config["teacher_temp"],
            center_momentum=config["center_momentum"],
        ),
        slot_loss=dict(type="SlotLoss"),
        predictor=dict(type="SlotPredictor", channels=out, hidden_channels=config["dim_hidden"]),
        group_loss_weight=config[f"group_loss_weight{suffix}"],
    )


def decoder(config: dict, channels: int) -> dict:
    """The model's entries about the decoder, in mmdet's and mmseg's modules."""
    width, norm = config["decoder_channels"], dict(norm_cfg=dict(type="BN"))
    if config["decoder"] == "fpn":
        inputs = list(PyramidEncoder.CHANNELS)
        module = dict(type="mmdet.FPN", in_channels=inputs, num_outs=4, out_channels=width, **norm)
    else:
        module = dict(type="FCNConvolutions", in_channels=channels, channels=width, num_convs=2)
        module |= dict(dilation=config["decoder_dilation"], **norm)
    return dict(
        decoder=module,
        decoder_neck=projector(config, width),
        decoder_head=[head(config, "_dec")] * (4 if config["deep_supervision"] else 1),
        encoder_loss_weight=config["encoder_loss_weight"],
    )


def record_name(name: str) -> str | None:
    """The name in the records of a tensor of our model; None if it has none."""
    return published_name(name, (*PUBLISHED, *DECODER_NAMES))
