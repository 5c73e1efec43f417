"""TimmEncoder: timm's models as encoders, under timm's names."""

import copy

import pytest
import torch
from torch import nn

from slotcon_plugin.errors import ConfigError
from slotcon_plugin.models.timm_encoder import TimmEncoder

timm = pytest.importorskip("timm")

# Small models of many kinds: channels last inside, windows, tokens before the patches, distillation
# tokens, depthwise convolutions.
NAMES = {
    "resnet18": 32,
    "convnext_atto": 32,
    "convnextv2_atto": 32,
    "vit_tiny_patch16_224": 16,
    "deit_tiny_distilled_patch16_224": 16,
    "vit_tiny_patch16_dinov3_qkvb": 16,
    "swin_tiny_patch4_window7_224": 32,
    "swinv2_cr_tiny_ns_224": 32,
    "pvt_v2_b0": 32,
    "efficientnet_b0": 32,
    "mobilenetv3_small_050": 32,
    "regnety_002": 32,
    "caformer_s18": 32,
}


@pytest.mark.parametrize("name", NAMES)
def test_the_map_has_the_channels_and_stride_that_are_stated_and_all_weights_are_trained(name):
    if name not in timm.list_models():
        pytest.skip(f"this timm has no {name}")
    with torch.device("meta"):
        encoder = TimmEncoder(name)
        (output,) = encoder(torch.zeros(2, 3, 192, 224))
    assert encoder.strides == (NAMES[name],)
    assert output.shape == (2, *encoder.channels, 192 // NAMES[name], 224 // NAMES[name])
    output.sum().backward()
    unused = [name for name, p in encoder.named_parameters() if p.grad is None]
    assert not unused


@pytest.mark.parametrize("name", ["resnet18", "convnext_atto", "vit_tiny_patch16_224"])
def test_names_and_features_are_those_of_timm(name):
    torch.manual_seed(0)
    encoder = TimmEncoder(name).eval()
    reference = timm.create_model(name, num_classes=0).eval()
    weights = encoder.state_dict()
    missing, unexpected = reference.load_state_dict(weights, strict=False)
    assert not unexpected and all("norm" in one for one in missing)  # of the classifier
    images = torch.randn(1, 3, 224, 224)
    expected = reference.forward_intermediates(images, norm=True, intermediates_only=True)[-1]
    torch.testing.assert_close(encoder(images)[0], expected)


def test_several_outputs_and_those_from_the_end():
    encoder = TimmEncoder("convnext_atto", out_indices=(0, 1, 2, 3))
    assert encoder.strides == (4, 8, 16, 32)
    maps = encoder(torch.zeros(1, 3, 64, 64))
    assert [one.shape[1:] for one in maps] == [
        (c, 64 // s, 64 // s) for c, s in zip(encoder.channels, encoder.strides, strict=True)
    ]
    third = TimmEncoder("convnext_atto", out_indices=(-2,))
    assert third.strides == (16,)
    assert not any(name.startswith("stages.3") for name in third.state_dict())


def test_a_copy_is_independent_and_modes_and_casts_reach_the_model():
    encoder = TimmEncoder("vit_tiny_patch16_224", drop_path_rate=0.5)
    other = copy.deepcopy(encoder)
    with torch.no_grad():
        for p in other.parameters():
            p.zero_()
    assert all(p.abs().sum() == 0 for p in other.net.parameters())
    assert any(p.abs().sum() > 0 for p in encoder.parameters())
    assert not encoder.eval().net.training and encoder.train().net.training
    assert encoder.double()(torch.zeros(1, 3, 32, 32).double())[0].dtype == torch.float64
    assert isinstance(encoder.net.pos_embed, nn.Parameter)
    assert encoder.net.pos_embed is encoder.pos_embed


def test_sizes_that_are_no_multiple_of_the_patches_are_padded():
    encoder = TimmEncoder("vit_small_patch14_dinov2", depth=1).eval()
    assert encoder(torch.zeros(1, 3, 30, 56))[0].shape[2:] == (3, 4)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(name="resnet19"), "The model 'resnet19' is not in timm"),
        (dict(name="convnext_ato"), "Did you mean convnext_atto"),
        (dict(name=3), "The model 3 is not in timm"),
        (dict(name="resnet18", out_indices=(5,)), "expected increasing numbers from 0 to 4"),
        (dict(name="resnet18", out_indices=()), "expected increasing numbers"),
        (dict(name="resnet18", out_indices=(3, 1)), "expected increasing numbers"),
        (dict(name="resnet18", nonsense=1), "nonsense"),
        (dict(name="resnet18", pretrained=True), "--backbone FILE"),
        (dict(name="resnet18", num_classes=10), "num_classes=10 cannot be set"),
        (dict(name="resnet18", in_chans=1), "in_chans=1 cannot be set, since images are RGB"),
        (dict(name="resnet18", features_only=True), "features_only=True cannot be set"),
    ],
)
def test_wrong_options_are_explained(options, message):
    with pytest.raises(ConfigError, match=message):
        TimmEncoder(**options)
