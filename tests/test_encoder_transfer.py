"""The transfers of ConvNeXt, Swin and ViT: filled from a pretraining, a step, their optimizer."""

import copy
import json
from functools import cache

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS, DefaultScope
from mmengine.structures import InstanceData, PixelData
from tiny_weights import assert_same_features, slotcon_config
from torch import Tensor, nn

from benchmarks.processes import CONFIGS, ROOT
from slotcon_plugin.apis.export import export
from slotcon_plugin.errors import CheckpointError
from slotcon_plugin.models.simple_pyramid import SimplePyramid
from slotcon_plugin.models.timm_encoder import TimmEncoder
from slotcon_plugin.transfer.fill_backbone import fill_backbone

pytest.importorskip("timm")
pytest.importorskip("mmdet")
pytest.importorskip("mmseg")

# Smaller models of the same kind, and the channels of their maps.
TINY = {
    "convnext_tiny": (dict(name="convnext_atto"), [40, 80, 160, 320]),
    "swin_tiny": (
        dict(
            name="swin_tiny_patch4_window7_224",
            embed_dim=24,
            depths=(1, 2, 1, 1),
            num_heads=(1, 1, 2, 2),
        ),
        [24, 48, 96, 192],
    ),
    "vit_small": (dict(name="vit_tiny_patch16_224", embed_dim=48, num_heads=2), [48]),
}
FILES = {
    f"{network} {encoder}": next((ROOT / "configs").glob(f"*/{network}_{encoder}_*.py"))
    for network in ("mask_rcnn", "upernet", "fcn")
    for encoder in TINY
}
NARROW = dict(in_channels=16, conv_out_channels=16)
SIDE = 64  # pixels of the images
IMAGES = torch.randn(2, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))


def kind_of(name: str) -> tuple[str, str]:
    network, encoder = name.split()
    return network, encoder


def shrunk(name: str) -> Config:
    """A transfer's config with a small encoder and narrow heads."""
    network, encoder = kind_of(name)
    cfg, (options, channels) = Config.fromfile(FILES[name]), TINY[encoder]
    changes = {"model.backbone": options, "model.decode_head": dict(channels=16)}
    is_vit = encoder == "vit_small"
    wide = channels[0] if is_vit else channels
    if network == "mask_rcnn":
        changes = {
            "model.backbone": options,
            "model.neck": dict(in_channels=wide, out_channels=16),
            "model.rpn_head": dict(in_channels=16, feat_channels=16),
            "model.roi_head.bbox_roi_extractor": dict(out_channels=16),
            "model.roi_head.mask_roi_extractor": dict(out_channels=16),
            "model.roi_head.bbox_head": NARROW | dict(fc_out_channels=16),
            "model.roi_head.mask_head": NARROW,
        }
    elif network == "fcn":
        changes["model.decode_head"]["in_channels"] = channels[-1]
        changes["model.auxiliary_head"] = dict(in_channels=wide if is_vit else channels[2])
    elif is_vit:
        changes |= {
            "model.neck": dict(in_channels=wide, out_channels=16),
            "model.decode_head": dict(channels=16, in_channels=[16] * 4),
            "model.auxiliary_head": dict(in_channels=16),
        }
    else:
        changes["model.decode_head"]["in_channels"] = channels
        changes["model.auxiliary_head"] = dict(in_channels=channels[2])
    cfg.merge_from_dict(changes)
    cfg.model = json.loads(json.dumps(cfg.model.to_dict()).replace("SyncBN", "BN"))
    return cfg


@cache
def pretrained(encoder: str) -> nn.Module:
    """A SlotCon whose teacher has its own weights, none of them 0."""
    torch.manual_seed(0)
    backbone = dict(type="TimmEncoder", drop_path_rate=0.1, **TINY[encoder][0])
    config = slotcon_config(18, prototypes=8) | dict(backbone=backbone)
    del config["neck"]["in_channels"]
    model = MODELS.build(config)
    with torch.no_grad():
        for p in model.teacher.backbone.parameters():
            p.add_(0.05 * torch.rand_like(p))
    model.cfg = Config(dict(model=config))
    return model.eval()


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pretrained")

    @cache
    def file(encoder: str):
        model, path = pretrained(encoder), folder / f"{encoder}.pth"
        meta = dict(epoch=1, iter=1, cfg=model.cfg.pretty_text)
        torch.save(dict(meta=meta, state_dict=model.state_dict()), path)
        export(path, folder / f"{encoder}_exported.pth", "openmmlab")
        return folder / f"{encoder}_exported.pth"

    return file


def sample(network: str):
    """An image's labels: one object, or random classes."""
    from mmdet.structures import DetDataSample
    from mmdet.structures.mask import BitmapMasks
    from mmseg.structures import SegDataSample

    if network == "mask_rcnn":
        objects = InstanceData(
            bboxes=torch.tensor([[4.0, 4.0, 40.0, 40.0]]),
            labels=torch.tensor([1]),
            masks=BitmapMasks(np.ones((1, SIDE, SIDE), np.uint8), SIDE, SIDE),
        )
        found = DetDataSample(gt_instances=objects)
    else:
        labels = torch.randint(0, 150, (1, SIDE, SIDE))
        found = SegDataSample(gt_sem_seg=PixelData(data=labels))
    shape = dict.fromkeys(("img_shape", "batch_input_shape", "pad_shape", "ori_shape"), (SIDE,) * 2)
    found.set_metainfo(shape | dict(scale_factor=(1.0, 1.0)))
    return found


@torch.no_grad()
def teachers_maps(encoder: str, outputs: list[int], images: Tensor) -> tuple[Tensor, ...]:
    whole = TimmEncoder(**TINY[encoder][0], out_indices=outputs).eval()
    whole.load_state_dict(pretrained(encoder).teacher.backbone.state_dict())
    return whole(images)


@pytest.mark.parametrize("name", FILES)
def test_a_transfer_starts_with_the_teachers_maps_and_takes_a_step(name, files):
    network, encoder = kind_of(name)
    cfg = shrunk(name)
    torch.manual_seed(1)
    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        net = MODELS.build(cfg.model).eval()
        report = fill_backbone(net, cfg.model, str(files(encoder)))
        assert "tensors used" in report and "left out" not in report
        expected = teachers_maps(encoder, net.backbone.outputs, IMAGES)
        with torch.no_grad():
            maps = net.backbone(IMAGES)
            pyramid = net.extract_feat(IMAGES)
        assert len(maps) == len(expected) == len(net.backbone.strides)
        for one, other in zip(maps, expected, strict=True):
            assert_same_features(one, other)
        if network != "fcn":  # four maps of the strides 4 to 32, and one more for the detector
            sides = [one.shape[-1] for one in pyramid]
            assert sides == [SIDE // s for s in (4, 8, 16, 32, 64)][: len(sides)]
            assert len(sides) == (5 if network == "mask_rcnn" else 4)
        optim = dict(cfg.optim_wrapper)
        wrapper = build_optim_wrapper(net, optim)
        net.train()
        losses = net.loss(IMAGES, [sample(network), sample(network)])
        total, _ = net.parse_losses(losses)
        before = copy.deepcopy(net.backbone.state_dict())
        total.backward()
    assert total.isfinite()
    trained = dict(net.backbone.named_parameters(prefix="backbone"))
    trained |= dict(net.neck.named_parameters(prefix="neck")) if net.with_neck else {}
    assert not [name for name, p in trained.items() if p.grad is None]
    wrapper.optimizer.step()
    moved = [name for name, p in net.backbone.named_parameters() if not p.equal(before[name])]
    assert any("norm" in name for name in moved) and len(moved) > len(before) // 2


@pytest.mark.parametrize("name", FILES)
def test_rates_and_decays_of_a_transfer(name):
    """By hand: the layers of the small encoders, counted from the top."""
    _, encoder = kind_of(name)
    cfg = shrunk(name)
    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        net = MODELS.build(cfg.model)
        groups = build_optim_wrapper(net, dict(cfg.optim_wrapper)).optimizer.param_groups
    names = {id(p): name for name, p in net.named_parameters()}
    found = {names[id(group["params"][0])]: group for group in groups}
    assert found.keys() == set(names.values())
    decay, first, count = {
        "convnext_tiny": (0.9, "stem.0.weight", 1 + 2 + 2 + 6 + 2),
        "swin_tiny": (0.9, "patch_embed.proj.weight", 1 + 1 + 2 + 1 + 1),
        "vit_small": (0.7, "patch_embed.proj.weight", 1 + 12),
    }[encoder]
    assert found[f"backbone.{first}"]["lr"] == pytest.approx(1e-4 * decay**count)
    for name, group in found.items():
        (p,) = group["params"]
        exempt = p.ndim == 1 or name.endswith(("pos_embed", "cls_token", "position_bias_table"))
        assert group["weight_decay"] == (0.0 if exempt else 0.05), name
        assert (group["lr"] == 1e-4) != name.startswith("backbone."), name


@pytest.mark.parametrize(
    ("pretraining", "encoder"),
    [
        ("slotcon_convnext_tiny_coco", "convnext_tiny"),
        ("slotcon_vit_small_coco", "vit_small"),
    ],
)
def test_the_transfers_have_the_encoders_of_the_pretrainings(pretraining, encoder):
    """Names and shapes, so that --backbone fills them."""

    def shapes(path):
        backbone = dict(Config.fromfile(path).model.backbone)
        with torch.device("meta"):
            state = MODELS.build(backbone).state_dict()
        return {name: value.shape for name, value in state.items()}

    expected = shapes(CONFIGS / f"{pretraining}.py")
    for name, path in FILES.items():
        if kind_of(name)[1] == encoder:
            assert shapes(path) == expected


def test_another_encoder_is_refused(files):
    cfg = shrunk("fcn vit_small")
    with DefaultScope.overwrite_default_scope("mmseg"):
        net = MODELS.build(cfg.model)
    with pytest.raises(CheckpointError, match="missing: "):
        fill_backbone(net, cfg.model, str(files("convnext_tiny")))


def test_the_simple_pyramid():
    """Sizes, and the arithmetic of the levels by hand, on a map that is constant."""
    pyramid = SimplePyramid([3, 8], out_channels=5, num_outs=6)
    maps = pyramid((torch.zeros(1, 3, 40, 60), torch.randn(1, 8, 10, 15)))
    sizes = [(40, 60), (20, 30), (10, 15), (5, 7), (3, 4), (2, 2)]
    assert [tuple(one.shape) for one in maps] == [(1, 5, *size) for size in sizes]
    assert torch.equal(maps[4], maps[3][:, :, ::2, ::2])
    sum(one.square().sum() for one in maps).backward()
    assert not [name for name, p in pyramid.named_parameters() if p.grad is None]
    channels = [[m.in_channels for m in pyramid.modules() if isinstance(m, nn.ConvTranspose2d)]]
    assert channels == [[8, 4, 8]]
    # A map of stride 1: a 1x1 and a 3x3 convolution, each normalized over the channels.
    x = torch.randn(1, 8, 3, 3)
    first, _, second, _ = pyramid.convs[2]
    y = normalized(nn.functional.conv2d(x, first.weight))
    y = normalized(nn.functional.conv2d(y, second.weight, padding=1))
    torch.testing.assert_close(pyramid((x,))[2], y)
    with pytest.raises(ValueError, match="num_outs is 3, expected an integer of at least 4"):
        SimplePyramid(8, num_outs=3)


def normalized(x_bchw: Tensor) -> Tensor:
    variance, mean = torch.var_mean(x_bchw, 1, correction=0, keepdim=True)
    return (x_bchw - mean) / (variance + 1e-6).sqrt()
