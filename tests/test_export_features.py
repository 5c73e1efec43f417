"""Exported files, loaded into the real network of each library, give the teacher's features."""

import json
from pathlib import Path

import pytest
import torch
import torchvision
from mmengine.registry import MODELS
from tiny_weights import assert_same_features, features, normalized, ours, pixels, random_model
from torch import nn

from benchmarks.processes import ROOT
from slotcon_plugin.apis.export import export
from slotcon_plugin.checkpoints import fill, read_encoder
from slotcon_plugin.checkpoints.containers import read_file
from slotcon_plugin.checkpoints.export_formats import encoder_file
from slotcon_plugin.checkpoints.fill import supervised_file
from slotcon_plugin.errors import CheckpointError, ConfigError, SlotConError


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return ours(tmp_path_factory.mktemp("weights"))


def exported(checkpoint: Path, folder: Path, to: str, suffix: str, part: str | None = None) -> Path:
    out = folder / f"encoder{suffix}"
    data, _ = encoder_file(read_encoder(checkpoint, part), to, suffix)
    out.write_bytes(data)
    return out


@torch.no_grad()
def through_stages(net: nn.Module, images: torch.Tensor) -> torch.Tensor:
    x = net.maxpool(net.relu(net.bn1(net.conv1(images))))
    for stage in (net.layer1, net.layer2, net.layer3, net.layer4):
        x = stage(x)
    return x


def openmm_resnet(library: str, **changes) -> nn.Module:
    pytest.importorskip(library)
    config = dict(type=f"{library}.ResNet", depth=50, out_indices=(3,), **changes)
    if library == "mmseg":
        config |= dict(strides=(1, 2, 2, 2), dilations=(1, 1, 1, 1))
    return MODELS.build(config)


@pytest.mark.parametrize("library", ["mmdet", "mmseg"])
def test_openmmlab(checkpoint, tmp_path, library):
    out = exported(checkpoint, tmp_path, "openmmlab", ".pth")
    net = openmm_resnet(library, init_cfg=dict(type="Pretrained", checkpoint=str(out)))
    net.init_weights()
    net.eval()  # mmdet's returns nothing
    with torch.no_grad():
        (found,) = net(normalized(read_encoder(out).meta))
    assert_same_features(found, features())


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("part", ["teacher", "student"])
def test_torchvision(checkpoint, tmp_path, suffix, part):
    if suffix == ".safetensors":
        pytest.importorskip("safetensors")
    out = exported(checkpoint, tmp_path, "torchvision", suffix, part)
    if suffix == ".pth":
        state = torch.load(out, weights_only=True)
    else:
        from safetensors.torch import load_file

        state = load_file(out)
    net = torchvision.models.resnet50()
    net.fc = nn.Identity()
    net.load_state_dict(state)  # strict
    images = normalized(read_encoder(out).meta)
    assert_same_features(through_stages(net.eval(), images), features(part))
    other = {"teacher": "student", "student": "teacher"}[part]
    with pytest.raises(AssertionError):  # the comparison distinguishes the two
        assert_same_features(through_stages(net, images), features(other))


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_timm(checkpoint, tmp_path, suffix):
    timm = pytest.importorskip("timm")
    out = exported(checkpoint, tmp_path, "timm", suffix)
    net = timm.create_model("resnet50", num_classes=0, checkpoint_path=str(out)).eval()
    with torch.no_grad():
        found = net.forward_features(normalized(read_encoder(out).meta))
    assert_same_features(found, features())


@pytest.mark.parametrize("suffix", [".pkl", ".pth"])
def test_detectron2(checkpoint, tmp_path, suffix):
    pytest.importorskip("detectron2", reason="detectron2 is not packaged: see its own installation")
    from detectron2.checkpoint import DetectionCheckpointer
    from detectron2.config import get_cfg
    from detectron2.modeling import build_model
    from detectron2.structures import ImageList

    out = exported(checkpoint, tmp_path, "detectron2", suffix)
    meta = read_encoder(out).meta
    cfg = get_cfg()
    cfg.MODEL.DEVICE = "cpu"
    cfg.MODEL.BACKBONE.NAME = "build_resnet_fpn_backbone"
    cfg.MODEL.BACKBONE.FREEZE_AT = 0
    cfg.MODEL.RESNETS.merge_from_other_cfg(
        type(cfg)(
            dict(
                DEPTH=meta["architecture"]["depth"],
                STRIDE_IN_1X1=meta["architecture"]["stride_in_1x1"],
                NORM="BN",
                OUT_FEATURES=["res2", "res3", "res4", "res5"],
            )
        )
    )
    cfg.MODEL.FPN.IN_FEATURES = ["res2", "res3", "res4", "res5"]
    cfg.MODEL.RPN.IN_FEATURES = ["p2", "p3", "p4", "p5", "p6"]
    cfg.MODEL.ROI_HEADS.IN_FEATURES = ["p2", "p3", "p4", "p5"]
    cfg.MODEL.ROI_HEADS.NAME = "StandardROIHeads"
    cfg.MODEL.ROI_BOX_HEAD.NAME = "FastRCNNConvFCHead"
    cfg.MODEL.ROI_BOX_HEAD.NUM_FC = 1
    cfg.MODEL.ANCHOR_GENERATOR.SIZES = [[32], [64], [128], [256], [512]]
    cfg.MODEL.PIXEL_MEAN = meta["pixels"]["mean_0_255"]
    cfg.MODEL.PIXEL_STD = meta["pixels"]["std_0_255"]
    net = build_model(cfg).eval()
    DetectionCheckpointer(net).load(str(out))
    image = torch.tensor(pixels()).permute(2, 0, 1)  # INPUT.FORMAT: RGB
    images = net.preprocess_image([{"image": image}])
    assert isinstance(images, ImageList)
    with torch.no_grad():
        found = net.backbone.bottom_up(images.tensor)["res5"]
    assert_same_features(found, features())


@pytest.mark.parametrize("depth", [18, 50])
def test_names_and_shapes_are_detectron2s(tmp_path, depth):
    """The list is that of detectron2 0.6's ResNets (STRIDE_IN_1X1 False, NORM BN)."""
    out = exported(ours(tmp_path, depth), tmp_path, "detectron2", ".pkl")
    known = json.loads((ROOT / "tests" / "detectron2_resnet_keys.json").read_text())[str(depth)]
    content = read_file(out)
    assert {name: list(value.shape) for name, value in content["model"].items()} == known
    assert content["matching_heuristics"] is True
    assert content["__author__"] == "slotcon_plugin"


def test_an_encoder_with_fewer_stages(tmp_path):
    source = ours(tmp_path, 18, 3)
    for to in ("torchvision", "timm"):
        with pytest.raises(CheckpointError, match=r"without layer4; .* always has four stages"):
            encoder_file(read_encoder(source), to, ".pth")
    known = json.loads((ROOT / "tests" / "detectron2_resnet_keys.json").read_text())["18"]
    _, names = encoder_file(read_encoder(source), "detectron2", ".pkl")
    assert set(names) == {name for name in known if not name.startswith("res5")}
    pytest.importorskip("mmdet")
    out = exported(source, tmp_path, "openmmlab", ".pth")
    init = dict(type="Pretrained", checkpoint=str(out))
    net = MODELS.build(
        dict(type="mmdet.ResNet", depth=18, num_stages=3, out_indices=(2,), init_cfg=init)
        | dict(strides=(1, 2, 2), dilations=(1, 1, 1))
    )
    net.init_weights()
    net.eval()  # mmdet's returns nothing
    with torch.no_grad():
        (found,) = net(normalized(read_encoder(out).meta))
    assert_same_features(found, features("teacher", 18, 3))


FORMATS = [
    ("openmmlab", ".pth"),
    ("openmmlab", ".safetensors"),
    ("torchvision", ".pth"),
    ("timm", ".safetensors"),
    ("detectron2", ".pkl"),
    ("detectron2", ".pth"),
    ("detectron2", ".safetensors"),
]


@pytest.mark.parametrize(("to", "suffix"), FORMATS)
def test_read_encoder_reads_every_format(checkpoint, tmp_path, to, suffix):
    if suffix == ".safetensors":
        pytest.importorskip("safetensors")
    first = read_encoder(checkpoint)
    again = read_encoder(exported(checkpoint, tmp_path, to, suffix))
    teacher = random_model().teacher.backbone.state_dict()
    assert again.state_dict.keys() == teacher.keys()
    assert all(torch.equal(value, teacher[name]) for name, value in again.state_dict.items())
    assert again.meta == first.meta  # the digest and the origin too
    assert again.meta["origin"] == dict(file=checkpoint.name, kind="slotcon", part="teacher")
    assert again.meta["training"]["epochs_planned"] == 800
    with pytest.raises(CheckpointError, match="contains the teacher's encoder, but --part student"):
        read_encoder(tmp_path / f"encoder{suffix}", "student")


@pytest.mark.parametrize("library", ["mmdet", "mmseg", "torchvision"])
def test_fill_loads_every_tensor(checkpoint, library):
    encoder = read_encoder(checkpoint)
    if library == "torchvision":
        net = torchvision.models.resnet50()
        with pytest.raises(CheckpointError, match=r"2 missing: fc.weight, fc.bias"):
            fill(net, encoder)
        net.fc = nn.Identity()
    else:
        net = openmm_resnet(library)
    fill(net, encoder)
    net.eval()
    assert_same_features(through_stages(net, normalized(encoder.meta)), features())


def test_fill_refuses_a_deep_stem(checkpoint):
    pytest.importorskip("mmseg")
    net = MODELS.build(dict(type="mmseg.ResNetV1c", depth=50))
    with pytest.raises(CheckpointError, match=r"ResNetV1c has a deep stem .* Use type='ResNet'"):
        fill(net, read_encoder(checkpoint))


def test_fill_refuses_what_does_not_fit(checkpoint):
    mmdet = pytest.importorskip("mmdet")
    encoder = read_encoder(checkpoint)
    with pytest.raises(CheckpointError, match=r"stride in the 1x1 convolution layer2.0.conv1"):
        fill(openmm_resnet("mmdet", style="caffe"), encoder)
    stages = dict(num_stages=3, strides=(1, 2, 2), dilations=(1, 1, 1), out_indices=(2,))
    three = mmdet.models.ResNet(50, **stages)
    before = {name: value.clone() for name, value in three.state_dict().items()}
    with pytest.raises(CheckpointError, match=r"60 unexpected: layer4.0.conv1.weight"):
        fill(three, encoder)
    assert all(torch.equal(value, before[name]) for name, value in three.state_dict().items())
    with pytest.raises(CheckpointError, match=r"306 missing: layer3.6"):
        fill(mmdet.models.ResNet(101), encoder)


def run_export(capsys, *arguments, **options) -> str:
    export(*arguments, **options)
    return capsys.readouterr().out


def test_export_writes_and_reports(checkpoint, tmp_path, capsys):
    out = tmp_path / "new" / "r50.pkl"
    planned = run_export(capsys, checkpoint, out, "detectron2", keys=True, dry_run=True)
    assert not out.parent.exists()
    assert "res5.2.conv3.norm.running_var (2048,)" in planned
    report = run_export(capsys, str(checkpoint), str(out), to="detectron2")
    digest = read_encoder(checkpoint).meta["digest"]
    for part in (
        f"{checkpoint} (slotcon), teacher",
        "keys used:     318",
        "teacher.neck (16)",
        digest,
        "stride_in_1x1 False",
        "channel_order RGB",
        "mean_0_255 [123.675, 116.28, 103.53]",
        "epochs_planned 800",
        "slotcon_plugin 0.",
        "stem.conv1.weight (64, 3, 7, 7) from teacher.backbone.conv1.weight",
        "STRIDE_IN_1X1: False",
    ):
        assert part in report, part
    assert read_encoder(out).meta["digest"] == digest
    assert [path.name for path in out.parent.iterdir()] == ["r50.pkl"]


@pytest.mark.parametrize(
    ("out", "to", "part", "message"),
    [
        ("a.pkl", "timm", None, "not as .pkl"),
        ("a.safetensors", "published", None, "must be a .pth file, not .safetensors"),
        ("a.pth", "published", "student", "--part cannot be used with --to published"),
        ("SOURCE", "openmmlab", None, "is a file that is read"),
        ("a.pth", "slotcon", None, "not a published SlotCon checkpoint"),
        ("SOURCE/a.pth", "openmmlab", None, "cannot be written"),
    ],
)
def test_export_refuses(checkpoint, tmp_path, out, to, part, message):
    out = Path(out.replace("SOURCE", str(checkpoint)))
    with pytest.raises(SlotConError, match=message):
        export(checkpoint, tmp_path / out, to, part)
    assert not list(tmp_path.iterdir())


def test_the_usage_that_is_printed_works(tmp_path, capsys):
    pytest.importorskip("mmdet")
    report = run_export(capsys, ours(tmp_path, 18, 2), tmp_path / "two.pth", "openmmlab")
    line = (
        "backbone=dict(type='ResNet', depth=18, num_stages=2, strides=(1, 2), dilations=(1, 1), "
        "out_indices=(0, 1), init_cfg=dict(type='Pretrained', checkpoint='two.pth'))"
    )
    assert line in report
    config = eval(line.removeprefix("backbone="))
    config["init_cfg"]["checkpoint"] = str(tmp_path / "two.pth")
    net = MODELS.build({**config, "type": "mmdet.ResNet"})
    net.init_weights()
    net.eval()
    with torch.no_grad():
        found = net(normalized(read_encoder(tmp_path / "two.pth").meta))[-1]
    assert_same_features(found, features("teacher", 18, 2))


def test_the_tool(checkpoint, tmp_path, run_tool):
    status, shown, _ = run_tool("export", "--help")
    assert status == 0
    assert "--to detectron2 --dry-run --keys" in shown
    out = tmp_path / "r50.safetensors"
    options = "--to", "torchvision", "--part", "student", "--keys"
    status, shown, errors = run_tool("export", checkpoint, out, *options)
    assert status == 0, errors
    assert "layer4.2.bn3.running_var (2048,) from backbone.layer4.2.bn3" in shown
    assert read_encoder(out).meta["origin"]["part"] == "student"
    status, _, errors = run_tool("export", checkpoint, tmp_path / "a.pkl", "--to", "timm")
    assert status == 1
    assert errors.strip().startswith("error: ") and "Traceback" not in errors


def test_supervised_weights_that_cannot_be_downloaded(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))

    def fail(*arguments, **options):
        raise OSError("no network")

    monkeypatch.setattr(torch.hub, "download_url_to_file", fail)
    message = r"could not be downloaded: no network. Download https://.*/resnet18-\w+.pth"
    with pytest.raises(CheckpointError, match=message):
        supervised_file(18)
    with pytest.raises(ConfigError, match=r"no resnet20; the depths are \(18, 34"):
        supervised_file(20)
