"""Checkpoints in our format and in the published one, and a photograph to compare features on."""

import argparse
from functools import cache
from pathlib import Path

import numpy as np
import torch
from mmengine.config import Config
from mmengine.registry import MODELS
from photographs import photographs
from torch import Tensor, nn

import slotcon_plugin  # noqa: F401  (registers the parts)
from slotcon_plugin.checkpoints.names import PUBLISHED, published_name
from slotcon_plugin.models.backbones import TorchvisionResNet


def slotcon_config(depth: int = 50, num_stages: int = 4, prototypes: int = 12) -> dict:
    """SlotCon with a ResNet of full size; all other parts are narrow."""
    channels = (512 if depth < 50 else 2048) >> (4 - num_stages)
    return dict(
        type="SlotCon",
        backbone=dict(type="TorchvisionResNet", depth=depth, num_stages=num_stages),
        neck=dict(type="PixelProjector", in_channels=channels, hidden_channels=24, out_channels=16),
        head=dict(
            type="PrototypeHead",
            prototypes=dict(type="Prototypes", num_prototypes=prototypes, channels=16),
            group_loss=dict(type="GroupingLoss"),
            slot_loss=dict(type="SlotLoss"),
            predictor=dict(type="SlotPredictor", channels=16, hidden_channels=24),
        ),
        data_preprocessor=dict(type="TwoViewPreprocessor"),
    )


@cache
def random_model(depth: int = 50, num_stages: int = 4) -> nn.Module:
    """A model in evaluation mode, built from a seed. Every tensor influences the features, student
    and teacher differ, and so do all counts of batches."""
    torch.manual_seed(depth)
    model = MODELS.build(slotcon_config(depth, num_stages))
    with torch.no_grad():
        for count, part in enumerate(model.modules()):
            if isinstance(part, nn.BatchNorm2d | nn.BatchNorm1d):
                part.weight.uniform_(0.3, 0.9)
                part.bias.uniform_(-0.3, 0.3)
                part.running_mean.uniform_(-0.3, 0.3)
                part.running_var.uniform_(0.7, 1.5)
                part.num_batches_tracked.fill_(count)
        for p in model.backbone.parameters():
            p.mul_(1.1)
        model.head.group_loss.center.normal_()
    return model.eval()


def ours(folder: Path, depth: int = 50, num_stages: int = 4) -> Path:
    """A checkpoint as MMEngine writes it, of `random_model`."""
    cfg = Config(dict(model=slotcon_config(depth, num_stages), train_cfg=dict(max_epochs=800)))
    meta = dict(epoch=7, iter=70, seed=0, cfg=cfg.pretty_text, experiment_name="mine_2026_01")
    path = folder / f"epoch_7_r{depth}_{num_stages}.pth"
    torch.save(dict(meta=meta, state_dict=random_model(depth, num_stages).state_dict()), path)
    return path


def write_encoder(path: Path, depth: int = 18) -> None:
    """The weights of a ResNet under torchvision's names, in a file."""
    torch.manual_seed(3)
    torch.save({"state_dict": TorchvisionResNet(depth).state_dict()}, path)


def published_content(depth: int = 18) -> dict:
    """What the published code saves after 3 epochs of 10 iterations, with LARS' momentum."""
    values = random_model(depth).state_dict()
    named = {published_name(name): value for name, value in values.items()}
    del named[None]  # idle_steps
    order = [theirs.removesuffix("{rest}") for _, theirs in PUBLISHED]
    place = {name: [name.startswith(start) for start in order].index(True) for name in named}
    weights = {f"module.{name}": named[name] for name in sorted(named, key=place.get)}
    buffers = ("running_mean", "running_var", "num_batches_tracked", "center")
    parameters = [name for name in weights if not name.endswith(buffers)]
    trained = [i for i, name in enumerate(parameters) if "_k." not in name]
    group = dict(lr=0.7, momentum=0.9, weight_decay=1e-5, eta=0.001, initial_lr=2.0)
    group |= dict(weight_decay_filter=None, lars_adaptation_filter=None)
    shared = dict(base_lrs=[2.0], _last_lr=[0.7])
    return dict(
        args=argparse.Namespace(arch=f"resnet{depth}", dataset="COCO", epochs=3, seed=None),
        model=weights,
        optimizer=dict(
            state={i: dict(mu=torch.randn_like(weights[parameters[i]])) for i in trained},
            param_groups=[dict(**group, params=list(range(len(parameters))))],
        ),
        scheduler=dict(
            multiplier=100,
            warmup_epoch=5,
            finished=False,
            last_epoch=30,
            **shared,
            after_scheduler=dict(T_max=40, eta_min=1e-6, last_epoch=25, **shared),
        ),
        epoch=3,
        scaler=dict(scale=1024.0, growth_factor=2.0, _growth_tracker=4),
    )


def pixels() -> np.ndarray:
    """A photograph of scikit-image's, uint8 RGB (128, 128, 3)."""
    return np.asarray(photographs(128)[0])


def normalized(meta: dict) -> Tensor:
    """The photograph normalized as an exported file's metadata say, (1, 3, 128, 128)."""
    wanted = meta["pixels"]
    assert wanted["channel_order"] == "RGB"
    mean, std = np.array(wanted["mean_0_255"]), np.array(wanted["std_0_255"])
    return torch.tensor((pixels() - mean) / std, dtype=torch.float32).permute(2, 0, 1)[None]


@torch.no_grad()
def features(part: str = "teacher", depth: int = 50, num_stages: int = 4) -> Tensor:
    """The features of the photograph by SlotCon's encoder, with our data preprocessor."""
    model = random_model(depth, num_stages)
    image = torch.tensor(pixels()).permute(2, 0, 1)
    inputs = model.data_preprocessor({"inputs": [image]})["inputs"]
    return model.encode(inputs) if part == "teacher" else model.backbone(inputs)[-1]


def assert_same_features(found: Tensor, expected: Tensor) -> None:
    """Equal to 1e-5 of the largest feature."""
    assert expected.std() > 0.01, "the features vary too little for a comparison"
    scale = expected.abs().max()
    assert found.shape == expected.shape
    assert (found - expected).abs().max() <= 1e-5 * scale
