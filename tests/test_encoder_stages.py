"""Strides and dilations of a ResNet, which its weights do not show, and names in other layouts."""

import re
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS
from tiny_weights import slotcon_config, write_encoder
from torch import nn
from torchvision.models import resnet50
from torchvision.models._utils import IntermediateLayerGetter

from slotcon_plugin.apis.export import export
from slotcon_plugin.checkpoints import fill, read_encoder
from slotcon_plugin.checkpoints.architecture import ResNetArchitecture, describe_module
from slotcon_plugin.checkpoints.metadata import MEASURED
from slotcon_plugin.errors import CheckpointError
from slotcon_plugin.evaluation.limits import measure_encoder
from slotcon_plugin.evaluation.networks import open_encoder, open_groups
from slotcon_plugin.models.backbones import TorchvisionResNet

DILATED = dict(strides=(1, 2, 1, 1), dilations=(1, 1, 2, 4))  # stride 8
OPEN = dict(depth=18, norm_eval=False, out_indices=(3,))
RESNETS = {
    "mmdet": dict(type="mmdet.ResNet", **OPEN),
    "mmseg": dict(type="mmseg.ResNet", **OPEN),
    "ours": dict(type="TorchvisionResNet", depth=18),
    "mmseg, contracted": dict(type="mmseg.ResNet", contract_dilation=True, **OPEN),
}


def checkpoint(folder: Path, backbone: dict, **meta) -> tuple[Path, nn.Module]:
    """A full checkpoint with an encoder of this config, and its model in evaluation mode."""
    torch.manual_seed(0)
    config = slotcon_config(18) | dict(backbone=backbone)
    model = MODELS.build(config)
    with torch.no_grad():
        for p in model.teacher.backbone.parameters():
            p.add_(0.01).abs_() if p.ndim == 1 else None  # a norm that is 0 hides its block
    meta = dict(epoch=1, iter=1, cfg=Config(dict(model=config)).pretty_text) | meta
    torch.save(dict(meta=meta, state_dict=model.state_dict()), folder / "epoch_1.pth")
    return folder / "epoch_1.pth", model.eval()


@pytest.mark.parametrize("measured", [True, False], ids=["measured", "from the config"])
@pytest.mark.parametrize("library", RESNETS)
def test_a_dilated_encoder_stays_dilated(tmp_path, library, measured):
    if library != "ours":
        pytest.importorskip(library.partition(",")[0])
    path, model = checkpoint(tmp_path, RESNETS[library] | DILATED)
    if measured:  # as TeacherHook does; the config may be of any class then
        found = measure_encoder(model)
        contract = dict(contract_dilation=True) if "contracted" in library else {}
        assert found == {name: [*values] for name, values in DILATED.items()} | contract
        content = torch.load(path, weights_only=True)
        content["meta"] |= {MEASURED: found, "cfg": ""}
        torch.save(content, path)
    images = torch.randint(0, 256, (2, 3, 128, 128), dtype=torch.uint8)
    expected = model.encode(model.data_preprocessor(dict(inputs=list(images)))["inputs"])
    assert expected.shape == (2, 512, 16, 16)
    torch.testing.assert_close(open_encoder(str(path))(images), expected)
    assert open_groups(path)(images).shape == (2, 12, 16, 16)


def test_an_exported_encoder_stays_dilated(tmp_path, capsys):
    """Or the report says that the library does not know."""
    path, _ = checkpoint(tmp_path, RESNETS["ours"] | DILATED)
    images = torch.randint(0, 256, (1, 3, 64, 64), dtype=torch.uint8)
    expected = open_encoder(str(path))(images)
    assert expected.shape == (1, 512, 8, 8)
    for target in ("openmmlab", "torchvision", "timm", "detectron2"):
        out = tmp_path / f"{target}.pth"
        export(path, out, target)
        report = capsys.readouterr().out
        told = "note:" in report and f"{target} does not read that from the file" in report
        assert told == (target != "openmmlab")
        torch.testing.assert_close(open_encoder(str(out))(images), expected)
        network = read_encoder(out).meta["architecture"]
        assert (network["strides"], network["dilations"]) == ([1, 2, 1, 1], [1, 1, 2, 4])
        if target == "openmmlab":
            (words,) = re.findall(r"ResNet', depth=18, (strides=.*?), init_cfg", report)
            assert eval(f"dict({words})") == DILATED
    with pytest.raises(CheckpointError, match="published code has a ResNet without dilation"):
        export(path, tmp_path / "published.pth", "published")


CONTRACTED = {  # by torchvision's `replace_stride_with_dilation`
    (False, False, True): dict(strides=(1, 2, 2, 1), dilations=(1, 1, 1, 2)),
    (False, True, True): DILATED,
}


@pytest.mark.parametrize("replaced", CONTRACTED)
def test_the_contracted_dilation_of_mmseg_is_torchvisions(tmp_path, capsys, replaced):
    """Of a segmentation network, as the configs of transfers have it."""
    pytest.importorskip("mmseg")
    torch.manual_seed(0)
    options = CONTRACTED[replaced] | dict(contract_dilation=True)
    config = dict(type="mmseg.ResNet", depth=50, norm_eval=False, out_indices=(3,), **options)
    net = MODELS.build(config)
    net.eval()
    state = net.state_dict()
    text = Config(dict(model=dict(type="EncoderDecoder", backbone=config))).pretty_text
    path = tmp_path / "iter_300.pth"
    weights = {f"backbone.{name}": value for name, value in state.items()}
    weights |= {"decode_head.conv_seg.weight": torch.zeros(2, 8, 1, 1)}
    torch.save(dict(meta=dict(cfg=text), state_dict=weights), path)
    encoder = read_encoder(path)
    theirs = resnet50(replace_stride_with_dilation=replaced).eval()
    theirs.fc = nn.Identity()
    theirs.load_state_dict(encoder.state_dict)
    images = torch.randn(1, 3, 48, 64)
    with torch.no_grad():
        (expected,) = net(images)
        own = encoder.architecture.build().eval()
        fill(own, encoder)
        largest = float(expected.abs().max())
        for found in (
            own(images)[0],
            IntermediateLayerGetter(theirs, {"layer4": "0"})(images)["0"],
        ):
            torch.testing.assert_close(found, expected, rtol=0, atol=1e-5 * largest)
        plain = TorchvisionResNet(50, **CONTRACTED[replaced]).eval()
        plain.load_state_dict(own.state_dict())
        assert not torch.allclose(plain(images)[0], expected, rtol=0, atol=1e-3 * largest)
    again = tmp_path / "exported.pth"
    export(path, again, "openmmlab")
    report = capsys.readouterr().out
    assert re.search("contract_dilation=True, init_cfg=.*, in mmseg\n", report)
    assert read_encoder(again).architecture == encoder.architecture
    assert "contract_dilation" in open_encoder(str(path)).origin


OTHERS = {
    "caffe": (dict(type="mmdet.ResNet", style="caffe"), "style='caffe'"),
    "contracted": (
        dict(type="mmseg.ResNet", contract_dilation=True, dilations=(1, 1, 1, 4)),
        r"contract_dilation=True and dilations=[\[(]1, 1, 1, 4",
    ),
    "grid": (dict(type="mmseg.ResNet", multi_grid=(1, 2)), "multi_grid=[(]1, 2[)]"),
    "epsilon": (dict(type="mmseg.ResNet", norm_cfg=dict(type="BN", eps=0.01)), None),
}


@pytest.mark.parametrize("kind", OTHERS)
def test_what_computes_something_else_with_the_same_weights_is_refused(tmp_path, kind):
    """None of these can be told from the names and shapes of the weights."""
    pytest.importorskip("mmdet")
    pytest.importorskip("mmseg")
    changes, in_config = OTHERS[kind]
    depth = 50 if kind == "caffe" else 18  # where it has an effect
    config = OPEN | (DILATED if kind != "epsilon" else {}) | dict(depth=depth) | changes
    with pytest.raises(CheckpointError, match="map differs from that of a ResNet") as error:
        describe_module(MODELS.build(config), kind)
    if depth == 18:
        path, _ = checkpoint(tmp_path, config, **{MEASURED: dict(problem=str(error.value))})
        for read in (read_encoder, open_groups):
            with pytest.raises(CheckpointError, match=r"cannot be used apart: .* map differs"):
                read(path)
        if in_config:
            path, _ = checkpoint(tmp_path, config)
            with pytest.raises(CheckpointError, match=in_config):
                read_encoder(path)


@pytest.mark.parametrize(
    "stages",
    [
        *(dict(strides=value) for value in (3, "1222", (1, 2), (1, 2, 0, 1), (1, 2, 2.0, True))),
        dict(dilations=(1, 1, 1, 10**9)),
        [],
        {"problem": None, "dilations": {}},
        dict(contract_dilation=2),
    ],
)
def test_damaged_stages_are_refused(tmp_path, stages):
    path, _ = checkpoint(tmp_path, RESNETS["ours"], **{MEASURED: stages})
    with pytest.raises(CheckpointError, match="damaged"):
        read_encoder(path)


def test_strides_and_dilations_that_no_resnet_has():
    damaged = (dict(strides=value) for value in ((1, 2), "1222", 2, (1, 2, 2, 2.0), (2, 2, 2, 2)))
    for wrong in (*damaged, dict(dilations=(1, 1, 1, 0))):
        with pytest.raises(ValueError, match=r"^strides is "):
            TorchvisionResNet(18, **wrong)
    assert str(ResNetArchitecture(18, 4, **DILATED)).startswith(
        "ResNet-18, strides (1, 2, 1, 1), dil"
    )


@pytest.mark.parametrize(
    "prefix", ["module.", "_orig_mod.", "model.", "backbone.", "module._orig_mod.model."]
)
def test_prefixes_of_wrappers_are_removed(tmp_path, prefix):
    write_encoder(tmp_path / "plain.pth")
    state = torch.load(tmp_path / "plain.pth", weights_only=True)["state_dict"]
    torch.save({prefix + name: value for name, value in state.items()}, tmp_path / "a.pth")
    digest = read_encoder(tmp_path / "a.pth").meta["digest"]
    assert digest == read_encoder(tmp_path / "plain.pth").meta["digest"]
