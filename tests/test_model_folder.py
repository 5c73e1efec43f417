"""Folders for timm and the Hugging Face Hub, ONNX files, and hubconf.py."""

import json
import os

import numpy as np
import pytest
import torch
from test_encoders import Trained
from tiny_weights import assert_same_features, features, normalized, ours

from benchmarks.processes import ROOT
from slotcon_plugin.apis.export import export
from slotcon_plugin.checkpoints import onnx_file, read_encoder
from slotcon_plugin.checkpoints.architecture import ResNetArchitecture
from slotcon_plugin.checkpoints.metadata import MEASURED
from slotcon_plugin.checkpoints.model_folder import OUTPUT_STRIDES
from slotcon_plugin.errors import CheckpointError, ConfigError
from slotcon_plugin.evaluation.networks import open_encoder
from slotcon_plugin.evaluation.untrained import untrained_content

timm = pytest.importorskip("timm")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return ours(tmp_path_factory.mktemp("weights"), 18)


@torch.no_grad()
def map_and_pooled(folder, images, **options):
    net = timm.create_model(f"local-dir:{folder}", pretrained=True, **options).eval()
    return net.forward_intermediates(images, norm=True, intermediates_only=True)[-1], net(images)


@pytest.mark.parametrize("name", ["timm ConvNeXt", "timm ViT", "timm Swin"])
def test_timm_loads_the_folder_of_its_own_encoders(name, tmp_path, capsys):
    """The map is the teacher's; the vector is its mean, with a norm after it in a ConvNeXt."""
    one, folder = Trained(name, tmp_path), tmp_path / "folder"
    export(one.path, folder, "timm")
    assert sorted(os.listdir(folder)) == ["config.json", "model.safetensors"]
    found, pooled = map_and_pooled(folder, one.pixels)
    assert_same_features(found, one.features)
    mean = found.mean(dim=(2, 3))
    if name == "timm ConvNeXt":
        mean = torch.nn.functional.layer_norm(mean, mean.shape[1:], eps=1e-6)
    torch.testing.assert_close(pooled, mean)
    assert map_and_pooled(folder, one.pixels, num_classes=7)[1].shape == (1, 7)  # to be fine-tuned
    assert_same_features(open_encoder(str(folder))(one.images), one.features)


def test_a_folder_for_the_hub(checkpoint, tmp_path, run_tool):
    hub = pytest.importorskip("huggingface_hub")
    folder = tmp_path / "new" / "slotcon r18"
    status, shown, errors = run_tool("export", checkpoint, folder, "--to", "hub", "--dry-run")
    assert status == 0 and not folder.parent.exists(), errors
    options = ("--to", "hub", "--license", "cc-by-4.0")
    status, shown, errors = run_tool("export", checkpoint, folder, *options)
    assert status == 0, errors
    assert f"hf upload USER/NAME '{folder}'" in shown
    card = hub.ModelCard.load(folder / "README.md")
    assert card.data.to_dict().items() >= {"license": "cc-by-4.0", "library_name": "timm"}.items()
    for part in ("# slotcon r18", "| prototypes | 12 |", "resnet18()", "hf-hub:USER/NAME"):
        assert part in card.text, part
    images = normalized(read_encoder(folder).meta)
    assert_same_features(map_and_pooled(folder, images)[0], features(depth=18))
    data = timm.data.resolve_model_data_config(
        timm.create_model(f"local-dir:{folder}", pretrained=True)
    )
    assert list(data["mean"]) == [0.485, 0.456, 0.406]
    code = card.text.split("In torchvision:")[1].split("```python\n")[1].split("```")[0]
    imports = "import safetensors.torch, torch, torchvision\n"
    exec(imports + code.replace("FOLDER", str(folder)), {})  # strict
    again = tmp_path / "encoder.pth"
    export(folder, again, "openmmlab")
    assert read_encoder(again).meta["digest"] == read_encoder(checkpoint).meta["digest"]
    with pytest.raises(ConfigError, match="is a folder that is not empty"):
        export(checkpoint, folder, "hub")


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        (
            dict(out="a.onnx", to="timm"),
            CheckpointError,
            "Without a suffix, --to timm writes a fol",
        ),
        (dict(out="a", to="onnx"), CheckpointError, "writes a .onnx file, not a"),
        (dict(out="a", to="hub", license="My License"), ConfigError, "expected an identifier"),
        (dict(out="a", to="timm", license="mit"), ConfigError, "--license is for --to hub"),
        (dict(out="a", to="keras"), ConfigError, "expected one of openmmlab"),
        (dict(out="SOURCE", to="hub"), ConfigError, "cannot be written"),
    ],
)
def test_what_is_refused(checkpoint, tmp_path, options, error, message):
    out = checkpoint if options["out"] == "SOURCE" else tmp_path / options["out"]
    with pytest.raises(error, match=message):
        export(checkpoint, **options | dict(out=out))
    assert not list(tmp_path.iterdir())


def test_encoders_that_no_folder_can_hold(tmp_path, capsys):
    """timm would leave layers random, compute something else, or has no such network."""
    (tmp_path / "three").mkdir()
    for source, message in (
        (ours(tmp_path / "three", 18, 3), "always has four stages"),
        (Trained("mmseg ResNet, dilated", tmp_path).path, "would compute other features"),
    ):
        with pytest.raises(CheckpointError, match=message):
            export(source, tmp_path / "folder", "hub")
    assert not (tmp_path / "folder").exists()
    torch.save(timm.create_model("resnet18", num_classes=0).state_dict(), tmp_path / "a.pth")
    with pytest.raises(CheckpointError, match="does not say how it was trained"):
        export(tmp_path / "a.pth", tmp_path / "folder", "hub")


@pytest.mark.parametrize("stages", OUTPUT_STRIDES)
def test_dilated_resnets(stages, tmp_path, capsys):
    """timm's output_stride is torchvision's and mmseg's contracted dilation; nothing else is."""
    torch.manual_seed(0)
    for depth, contract in ((50, True), (50, False), (18, True)):
        net = ResNetArchitecture(depth, 4, *stages, contract).build().eval()
        for norm in (m for m in net.modules() if isinstance(m, torch.nn.BatchNorm2d)):
            torch.nn.init.uniform_(norm.weight, 0.3, 0.9)  # one of 0 hides its block
        state = {f"teacher.backbone.{name}": v for name, v in net.state_dict().items()}
        measured = dict(zip(("strides", "dilations"), map(list, stages)))
        measured["contract_dilation"] = contract
        torch.save(dict(meta={MEASURED: measured}, state_dict=state), tmp_path / "a.pth")
        images = torch.randn(1, 3, 65, 97)
        options = dict(num_classes=0, output_stride=OUTPUT_STRIDES[stages])
        theirs = timm.create_model(f"resnet{depth}", **options).eval()
        theirs.load_state_dict(net.state_dict())
        with torch.no_grad():
            expected = net(images)[-1]
            found = theirs.forward_intermediates(images, intermediates_only=True)[-1]
        assert found.shape == expected.shape
        same = torch.allclose(found, expected, atol=1e-4 * float(expected.max()))
        assert same == (depth == 50 and contract)
        if same:
            export(tmp_path / "a.pth", tmp_path / "folder", "timm")
            assert_same_features(map_and_pooled(tmp_path / "folder", images)[0], expected)
        else:
            with pytest.raises(CheckpointError, match=r"would compute other .* --to onnx"):
                export(tmp_path / "a.pth", tmp_path / "other", "timm")


@pytest.mark.parametrize("name", ["torchvision ResNet", "timm ViT"])
def test_onnxruntime_has_the_teachers_features(name, tmp_path, capsys):
    runtime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    one, out = Trained(name, tmp_path), tmp_path / "encoder.onnx"
    export(one.path, out, "onnx")
    shown = capsys.readouterr().out
    assert "any number of any size" in shown and "1e-04 is allowed" in shown
    session = runtime.InferenceSession(str(out))
    maps, pooled = session.run(None, {"images": one.pixels.numpy()})
    assert_same_features(torch.tensor(maps), one.features)
    np.testing.assert_allclose(pooled, maps.mean(axis=(2, 3)), rtol=1e-4, atol=1e-5)
    meta = json.loads(session.get_modelmeta().custom_metadata_map["slotcon"])
    assert meta["digest"] == read_encoder(one.path).meta["digest"]


def test_an_onnx_file_that_differs_is_not_written(tmp_path, monkeypatch):
    pytest.importorskip("onnxruntime")
    one, export_to_onnx = Trained("timm ViT", tmp_path), onnx_file._export

    def export_changed(module, *arguments):
        for p in module.parameters():
            p.mul_(1.01)
        data = export_to_onnx(module, *arguments)
        for p in module.parameters():
            p.div_(1.01)
        return data

    monkeypatch.setattr(onnx_file, "_export", export_changed)
    monkeypatch.setattr(onnx_file, "_shapes", lambda side, _: [onnx_file._Shape({}, side)])
    with pytest.raises(CheckpointError, match=r"cannot be exported .* differs from torch's by"):
        export(one.path, tmp_path / "new" / "a.onnx", "onnx")
    assert not (tmp_path / "new").exists()


def test_torch_hub(checkpoint, tmp_path):
    clone = dict(repo_or_dir=str(ROOT), source="local")
    export(checkpoint, tmp_path / "folder", "timm")
    for source in (checkpoint, tmp_path / "folder"):
        net = torch.hub.load(model="encoder", checkpoint=source, **clone)
        with torch.no_grad():
            found = net(normalized(read_encoder(source).meta))[-1]
        assert_same_features(found, features(depth=18))
    assert torch.hub.load(model="slotcon", checkpoint=checkpoint, **clone).num_prototypes == 12
    assert torch.hub.load(model="slotcon_r18_demo", **clone).num_prototypes == 16
    with pytest.raises(CheckpointError, match="is not a checkpoint of slotcon_r18_demo"):
        torch.hub.load(model="slotcon_r18_demo", checkpoint=checkpoint, **clone)


def test_torch_hub_of_configs_whose_values_follow_from_the_images(tmp_path, capsys):
    """The number of prototypes is the checkpoint's, of encoder and decoder."""
    pytest.importorskip("mmseg")
    clone = dict(repo_or_dir=str(ROOT), source="local")
    for name, count in (("slotcon_r18_own", 32), ("decon_fcn_r18_own", 128)):
        torch.save(untrained_content(name, 0, count), tmp_path / f"{name}.pth")
        model = torch.hub.load(model=name, checkpoint=tmp_path / f"{name}.pth", **clone)
        assert model.num_prototypes == count
    assert "random weights" not in capsys.readouterr().out
    with pytest.raises(CheckpointError, match="is not a checkpoint of slotcon_r18_own"):
        torch.hub.load(model="slotcon_r18_own", checkpoint=tmp_path / f"{name}.pth", **clone)
