"""The default encoder, and encoders of other libraries by their names."""

import json
from pathlib import Path

import pytest
import torch
import torchvision
from mmengine.registry import MODELS
from tiny_model import random_views, tiny_config
from torch import nn

from benchmarks.plain_model import random_geometry
from slotcon_plugin.checkpoints.names import published_name
from slotcon_plugin.errors import ConfigError
from slotcon_plugin.models.backbones import TorchvisionResNet

GOLDEN = Path(__file__).parent / "golden"


@pytest.mark.parametrize("depth", [18, 50])
def test_names_are_torchvisions_without_the_classifier(depth):
    with torch.device("meta"):
        ours = TorchvisionResNet(depth)
        theirs = getattr(torchvision.models, f"resnet{depth}")()
    expected = {name: p.shape for name, p in theirs.state_dict().items() if "fc." not in name}
    assert {name: p.shape for name, p in ours.state_dict().items()} == expected


def test_it_computes_what_torchvision_computes():
    torch.manual_seed(0)
    ours, theirs = TorchvisionResNet(18).eval(), torchvision.models.resnet18().eval()
    theirs.load_state_dict(ours.state_dict(), strict=False)
    images = torch.randn(2, 3, 64, 64)
    (maps,) = ours(images)
    torch.testing.assert_close(theirs.fc(maps.mean(dim=(2, 3))), theirs(images))


@pytest.mark.parametrize(
    ("depth", "num_stages", "channels", "stride"),
    [(18, 4, 512, 32), (18, 3, 256, 16), (18, 1, 64, 4), (50, 4, 2048, 32), (50, 3, 1024, 16)],
)
def test_strides_and_channels(depth, num_stages, channels, stride):
    with torch.device("meta"):
        (maps,) = TorchvisionResNet(depth, num_stages)(torch.randn(2, 3, 224, 160))
    assert maps.shape == (2, channels, 224 // stride, 160 // stride)


@pytest.mark.parametrize(
    ("depth", "options", "output_stride"),
    [
        (18, dict(), 4),
        (18, dict(num_stages=3), 8),
        (18, dict(strides=(1, 2, 2, 1), dilations=(1, 1, 1, 2)), 8),
        (50, dict(), 16),
        (50, dict(strides=(1, 2, 1, 1), dilations=(1, 1, 2, 4), contract_dilation=True), 4),
        (18, dict(num_stages=3, strides=(1, 3, 2)), 12),
        (18, dict(num_stages=3, strides=(1, 3, 2)), 8),
    ],
)
@pytest.mark.parametrize("size", [(64, 64), (70, 95)])
def test_a_finer_map_has_all_values_of_the_coarser(depth, options, output_stride, size):
    torch.manual_seed(0)
    net = TorchvisionResNet(depth, **options).double().eval()
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
    images, step = torch.randn(1, 3, *size, dtype=torch.float64), net.output_stride // output_stride
    (expected,) = net(images)
    assert -(-size[1] // net.output_stride) == expected.shape[3]
    net.set_output_stride(net.output_stride)
    torch.testing.assert_close(net(images)[0], expected, rtol=0, atol=0)
    net.set_output_stride(output_stride)
    assert net.output_stride == output_stride
    (maps,) = net(images)
    assert maps.shape[3] == -(-size[1] // output_stride)
    torch.testing.assert_close(maps[:, :, ::step, ::step], expected, rtol=1e-11, atol=1e-11)
    with pytest.raises(ValueError, match=r"expected one of 4"):
        net.set_output_stride(64)


def test_the_values_between_are_those_of_a_shifted_image():
    torch.manual_seed(0)
    net = TorchvisionResNet(18, num_stages=2).double().eval()
    images = torch.randn(1, 3, 256, 256, dtype=torch.float64)
    (expected,) = net(images.roll((-4, -4), dims=(2, 3)))  # by half the stride
    net.set_output_stride(4)
    (between,) = (maps[:, :, 1::2, 1::2] for maps in net(images))
    inner = (..., slice(8, -8), slice(8, -8))  # away from the border
    torch.testing.assert_close(between[inner], expected[inner], rtol=1e-11, atol=1e-11)
    assert not torch.equal(between, expected)


@pytest.mark.parametrize(("depth", "last"), [(18, "bn2"), (50, "bn3")])
def test_it_starts_as_the_method_says(depth, last):
    torch.manual_seed(0)
    for name, module in TorchvisionResNet(depth).named_modules():
        if isinstance(module, nn.BatchNorm2d):
            scale = 0 if name.split(".")[-1] == last and name.startswith("layer") else 1
            assert (module.weight == scale).all(), name
            assert not module.bias.any()
        if isinstance(module, nn.Conv2d):
            fan_out = module.out_channels * module.kernel_size[0] * module.kernel_size[1]
            assert module.weight.std().item() == pytest.approx((2 / fan_out) ** 0.5, rel=0.1), name


def test_other_sizes_are_refused():
    with pytest.raises(ValueError, match=r"depth is 20, expected one of \(18, 34"):
        TorchvisionResNet(20)
    with pytest.raises(ValueError, match="num_stages is 5, expected 1, 2, 3 or 4"):
        TorchvisionResNet(18, num_stages=5)


def resnet_config(backbone: dict) -> dict:
    config = tiny_config(num_prototypes=20, backbone=backbone)
    config["neck"]["in_channels"] = 512
    return config


def take_a_step(config: dict) -> nn.Module:
    """Build a model, initialize it, and go once through it and back, on views of 64 pixels."""
    torch.manual_seed(0)
    model = MODELS.build(config)
    model.init_weights()
    model.update_teacher(0, 10)
    geometry = random_geometry(3)
    losses = model([view.float() for view in random_views(3, 64)], geometry, mode="loss")
    (losses["loss_group"] + losses["loss_slot"]).backward()
    for name, p in model.named_parameters():
        if p.requires_grad:
            assert p.grad is not None and p.grad.isfinite().all(), name
    return model


def test_every_parameter_gets_a_gradient():
    model = take_a_step(resnet_config(dict(type="TorchvisionResNet", depth=18)))
    trained = [p for p in model.parameters() if p.requires_grad]
    assert len(trained) == len(list(model.parameters())) - len(list(model.teacher.parameters()))


@pytest.mark.parametrize("library", ["mmdet", "mmseg"])
def test_another_librarys_encoder_by_its_name(library):
    pytest.importorskip(library)
    backbone = dict(
        type=f"{library}.ResNet", depth=18, num_stages=4, out_indices=(3,), norm_eval=False
    )
    if library == "mmseg":
        backbone.update(strides=(1, 2, 2, 2), dilations=(1, 1, 1, 1))
    model = take_a_step(resnet_config(backbone))
    assert type(model.backbone).__module__.startswith(library)
    assert model(random_views(2, 64)[0].float()).shape == (2, 512, 2, 2)
    assert model.backbone.training and model.backbone.bn1.training


def test_an_encoder_with_frozen_norms_is_refused():
    pytest.importorskip("mmdet")
    backbone = dict(type="mmdet.ResNet", depth=18, out_indices=(3,))  # freezes them by default
    with pytest.raises(ConfigError, match=r"mmdet.ResNet has norm_eval=True.*set norm_eval=False"):
        MODELS.build(resnet_config(backbone))


def test_an_encoder_with_untrained_stages_is_refused():
    pytest.importorskip("mmdet")
    backbone = dict(type="mmdet.ResNet", depth=18, norm_eval=False, out_indices=(2,))
    with pytest.raises(ConfigError, match=r"num_stages=4 and out_indices=\(2,\).*num_stages=3"):
        MODELS.build(resnet_config(backbone))
    backbone.update(num_stages=3, strides=(1, 2, 2), dilations=(1, 1, 1), frozen_stages=0)
    with pytest.raises(
        ConfigError, match=r"frozen_stages=0 and \d+ frozen layers \(first: conv1.weight"
    ):
        MODELS.build(resnet_config(backbone))


class Frozen(nn.Module):
    """An encoder with an argument whose meaning only its parameters show."""

    def __init__(self, frozen_stages: int, norm_eval: bool = False) -> None:
        super().__init__()
        self.frozen_stages, self.norm_eval = frozen_stages, norm_eval
        self.stages = nn.Sequential(nn.Conv2d(3, 16, 8, stride=8), nn.BatchNorm2d(16))
        self.position = nn.Parameter(torch.zeros(16, 1, 1), requires_grad=False)  # fixed
        self.stages[:frozen_stages].requires_grad_(False)

    def train(self, mode: bool = True) -> nn.Module:
        super().train(mode)
        self.stages[1].training = mode and not self.norm_eval
        return self

    def forward(self, images):
        return (self.stages(images) + self.position,)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(frozen_stages=0), None),  # as mmpretrain's ConvNeXt: 0 freezes nothing
        (dict(frozen_stages=1), r"frozen_stages=1 and 2 frozen layers \(first: stages.0.weight\)"),
        (dict(frozen_stages=0, norm_eval=True), r"norm_eval=True .* 1 frozen .*first: stages.1\)"),
    ],
)
def test_what_is_frozen_decides_and_not_an_argument(options, message):
    config = tiny_config(backbone=dict(type=Frozen, **options))
    if message is None:
        MODELS.build(config)
    else:
        with pytest.raises(ConfigError, match=message):
            MODELS.build(config)


def test_the_papers_model_has_the_published_names_and_shapes():
    config = dict(
        type="SlotCon",
        backbone=dict(type="TorchvisionResNet"),
        neck=dict(type="PixelProjector"),
        head=dict(
            type="PrototypeHead",
            prototypes=dict(type="Prototypes"),
            group_loss=dict(type="GroupingLoss"),
            slot_loss=dict(type="SlotLoss"),
            predictor=dict(type="SlotPredictor"),
        ),
    )  # defaults are the paper's, on COCO
    with torch.device("meta"):
        model = MODELS.build(config)
    ours = {published_name(name): list(v.shape) for name, v in model.state_dict().items()}
    unpublished = [name for name in model.state_dict() if published_name(name) is None]
    del ours[None]
    published = json.loads((GOLDEN / "checkpoint_keys_r50_coco.json").read_text())
    assert ours == {name.removeprefix("module."): shape for name, shape in published.items()}
    assert unpublished == ["idle_steps"]
