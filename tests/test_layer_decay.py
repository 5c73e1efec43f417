"""Layer-wise learning rates: by hand for each kind of encoder, in a schedule and in a training."""

import pytest
import torch
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS, PARAM_SCHEDULERS
from tiny_training import write_images
from torch import nn

from benchmarks.processes import DEMO
from slotcon_plugin.apis.train import train
from slotcon_plugin.errors import ConfigError
from slotcon_plugin.functional.schedules import learning_rate
from slotcon_plugin.runtime.config_rules import check_values

pytest.importorskip("timm")

VIT = dict(type="TimmEncoder", name="vit_tiny_patch16_224", depth=2)
CONVNEXT = dict(type="TimmEncoder", name="convnext_atto", depths=(1, 2, 1, 1))
SWIN = dict(type="TimmEncoder", name="swin_tiny_patch4_window7_224", depths=(1, 2, 1, 1))
RESNET = dict(depth=18, num_stages=2)
MMDET = dict(type="mmdet.ResNet", out_indices=(1,), strides=(1, 2), dilations=(1, 1), **RESNET)
# The number n of decay**n, by hand: blocks are counted from the top. Of ResNet-18 two stages.
TWO_STAGES = {
    "conv1.weight": 5,
    "bn1.bias": 5,
    "layer1.0.bn2.bias": 4,
    "layer1.1.bn2.weight": 3,
    "layer2.0.downsample.0.weight": 2,
    "layer2.1.bn2.weight": 1,
}
RULES = {
    "ViT": (
        VIT,
        {
            "pos_embed": 3,
            "cls_token": 3,
            "patch_embed.proj.weight": 3,
            "blocks.0.attn.qkv.weight": 2,
            "blocks.1.mlp.fc2.bias": 1,
            "norm.weight": 1,
        },
    ),
    "ConvNeXt": (
        CONVNEXT,
        {
            "stem.0.weight": 6,
            "stages.0.blocks.0.mlp.fc1.weight": 5,
            "stages.1.downsample.1.weight": 4,
            "stages.1.blocks.0.conv_dw.weight": 4,
            "stages.1.blocks.1.conv_dw.bias": 3,
            "stages.2.blocks.0.gamma": 2,
            "stages.3.downsample.0.bias": 1,
            "stages.3.blocks.0.norm.weight": 1,
        },
    ),
    "Swin": (
        SWIN,
        {
            "patch_embed.proj.weight": 6,
            "layers.0.blocks.0.attn.relative_position_bias_table": 5,
            "layers.1.downsample.reduction.weight": 4,
            "layers.1.blocks.0.mlp.fc1.weight": 4,
            "layers.1.blocks.1.mlp.fc1.weight": 3,
            "layers.2.blocks.0.norm1.weight": 2,
            "layers.3.blocks.0.attn.qkv.weight": 1,
            "norm.bias": 1,
        },
    ),
    "torchvision ResNet": (dict(type="TorchvisionResNet", **RESNET), TWO_STAGES),
    "mmdet ResNet": (MMDET, TWO_STAGES),
}


class Network(nn.Module):
    """An encoder and a head."""

    def __init__(self, backbone: dict) -> None:
        super().__init__()
        self.backbone, self.head = MODELS.build(backbone), nn.Conv2d(8, 2, 1)


def optimizer_of(model: nn.Module, decay: object = 0.5, **paramwise) -> torch.optim.Optimizer:
    config = dict(
        type="OptimWrapper",
        constructor="LayerDecayConstructor",
        optimizer=dict(type="AdamW", lr=1.0, weight_decay=0.1),
        paramwise_cfg=dict(layer_decay=decay, **paramwise),
    )
    return build_optim_wrapper(model, config).optimizer


@pytest.mark.parametrize("kind", RULES)
def test_rates_are_powers_by_depth(kind):
    backbone, expected = RULES[kind]
    if "." in backbone["type"]:
        pytest.importorskip(backbone["type"].partition(".")[0])
    model = Network(backbone)
    optimizer = optimizer_of(model, flat_decay_mult=0.0, custom_keys=dict(head=dict(lr_mult=10.0)))
    names = {id(p): name for name, p in model.named_parameters()}
    groups = {names[id(p)]: group for group in optimizer.param_groups for p in group["params"]}
    assert groups.keys() == set(names.values())
    for name, power in expected.items():
        assert groups[f"backbone.{name}"]["lr"] == 0.5**power, name
        is_flat = model.backbone.get_parameter(name).ndim == 1
        assert groups[f"backbone.{name}"]["weight_decay"] == (0.0 if is_flat else 0.1)
    assert {g["lr"] for n, g in groups.items() if n.startswith("head.")} == {10.0}
    used = {group["lr"] for name, group in groups.items() if name.startswith("backbone.")}
    assert used == {0.5**n for n in set(expected.values())}


def test_blocks_of_a_whole_vit():
    """BEiT's rule for 12 blocks: embeddings decay**13, the last block decay**1."""
    model = Network(dict(VIT, depth=12))
    rates = {group["lr"] for group in optimizer_of(model, 0.75).param_groups}
    assert sorted(rates) == pytest.approx([0.75**n for n in range(13, -1, -1)])


def test_a_schedule_keeps_the_ratios():
    """Also towards its end, where the rate outside the encoder is 0.01."""
    optimizer = optimizer_of(Network(VIT))
    settings = dict(type="WarmupCosineLR", warmup=2, final=0.01, end=10, by_epoch=False)
    schedule = PARAM_SCHEDULERS.build(settings | dict(optimizer=optimizer))
    for _ in range(10):
        optimizer.step()
        schedule.step()
        rates = {group["lr_scale"]: group["lr"] for group in optimizer.param_groups}
        assert rates == {scale: pytest.approx(scale * rates[1.0]) for scale in rates}
    assert rates[1.0] == pytest.approx(learning_rate(9, 10, 2, peak=1.0, final=0.01))


@pytest.mark.parametrize("decay", [None, 0, 1.5, "much", True])
def test_decays_out_of_range(decay):
    with pytest.raises(ConfigError, match=r"layer_decay is .*, expected a number above 0"):
        optimizer_of(Network(VIT), decay)


def test_a_decay_without_the_constructor_and_the_reverse():
    plain = dict(constructor="LayerDecayConstructor", optimizer=dict(type="SGD", lr=1.0))
    with pytest.raises(ConfigError, match="layer_decay is None"):
        build_optim_wrapper(Network(VIT), plain)
    with pytest.raises(ConfigError, match="layer_decay has no effect without"):
        check_values(Config(dict(optim_wrapper=dict(paramwise_cfg=dict(layer_decay=0.5)))))


@pytest.mark.parametrize(
    ("backbone", "message"),
    [
        (
            dict(type="mmdet.SwinTransformer", depths=(1, 1, 1, 1)),
            "layers of SwinTransformer are not known",
        ),
        (dict(type="TimmEncoder", name="caformer_s18"), "does not know the layers of its MetaFo"),
    ],
)
def test_encoders_of_unknown_layers(backbone, message):
    pytest.importorskip("mmdet")
    model = Network(backbone)
    with pytest.raises(ConfigError, match=message):
        optimizer_of(model)
    with pytest.raises(ConfigError, match="Conv2d has no backbone"):
        optimizer_of(nn.Conv2d(1, 1, 1))


@pytest.mark.parametrize("backbone", [VIT, dict(type="TorchvisionResNet", **RESNET)])
def test_a_pretraining_that_continues_from_weights(backbone, tmp_path, monkeypatch):
    """A first step of AdamW without decay moves a weight by its learning rate."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    start = MODELS.build(backbone)
    torch.save(start.state_dict(), tmp_path / "start.pth")
    config = tmp_path / "config.py"
    config.write_text(f"""
_base_ = ["{DEMO}"]
model = dict(
    backbone=dict(_delete_=True, **{backbone}),
    neck=dict(_delete_=True, type="PixelProjector", hidden_channels=32, out_channels=16),
    head=dict(
        prototypes=dict(num_prototypes=8, channels=16),
        predictor=dict(channels=16, hidden_channels=32),
    ),
)
train_dataloader = dict(
    batch_size=4,
    num_workers=0,
    dataset=dict(source="{write_images(tmp_path / "images", 4)}", views=dict(size=64)),
)
optim_wrapper = dict(
    _delete_=True,
    type="OptimWrapper",
    constructor="LayerDecayConstructor",
    optimizer=dict(type="AdamW", lr=1e-3, weight_decay=0.0),
    paramwise_cfg=dict(layer_decay=0.5),
)
auto_scale_lr = None
train_cfg = dict(max_epochs=1)
param_scheduler = None
default_hooks = dict(group_images=None, feature_rank=None)
""")
    train(config, work_dir=tmp_path / "work", backbone=tmp_path / "start.pth")
    saved = torch.load(tmp_path / "work" / "epoch_1.pth", weights_only=False)
    _, expected = RULES["ViT" if backbone is VIT else "torchvision ResNet"]
    for name, power in expected.items():
        moved = saved["state_dict"][f"backbone.{name}"] - start.state_dict()[name]
        assert moved.abs().max() == pytest.approx(1e-3 * 0.5**power, rel=2e-3), name
    assert Config.fromfile(next((tmp_path / "work").glob("*.py"))).optim_wrapper.constructor
