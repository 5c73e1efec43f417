"""A pretrained decoder (DeCon) arrives in mmdet's, detectron2's and mmseg's networks, or not."""

import copy
import json
from functools import cache

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS
from tiny_weights import assert_same_features, slotcon_config
from torch import nn

from benchmarks.processes import ROOT
from slotcon_plugin.apis.export import export
from slotcon_plugin.checkpoints import read_encoder
from slotcon_plugin.checkpoints.encoder import digest
from slotcon_plugin.checkpoints.left_out import LeftOut
from slotcon_plugin.errors import CheckpointError, ConfigError
from slotcon_plugin.transfer.fill_backbone import fill_backbone, name_backbone

pytest.importorskip("mmdet")
pytest.importorskip("mmseg")

CHANNELS = (64, 128, 256, 512)  # of ResNet-18's stages
BN = dict(type="BN")
FPN = dict(type="mmdet.FPN", in_channels=list(CHANNELS), out_channels=16, num_outs=4, norm_cfg=BN)
FCN = dict(
    type="FCNConvolutions", in_channels=512, channels=16, num_convs=2, dilation=2, norm_cfg=BN
)
DECODERS = {  # decoder, number of levels
    "single": (FPN, 1),
    "deep": (FPN, 4),
    "no norm": (FPN | dict(norm_cfg=None), 1),
    "fcn": (FCN, 1),
    "another": (dict(FPN, type="mmdet.PAFPN"), 4),
}


def config_of(kind: str) -> dict:
    decoder, levels = DECODERS[kind]
    config = slotcon_config(18, prototypes=8)
    config["backbone"]["out_indices"] = (0, 1, 2, 3)
    neck = dict(type="PixelProjector", in_channels=16, hidden_channels=8, out_channels=16)
    heads = [copy.deepcopy(config["head"]) for _ in range(levels)]
    return config | dict(decoder=decoder, decoder_neck=neck, decoder_head=heads)


@cache
def pretrained(kind: str) -> nn.Module:
    """In evaluation mode; every tensor of every decoder counts, and statistics are its own."""
    torch.manual_seed(len(kind))
    model = MODELS.build(config_of(kind))
    with torch.no_grad():
        for part in model.modules():
            if isinstance(part, nn.BatchNorm2d):
                part.weight.uniform_(0.3, 0.9)
                part.bias.uniform_(-0.3, 0.3)
                part.running_mean.uniform_(-0.3, 0.3)
                part.running_var.uniform_(0.7, 1.5)
                part.num_batches_tracked.fill_(3)
            elif isinstance(part, nn.Conv2d) and part.bias is not None:
                part.bias.uniform_(-0.3, 0.3)
    return model.eval()


def maps_of(model: nn.Module, images: torch.Tensor) -> list[torch.Tensor]:
    """The teacher's maps of the decoder's trained levels."""
    with torch.no_grad():
        maps = model.teacher.decoder(model.teacher.backbone(images))
    return list(maps[: len(model.decoder_heads)])


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("decon")

    @cache
    def file(kind: str):
        cfg = Config(dict(model=config_of(kind)))
        path = folder / f"{kind.replace(' ', '_')}.pth"
        meta = dict(epoch=1, iter=10, cfg=cfg.pretty_text)
        torch.save(dict(meta=meta, state_dict=pretrained(kind).state_dict()), path)
        return path

    return file


IMAGES = torch.randn(2, 3, 96, 96, generator=torch.Generator().manual_seed(0))


def mask_rcnn(**neck) -> tuple[nn.Module, Config]:
    cfg = Config.fromfile(ROOT / "configs" / "det" / "mask_rcnn_r18_tiny.py")
    small = dict(in_channels=16)
    cfg.merge_from_dict(
        {
            "model.neck": dict(out_channels=16) | neck,
            "model.rpn_head": dict(in_channels=16, feat_channels=16),
            "model.roi_head.bbox_head": small | dict(conv_out_channels=16, fc_out_channels=16),
            "model.roi_head.mask_head": small | dict(conv_out_channels=16),
        }
    )
    text = json.dumps(cfg.model.to_dict()).replace("SyncBN", "BN")
    cfg.model = json.loads(text)
    torch.manual_seed(5)
    return MODELS.build(dict(cfg.model, _scope_="mmdet")).eval(), cfg


@pytest.mark.parametrize("kind", ["single", "deep", "no norm"])
def test_mmdets_mask_rcnn(files, kind):
    neck = dict(norm_cfg=None) if kind == "no norm" else {}
    net, cfg = mask_rcnn(**neck)
    before = copy.deepcopy(net.neck.state_dict())
    report = fill_backbone(net, cfg.model, str(files(kind)))
    expected = maps_of(pretrained(kind), IMAGES)
    with torch.no_grad():
        found = net.extract_feat(IMAGES)
    assert len(found) == 5
    for one, other in zip(found, expected, strict=False):
        assert_same_features(one, other)
    encoder, decoder = report.splitlines()
    assert "all 120 tensors used" in encoder and f"from {files(kind)} in neck" in decoder
    kept = [f"fpn_convs.{i}" for i in range(len(expected), 4)]
    assert ("initial weights remain in " + ", ".join(kept) in decoder) == bool(kept)
    for name, value in net.neck.state_dict().items():
        assert torch.equal(value, before[name]) == name.startswith(tuple(kept) or "-"), name


@pytest.mark.parametrize("dilation", [2, 1])
def test_mmsegs_fcn(files, dilation):
    cfg = Config.fromfile(ROOT / "configs" / "seg" / "fcn_r18_tiny.py")
    cfg.merge_from_dict({"model.decode_head": dict(channels=16, dilation=dilation)})
    cfg.model = json.loads(json.dumps(cfg.model.to_dict()).replace("SyncBN", "BN"))
    net = MODELS.build(dict(cfg.model, _scope_="mmseg")).eval()
    before = net.decode_head.conv_seg.weight.clone()
    line = fill_backbone(net, cfg.model, str(files("fcn"))).splitlines()[1]
    assert "12 tensors used; initial weights remain in conv_seg" in line
    assert ("here with dilation 1 instead of 2" in line) == (dilation == 1)
    assert torch.equal(net.decode_head.conv_seg.weight, before)
    (expected,) = maps_of(pretrained("fcn"), IMAGES)
    with torch.no_grad():
        found = net.decode_head.convs(net.extract_feat(IMAGES)[-1])
    if dilation == 2:
        assert_same_features(found, expected)


def detectron2_mask_rcnn(norm: str = "BN", channels: int = 16):
    pytest.importorskip("detectron2", reason="detectron2 is in no registry; see docs/transfers.md")
    from detectron2.modeling import build_model

    from slotcon_plugin.transfer.detectron2_route import read_yaml

    yaml = ROOT / "configs" / "det" / "detectron2" / "mask_rcnn_r18_mini.yaml"
    options = {
        "MODEL.FPN.OUT_CHANNELS": channels,
        "MODEL.FPN.NORM": norm,
        "MODEL.ROI_BOX_HEAD.CONV_DIM": 16,
        "MODEL.ROI_BOX_HEAD.FC_DIM": 16,
        "MODEL.ROI_MASK_HEAD.CONV_DIM": 16,
    }
    cfg = read_yaml(yaml, [str(word) for pair in options.items() for word in pair])
    torch.manual_seed(5)
    return build_model(cfg).eval()


@pytest.mark.parametrize("kind", ["single", "deep", "no norm"])
@pytest.mark.parametrize("suffix", [".pkl", ".pth"])
def test_detectron2s_mask_rcnn(files, tmp_path, kind, suffix):
    net = detectron2_mask_rcnn("" if kind == "no norm" else "BN")
    from detectron2.checkpoint import DetectionCheckpointer

    from slotcon_plugin.transfer.detectron2_route import check_backbone

    out = tmp_path / f"encoder{suffix}"
    export(files(kind), out, "detectron2")
    before = copy.deepcopy(net.backbone.state_dict())
    DetectionCheckpointer(net).load(str(out))
    expected = maps_of(pretrained(kind), IMAGES)
    with torch.no_grad():
        found = net.backbone(IMAGES)
    for level, map_bchw in enumerate(expected):
        assert_same_features(found[f"p{level + 2}"], map_bchw)
    line = check_backbone(net, str(files(kind)), 18).splitlines()[1]
    kept = [f"fpn_output{i + 2}" for i in range(len(expected), 4)]
    assert ("initial weights remain in " + ", ".join(kept) in line) == bool(kept)
    state = net.backbone.state_dict()
    for name in (name for name in before if name.startswith(tuple(kept) or "-")):
        assert torch.equal(state[name], before[name])


def test_detectron2_refuses_another_fpn(files):
    net = detectron2_mask_rcnn("", 8)
    from slotcon_plugin.transfer.detectron2_route import check_backbone

    with pytest.raises(CheckpointError, match=r"FPN of 4 lateral .* backbone.fpn_lateral2.norm"):
        check_backbone(net, str(files("single")), 18)
    assert "decoder" not in check_backbone_alone(net, files("single"))
    line = fill_network_line(net, files("fcn"))
    assert "FCNHead of 2 convolutions" in line and "is left out" in line


def check_backbone_alone(net, path):
    from slotcon_plugin.transfer.fill_backbone import fill_network

    return fill_network(net, read_encoder(path, parts="encoder"))


def fill_network_line(net, path):
    from slotcon_plugin.transfer.fill_backbone import fill_network

    return fill_network(net, read_encoder(path)).splitlines()[1]


# ---- what does not fit --------------------------------------------------------------------------


def test_a_decoder_that_fits_partly_is_refused(files):
    net, cfg = mask_rcnn(norm_cfg=None)
    before = copy.deepcopy(net.state_dict())
    with pytest.raises(CheckpointError) as error:
        fill_backbone(net, cfg.model, str(files("single")))
    for word in ("MaskRCNN.neck", "neck.lateral_convs.0.bn.weight", "--parts encoder", "missing"):
        assert word in str(error.value)
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    report = fill_backbone(net, cfg.model, str(files("single")), parts="encoder")
    assert report.startswith("backbone:") and "\n" not in report
    assert torch.equal(
        net.neck.lateral_convs[0].conv.weight, before["neck.lateral_convs.0.conv.weight"]
    )

    wide, cfg = mask_rcnn(num_outs=5, add_extra_convs="on_output")
    assert "fpn_convs.4" in fill_backbone(wide, cfg.model, str(files("deep"))).splitlines()[1]
    left_out = LeftOut(["neck.*.bn.*", "neck.*.conv.bias"])
    net, cfg = mask_rcnn(norm_cfg=None)
    line = fill_backbone(net, cfg.model, str(files("deep")), left_out).splitlines()[1]
    assert "8 tensors used" in line
    assert len(left_out.names[str(files("deep"))]) == 8 * 5


def test_a_target_of_another_kind(files):
    net, cfg = mask_rcnn()
    before = copy.deepcopy(net.neck.state_dict())
    for kind, named in (("fcn", "FCNHead of 2 convolutions"), ("another", "PAFPN")):
        _, line = fill_backbone(net, cfg.model, str(files(kind))).splitlines()
        assert f"the file's {named}" in line and "is left out, since MaskRCNN has no" in line
        assert "neck: FPN" in line
    assert all(torch.equal(value, before[name]) for name, value in net.neck.state_dict().items())
    neck = dict(FPN, type="PAFPN", num_outs=5, _delete_=True)
    net, cfg = mask_rcnn(**neck)
    fill_backbone(net, cfg.model, str(files("another")))
    with torch.no_grad():
        found = net.extract_feat(IMAGES)
    for one, other in zip(found, maps_of(pretrained("another"), IMAGES), strict=False):
        assert_same_features(one, other)


def test_a_pretraining_takes_it_too(files):
    model = MODELS.build(config_of("single"))
    report = fill_backbone(model, Config(config_of("single")), str(files("single")))
    assert "in decoder" in report.splitlines()[1]
    for one, other in zip(maps_of(model.eval(), IMAGES), maps_of(pretrained("single"), IMAGES)):
        assert_same_features(one, other)
    with pytest.raises(CheckpointError, match=r"decoder.fpn_convs.1.conv.weight"):
        fill_backbone(model, Config(config_of("single")), str(files("deep")))
    alone = MODELS.build(slotcon_config(18, prototypes=8))
    report = fill_backbone(alone, Config(slotcon_config(18)), str(files("single")))
    assert "SlotCon has no such decoder (neck: PixelProjector)" in report


def test_parts_in_a_config(files):
    cfg = Config(dict(model=config_of("single")))
    with pytest.raises(ConfigError, match="give --backbone FILE"):
        name_backbone(cfg, None, "encoder")
    name_backbone(cfg, str(files("single")), "encoder")
    assert cfg.default_hooks.backbone.parts == "encoder"
    with pytest.raises(ConfigError, match="parts is 'decoder', expected 'all' or 'encoder'"):
        read_encoder(files("single"), parts="decoder")


# ---- files --------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["deep", "fcn", "another"])
def test_exports_have_it(files, tmp_path, capsys, kind):
    first = read_encoder(files(kind))
    teacher = pretrained(kind).teacher.decoder.state_dict()
    assert first.decoder.state_dict.keys() == teacher.keys()
    formats = ["openmmlab.pth", "openmmlab.safetensors", "detectron2.pkl", "timm.pth"]
    for to, suffix in (one.split(".") for one in formats):
        out = tmp_path / f"{to}.{suffix}"
        export(files(kind), out, to)
        report, again = capsys.readouterr().out, read_encoder(out)
        assert again.meta["digest"] == first.meta["digest"]
        if to == "timm" or (to == "detectron2" and kind in ("fcn", "another")):
            assert f"left out: {to} has no {first.decoder.name}" in report
            assert again.decoder is None and "decoder" not in again.meta
            continue
        assert again.meta == first.meta
        assert digest(again.decoder.state_dict) == digest(teacher)
        assert again.decoder.state_dict.keys() == teacher.keys()
        assert "from teacher.decoder." in report
        alone = read_encoder(out, parts="encoder")
        assert alone.decoder is None and "decoder" not in alone.meta
        assert alone.state_dict.keys() == first.state_dict.keys()
    export(files(kind), tmp_path / "alone.pth", "openmmlab", parts="encoder")
    state = torch.load(tmp_path / "alone.pth", weights_only=True)["state_dict"]
    assert "conv1.weight" in state and len(state) == 120
    assert read_encoder(tmp_path / "alone.pth").decoder is None


def test_a_folder_for_timm_says_that_it_has_no_decoder(files, tmp_path, capsys):
    export(files("fcn"), tmp_path / "folder", "timm")
    assert "left out: timm has no FCN" in capsys.readouterr().out
    assert read_encoder(tmp_path / "folder").decoder is None
    export(files("fcn"), tmp_path / "alone", "timm", parts="encoder")
    assert "left out: timm" not in capsys.readouterr().out
    with pytest.raises(CheckpointError, match="--parts cannot be used with --to published"):
        export(files("fcn"), tmp_path / "a.pth", "published", parts="encoder")


def test_the_printed_usage_loads_both(files, tmp_path, capsys):
    export(files("deep"), tmp_path / "both.pth", "openmmlab")
    line = capsys.readouterr().out.partition("load it with:  ")[2].splitlines()[0]
    init = dict(type="Pretrained", checkpoint=str(tmp_path / "both.pth"))
    for prefix in ("backbone.", "neck."):
        assert f"checkpoint='both.pth', prefix='{prefix}')" in line
    net, _ = mask_rcnn(init_cfg=init | dict(prefix="neck."))
    net.backbone.init_cfg = init | dict(prefix="backbone.")
    net.init_weights()
    with torch.no_grad():
        found = net.eval().extract_feat(IMAGES)
    for one, other in zip(found, maps_of(pretrained("deep"), IMAGES), strict=False):
        assert_same_features(one, other)


def test_the_student_has_its_own(files):
    own = read_encoder(files("single"), "student").decoder.state_dict
    student = pretrained("single").decoder.state_dict()
    assert all(torch.equal(value, student[name]) for name, value in own.items())


def change(content, name, value):
    weights = content["state_dict"]
    if value is None:
        del weights[name]
    else:
        weights[name] = value(weights[name])


WEIGHT = "teacher.decoder.lateral_convs.1.conv.weight"
DAMAGES = {
    "missing": (WEIGHT, None, "lateral_convs.1.conv.weight"),
    "shape": (WEIGHT, lambda t: t[:3], "of another shape"),
    "not finite": (WEIGHT, lambda t: t * torch.nan, "finite"),
    "norm": ("teacher.decoder.lateral_convs.1.bn.running_var", None, "1 missing"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_decoder(files, tmp_path, damage):
    name, value, message = DAMAGES[damage]
    content = torch.load(files("single"), weights_only=True)
    change(content, name, value)
    path = tmp_path / "damaged.pth"
    torch.save(content, path)
    with pytest.raises(CheckpointError, match=message):
        read_encoder(path)
    assert read_encoder(path, parts="encoder").decoder is None


def test_damaged_metadata_of_an_exported_decoder(files, tmp_path):
    path = tmp_path / "encoder.pth"
    export(files("single"), path, "openmmlab")
    whole = torch.load(path, weights_only=True)

    def refused(message, **changes):
        content = copy.deepcopy(whole)
        content["meta"]["decoder"] |= changes
        torch.save(content, path)
        with pytest.raises(CheckpointError, match=message):
            read_encoder(path)

    refused("not those that were exported", digest="sha256:0")
    refused("options of its decoder", options=dict(act_cfg=dict(type="os.system")))
    refused("options of its decoder", options=dict(start_level=-1))
    refused("meta.decoder` is damaged", options=3)
    refused("meta.decoder` is damaged", name=["FPN"])
    refused("meta.decoder` is damaged", name="FCNHead")
