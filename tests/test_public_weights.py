"""Public weights to start from: torchvision's detectors and DETR, timm's own, files of ViTs."""

import re

import pytest
import torch
from mmengine.config import Config, ConfigDict
from mmengine.registry import MODELS
from tiny_weights import slotcon_config
from torch import nn
from torchvision.models import resnet18
from torchvision.models.detection import MaskRCNN
from torchvision.models.detection.backbone_utils import resnet_fpn_backbone
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead

from slotcon_plugin.checkpoints import fill, read_encoder
from slotcon_plugin.checkpoints.configured import ConfiguredEncoder
from slotcon_plugin.checkpoints.left_out import LeftOut
from slotcon_plugin.errors import CheckpointError, ConfigError
from slotcon_plugin.evaluation.limits import describe_limits
from slotcon_plugin.evaluation.networks import open_encoder
from slotcon_plugin.models.backbones import TorchvisionResNet
from slotcon_plugin.transfer.fill_backbone import check_source, fill_backbone, name_backbone


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


def pretraining(**backbone) -> tuple[ConfigDict, nn.Module]:
    """A narrow SlotCon with an encoder, by default a very small ViT of timm."""
    backbone = dict(type="TimmEncoder", name="test_vit") | backbone
    config = slotcon_config(18)
    del config["neck"]["in_channels"]
    config = ConfigDict(config | dict(backbone=backbone))
    return config, MODELS.build(config)


def test_timms_own_weights(tmp_path, monkeypatch):
    """From the cache of the Hugging Face Hub, where timm's download puts them."""
    timm = pytest.importorskip("timm")
    constants = pytest.importorskip("huggingface_hub.constants")
    safetensors = pytest.importorskip("safetensors.torch")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    config, model = pretraining()
    with pytest.raises(CheckpointError, match=r"test_vit.r160_in1k could not .*download them from"):
        fill_backbone(model, config, "timm")
    folder = tmp_path / "models--timm--test_vit.r160_in1k"
    (folder / "snapshots" / "abc").mkdir(parents=True)
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text("abc")
    weights = timm.create_model("test_vit").state_dict()
    safetensors.save_file(weights, folder / "snapshots" / "abc" / "model.safetensors")
    report = fill_backbone(model, config, "timm")
    assert "from timm:test_vit.r160_in1k" in report and "license apache-2.0" in report
    assert "160 x 160 pixels with mean (0.5, 0.5, 0.5)" in report
    for one in (model.backbone, model.teacher.backbone):
        assert all(torch.equal(value, weights[name]) for name, value in one.state_dict().items())


@pytest.mark.parametrize(
    ("source", "backbone", "message"),
    [
        ("supervised", dict(), "backbone is TimmEncoder.*--backbone timm"),
        ("timm", dict(type="TorchvisionResNet", depth=18), "--backbone supervised for a ResNet"),
    ],
)
def test_weights_that_other_kinds_of_encoders_have_are_refused(source, backbone, message):
    pytest.importorskip("timm")
    backbone = dict(type="TimmEncoder", name="test_vit") | backbone
    if backbone["type"] != "TimmEncoder":
        del backbone["name"]
    cfg = Config(dict(model=dict(type="SlotCon", backbone=backbone)))
    with pytest.raises(ConfigError, match=message):
        name_backbone(cfg, source)


def test_files_of_vits_in_other_layouts(tmp_path):
    """MAE, iBOT, DINOv2; other sizes of images and of patches; half precision."""
    timm = pytest.importorskip("timm")
    torch.manual_seed(0)
    config, model = pretraining()
    vit = timm.create_model("test_vit", img_size=224).state_dict()
    own = timm.create_model("test_vit").state_dict()
    decoder = {"mask_token": torch.zeros(1, 1, 8), "decoder_pos_embed": torch.zeros(1, 197, 8)}
    decoder |= {"decoder_blocks.0.attn.qkv.weight": torch.zeros(24, 8)}
    body = {name: value for name, value in own.items() if not name.startswith("head.")}
    grid = (1, 197, 64), (1, 101, 64)
    files = {
        "mae": ({"model": body | decoder}, "left out: decoder_pos_embed, .*mask_token"),
        "ibot": ({"state_dict": body | {"masked_embed": torch.zeros(1, 64)}}, "masked_embed"),
        "larger": (vit, "pos_embed resized from {} to {}".format(*grid)),
        "half": ({n: v.half() for n, v in own.items()}, "half precision are now float32"),
    }
    for name, (content, remark) in files.items():
        torch.save(content, tmp_path / f"{name}.pth")
        report = fill_backbone(model, config, str(tmp_path / f"{name}.pth"))
        assert re.search(remark.replace("(", "[(]").replace(")", "[)]"), report), report
        weights = {n: v.float() for n, v in (vit if name == "larger" else own).items()}
        atol = 1e-3 if name == "half" else 0
        for part in (model.backbone, model.teacher.backbone):
            for one, value in part.state_dict().items():
                if name != "larger" or one != "pos_embed":
                    torch.testing.assert_close(value, weights[one], rtol=0, atol=atol)
    options = dict(type="TimmEncoder", name="vit_small_patch14_reg4_dinov2", depth=1)
    options |= dict(embed_dim=24, num_heads=2, img_size=56)
    like = ConfiguredEncoder(options)
    state = like.build().state_dict()
    dinov2 = dict(state)
    dinov2["register_tokens"] = dinov2.pop("reg_token")
    dinov2["pos_embed"] = torch.cat([torch.ones(1, 1, 24), dinov2["pos_embed"]], 1)
    torch.save(dinov2 | {"mask_token": torch.zeros(1, 24)}, tmp_path / "dinov2.pth")
    encoder = read_encoder(tmp_path / "dinov2.pth", like=like)
    assert "register_tokens, mask_token became reg_token" in encoder.remarks[0]
    assert torch.equal(encoder.state_dict["pos_embed"], state["pos_embed"])
    assert torch.equal(encoder.state_dict["cls_token"], state["cls_token"] + 1)


def test_what_does_not_fit_a_vit_is_refused_unless_it_is_named(tmp_path):
    timm = pytest.importorskip("timm")
    config, model = pretraining()
    path = str(tmp_path / "a.pth")
    own = timm.create_model("test_vit").state_dict()
    like = ConfiguredEncoder(dict(type="TimmEncoder", name="test_vit"))
    wide = torch.zeros(1, 2, 10_000)  # would be 100 times as large
    for change, message in (
        ({"extra.weight": torch.ones(1)}, "1 unexpected: extra.weight"),
        ({"pos_embed": wide}, r"1 of another shape: pos_embed \(1, 2, 10000\)"),
        ({"patch_embed.proj.weight": torch.ones(2, 2)}, "another shape: patch_embed.proj.weight"),
        ({"norm.weight": torch.full((64,), torch.nan)}, "not finite"),
    ):
        torch.save(own | change, path)
        with pytest.raises(CheckpointError, match=message):
            check_source(path, like)
    torch.save({n: v for n, v in own.items() if n != "norm.bias"} | {"extra.weight": wide}, path)
    with pytest.raises(CheckpointError, match=r"1 missing: norm\.bias; 1 unexpected"):
        fill_backbone(model, config, path)
    left_out = LeftOut(["norm.bias", "extra.*"])
    check_source(path, like, left_out=left_out)
    with torch.no_grad():
        model.backbone.norm.bias.fill_(3)
    fill_backbone(model, config, path, left_out)
    assert left_out.names == {path: ["norm.bias", "extra.weight"]}
    assert torch.equal(model.backbone.state_dict()["cls_token"], own["cls_token"])
    assert (model.backbone.norm.bias == 3).all()


@pytest.mark.parametrize("name", ["mixer_s32_224", "beitv2_base_patch16_224"])
def test_models_of_one_size_of_images_say_it_before_training(name):
    pytest.importorskip("timm")
    options = dict(depth=1, embed_dim=24) if name.startswith("beit") else {}
    _, model = pretraining(name=name, **options)
    views = dict(dataset=dict(views=dict(size=96)))
    cfg = Config(dict(train_dataloader=views))
    with pytest.raises(ConfigError, match=r"224 x 224 pixels, .*size=224`, or set img_size=96"):
        describe_limits(model, cfg, None)
