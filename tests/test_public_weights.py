"""Public weights to start from: torchvision's detectors and DETR, timm's own, files of ViTs."""

import torch
from torch import nn
from torchvision.models import resnet18
from torchvision.models.detection import MaskRCNN
from torchvision.models.detection.backbone_utils import resnet_fpn_backbone
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead

from slotcon_plugin.checkpoints import fill, read_encoder
from slotcon_plugin.evaluation.networks import open_encoder
from slotcon_plugin.models.backbones import TorchvisionResNet


def below(prefix: str, state: dict) -> dict:
    return {prefix + name: value for name, value in state.items()}


def test_the_backbone_of_torchvisions_detectors(tmp_path):
    """Their norms are frozen, without a counter of batches, as are those of old files."""
    torch.manual_seed(0)
    backbone = resnet_fpn_backbone(backbone_name="resnet18", weights=None)
    heads = dict(box_head=TwoMLPHead(256 * 49, 4), box_predictor=FastRCNNPredictor(4, 2))
    detector = MaskRCNN(backbone, **heads, mask_predictor=nn.Identity()).eval()
    for name, buffer in detector.named_buffers():
        if "body" in name:
            buffer.uniform_(0.5, 1.5)
    images = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        expected = backbone.body(images)["3"]
    body = backbone.body.state_dict()
    assert not any("num_batches_tracked" in name for name in body)
    whole = resnet18().state_dict()
    old = {name: value for name, value in whole.items() if "num_batches_tracked" not in name}
    files = {
        "detector": detector.state_dict(),
        "backbone": below("backbone.", backbone.state_dict()),
        "detr": {"model": below("backbone.0.body.", body) | {"class_embed.bias": torch.ones(2)}},
        "old": old | body,
    }
    for name, content in files.items():
        path = tmp_path / f"{name}.pth"
        torch.save(content, path)
        encoder = read_encoder(path)
        assert encoder.kind == ("torchvision" if name == "old" else "network")
        own = TorchvisionResNet(18).eval()
        fill(own, encoder)
        with torch.no_grad():
            found, tolerance = own(images)[0], 1e-5 * float(expected.abs().max())
        torch.testing.assert_close(found, expected, rtol=0, atol=tolerance)
    assert open_encoder(str(path))(torch.zeros(1, 3, 32, 32).byte()).shape == (1, 512, 1, 1)
