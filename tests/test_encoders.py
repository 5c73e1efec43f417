"""Encoders of every library: a step, the checkpoint, evaluation, pictures, exports, filling."""

import copy
import json
import re
from pathlib import Path

import pytest
import torch
import torchvision
from mmengine.config import Config
from mmengine.logging import MessageHub
from mmengine.optim import OptimWrapper
from mmengine.registry import MODELS
from tiny_model import random_views
from tiny_weights import slotcon_config
from torch import Tensor, nn

from benchmarks.plain_model import random_geometry
from benchmarks.processes import ROOT
from slotcon_plugin.apis.export import export
from slotcon_plugin.checkpoints import fill, read_encoder
from slotcon_plugin.checkpoints.configured import MOST_PARTS
from slotcon_plugin.checkpoints.fill import check_state_dict
from slotcon_plugin.errors import CheckpointError, SlotConError
from slotcon_plugin.evaluation.limits import find_limits, find_untrained, measure_encoder
from slotcon_plugin.evaluation.networks import open_encoder, open_groups
from slotcon_plugin.models.slotcon import SlotCon
from slotcon_plugin.runtime.resume_state import load_training_state
from slotcon_plugin.transfer.fill_backbone import check_source, fill_backbone

timm = pytest.importorskip("timm")

RESNET = dict(depth=18, norm_eval=False, out_indices=(3,))
SWIN = dict(embed_dims=24, depths=(1, 1, 1, 1), num_heads=(1, 1, 1, 1), drop_path_rate=0.1)
ENCODERS = {
    "torchvision ResNet": dict(type="TorchvisionResNet", depth=18),
    "mmdet ResNet": dict(type="mmdet.ResNet", **RESNET),
    "mmseg ResNet, dilated": dict(
        type="mmseg.ResNet", strides=(1, 2, 1, 1), dilations=(1, 1, 2, 4), **RESNET
    ),
    "timm ResNet": dict(type="TimmEncoder", name="resnet18"),
    "timm ConvNeXt": dict(type="TimmEncoder", name="convnext_atto", drop_path_rate=0.1),
    "timm ViT": dict(type="TimmEncoder", name="vit_tiny_patch16_224", depth=2),
    "timm Swin": dict(type="TimmEncoder", name="swin_tiny_patch4_window7_224", depths=(1, 1, 1, 1)),
    "mmdet Swin": dict(type="mmdet.SwinTransformer", out_indices=(3,), **SWIN),
    "mmseg ViT": dict(type="mmseg.VisionTransformer", embed_dims=48, num_layers=2, num_heads=2),
    "mmpretrain ConvNeXt": dict(
        type="mmpretrain.ConvNeXt", arch="atto", gap_before_final_norm=False
    ),
}
TARGETS = ("openmmlab", "torchvision", "timm", "detectron2", "published")
# The table in the documentation: encoder -> its exports, whether --stage selects a map, and whether
# a resumed training takes the same step.
TABLE = {
    name: (exports.split(", "), stage == "yes", resume == "yes")
    for name, exports, stage, resume in re.findall(
        r"^\| (.+) \| ([a-z0-9, ]+) \| (yes|no) \| (yes|no) \|$",
        (ROOT / "docs" / "encoders.md").read_text(),
        re.MULTILINE,
    )
}
SIDE = 64  # pixels of the images


class Trained:
    """An encoder after a step of SlotCon, and its checkpoint."""

    def __init__(self, name: str, folder: Path) -> None:
        backbone = ENCODERS[name]
        if "." in backbone["type"]:
            pytest.importorskip(backbone["type"].partition(".")[0])
        torch.manual_seed(0)
        config = slotcon_config(18) | dict(backbone=backbone)
        del config["neck"]["in_channels"]
        self.cfg = Config(dict(model=config))
        self.model = MODELS.build(config)
        views = dict(inputs=torch.randint(0, 256, (2, 3, SIDE, SIDE), dtype=torch.uint8))
        images = self.model.data_preprocessor(views)["inputs"]
        optim = OptimWrapper(torch.optim.SGD(self.model.parameters(), 0.01))
        self.model.train()
        scores = self.model.group(images)[0].scores
        optim.update_params(scores.square().mean())
        self.model.update_teacher(0, 10)
        with torch.no_grad():
            for p in self.model.teacher.backbone.parameters():
                p.add_(0.02 * torch.rand_like(p))  # a norm or scale of 0 hides its block
        self.model.eval()
        self.measured = measure_encoder(self.model)
        meta = dict(epoch=1, iter=1, cfg=self.cfg.pretty_text)
        meta |= dict(encoder=self.measured) if self.measured else {}
        self.path = folder / "epoch_1.pth"
        torch.save(dict(meta=meta, state_dict=self.model.state_dict()), self.path)
        self.images = torch.randint(0, 256, (1, 3, SIDE, SIDE), dtype=torch.uint8)
        self.pixels = self.model.data_preprocessor(dict(inputs=self.images))["inputs"]
        self.features = self.model.encode(self.pixels)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Each encoder, trained once."""
    known: dict[str, Trained] = {}

    def get(name: str) -> Trained:
        if name not in known:
            known[name] = Trained(name, tmp_path_factory.mktemp("encoder"))
        return known[name]

    return get


def assert_same(found: Tensor, one: Trained) -> None:
    scale = one.features.abs().max()
    assert one.features.std() > 1e-3 and found.shape == one.features.shape
    assert (found - one.features).abs().max() <= 1e-5 * scale


@pytest.mark.parametrize("name", ENCODERS)
def test_evaluation_and_pictures_have_the_teachers_features(name, trained):
    one = trained(name)
    assert_same(open_encoder(str(one.path))(one.images), one)
    scores = open_groups(one.path)(one.images)
    assert scores.shape[1] == 12 and scores.shape[2:] == one.features.shape[2:]
    assert not find_untrained(one.model, SIDE)


def test_the_documentation_has_every_encoder():
    assert TABLE.keys() == ENCODERS.keys()


@pytest.mark.parametrize("name", ENCODERS)
def test_exports_are_those_of_the_documentation(name, trained, tmp_path, capsys):
    """Every target is tried; a file that is written is read again with the same features. What is
    refused was said before the training."""
    one, (expected, has_stages, _) = trained(name), TABLE[name]
    text = " ".join(find_limits(one.model, one.cfg, one.measured))
    for target in TARGETS:
        out = tmp_path / f"{target}.pth"
        try:
            export(one.path, out, target)
        except CheckpointError:
            assert target not in expected and target in text
            continue
        assert target in expected
        again = read_encoder(out)
        assert again.meta["digest"] == read_encoder(one.path).meta["digest"]
        json.dumps(again.meta)
        assert_same(open_encoder(str(out))(one.images), one)
    if has_stages:
        assert open_encoder(str(one.path), stage=1)(one.images).shape[0] == 1
    else:
        with pytest.raises(CheckpointError, match="--stage 1 is for ResNets"):
            open_encoder(str(one.path), stage=1)


def take_step(model: SlotCon, optim: OptimWrapper, number: int) -> None:
    """A whole step of SlotCon; stochastic depth draws the random numbers of that step."""
    torch.manual_seed(number)
    views, geometry = random_views(2, SIDE), random_geometry(2)
    model.train()
    model.update_teacher(number, 10)
    losses = model([view.float() for view in views], geometry, mode="loss")
    optim.update_params(sum(value for key, value in losses.items() if key.startswith("loss")))


@pytest.mark.parametrize("name", ENCODERS)
def test_a_resumed_training_takes_the_same_step(name, trained, tmp_path):
    """From the file, with the state of the optimizer, as without the interruption."""
    one, path = trained(name), tmp_path / "iter_1.pth"
    live = copy.deepcopy(one.model)
    torch.manual_seed(5)
    resumed = MODELS.build(one.cfg.model)
    optims = [OptimWrapper(torch.optim.AdamW(m.parameters(), 0.01)) for m in (live, resumed)]
    take_step(live, optims[0], 1)
    state = dict(meta=dict(epoch=0, iter=1), state_dict=live.state_dict())
    state["message_hub"] = MessageHub.get_instance("encoders").state_dict()
    torch.save(state | dict(optimizer=optims[0].state_dict()), path)
    state = load_training_state(path)
    resumed.load_state_dict(check_state_dict(resumed, state, path))
    optims[1].load_state_dict(state["optimizer"])
    for model, optim in zip((live, resumed), optims, strict=True):
        take_step(model, optim, 2)
    found, expected = resumed.state_dict(), live.state_dict()
    same = all(torch.equal(found[key], value) for key, value in expected.items())
    assert same == TABLE[name][2]
    key = next(key for key, p in live.backbone.named_parameters() if p.requires_grad)
    assert not torch.equal(expected[f"backbone.{key}"], state["state_dict"][f"backbone.{key}"])


def test_the_exported_file_gives_the_features_in_timm(trained, tmp_path, capsys):
    """The line that the report prints is run."""
    for name, last in (("timm ConvNeXt", "head.norm.weight, head.norm.bias"), ("timm ViT", None)):
        one, out = trained(name), tmp_path / "encoder.pth"
        export(one.path, out, "timm", overwrite=True)
        (line,) = re.findall(r"load it with:  (.*)", capsys.readouterr().out)
        assert (f"strict=False)  # missing, as no feature map uses them: {last}" in line) == bool(
            last
        )
        line = line.replace("encoder.pth", str(out))
        names = dict(timm=timm, torch=torch)
        exec(line, names)
        maps = (
            names["net"]
            .eval()
            .forward_intermediates(
                nn.functional.interpolate(one.pixels, 224), norm=True, intermediates_only=True
            )
        )
        whole = open_encoder(str(one.path)).encoder
        expected = whole(nn.functional.interpolate(one.pixels, 224))[-1]
        torch.testing.assert_close(
            maps[-1], expected, rtol=0, atol=1e-5 * float(expected.abs().max())
        )


@pytest.mark.parametrize("name", ["timm ConvNeXt", "timm ViT", "timm Swin", "mmdet Swin"])
def test_transfers_take_all_maps_of_the_teacher(name, trained, tmp_path, capsys):
    """As the report prints it: by init_cfg, or by --backbone, which also fills more outputs."""
    one, out = trained(name), tmp_path / "encoder.pth"
    export(one.path, out, "openmmlab")
    (line,) = re.findall(
        r"load it with:  .*?(?=backbone=dict)backbone=(dict.*\))", capsys.readouterr().out
    )
    config = eval(line.partition(", in mmdet")[0].replace("encoder.pth", str(out)))
    assert ("init_cfg" in config) == (config["type"] == "TimmEncoder")
    if "init_cfg" in config:
        net = MODELS.build(config)
        net.init_weights()
        net.eval()
        assert_same(net(one.pixels)[-1], one)
        del config["init_cfg"]
        config |= dict(out_indices=(0, 1) if name == "timm ViT" else (0, 1, 2, 3))
    model = nn.Module()
    model.backbone = MODELS.build(config)
    line = fill_backbone(model, Config(dict(backbone=config)), str(out))
    assert "tensors used" in line
    model.backbone.eval()
    assert_same(model.backbone(one.pixels)[-1], one)


PUBLIC = {
    "convnext_atto": {},
    "vit_tiny_patch16_224": dict(depth=2),
    "swin_tiny_patch4_window7_224": dict(depths=(1, 1, 1, 1)),
    "resnet18": {},
    "resnext50_32x4d": {},
}


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("name", PUBLIC)
def test_public_weights_of_timm_fill_student_and_teacher(name, suffix, tmp_path):
    """The file has the classifier, and may be of any container that timm writes."""
    torch.manual_seed(1)
    whole = timm.create_model(name, **PUBLIC[name])
    path = tmp_path / f"weights{suffix}"
    if suffix == ".pth":
        torch.save(whole.state_dict(), path)
    else:
        pytest.importorskip("safetensors.torch").save_file(whole.state_dict(), path)
    backbone = dict(type="TimmEncoder", name=name, drop_path_rate=0.1, **PUBLIC[name])
    backbone.pop("drop_path_rate") if "res" in name else None
    config = slotcon_config(18) | dict(backbone=backbone)
    del config["neck"]["in_channels"]
    model = MODELS.build(config)
    line = fill_backbone(model, Config(config), str(path))
    assert "tensors used" in line
    weights = whole.state_dict()
    for part in (model.backbone, model.teacher.backbone):
        assert all(torch.equal(value, weights[name]) for name, value in part.state_dict().items())


def test_public_weights_that_do_not_fit_are_refused(tmp_path):
    path = tmp_path / "weights.pth"
    vit = dict(type="TimmEncoder", name="vit_tiny_patch16_224")
    model = nn.Module()
    model.backbone = MODELS.build(vit | dict(depth=2))
    state = timm.create_model("vit_tiny_patch16_224", depth=2).state_dict()
    before = {name: value.clone() for name, value in model.backbone.state_dict().items()}
    for changed, message in (
        ({n: v for n, v in state.items() if n != "norm.bias"}, "1 missing: norm.bias"),
        (state | {"blocks.9.a": torch.zeros(1)}, "1 unexpected: blocks.9.a"),
        (state | {"pos_embed": torch.zeros(1, 5, 96)}, r"pos_embed \(1, 5, 96\) instead of"),
        (state | {"norm.bias": torch.full((192,), torch.nan)}, "norm.bias"),
        (timm.create_model("convnext_atto").state_dict(), "not a complete TimmEncoder"),
    ):
        torch.save(changed, path)
        with pytest.raises(CheckpointError, match=message):
            fill_backbone(model, Config(dict(backbone=vit | dict(depth=2))), str(path))
    with pytest.raises(CheckpointError, match="no known encoder"):
        check_source(str(path))  # of which the architecture is unknown
    assert all(torch.equal(v, before[n]) for n, v in model.backbone.state_dict().items())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (dict(name="vit_tiny_patch16_2240"), "not in timm.list_models"),
        (dict(name="hf-hub:timm/vit_tiny_patch16_224"), "not in timm.list_models"),
        (dict(name=["vit"]), "cannot be built"),
        (dict(depth=3), "missing: blocks.2"),
        (dict(depth=10**9), "cannot be used: expected words, numbers up to"),
        (dict(depth=9**5), f"more than {MOST_PARTS:,} modules"),
        (dict(checkpoint_path="/etc/passwd"), "does not load weights by itself"),
        (dict(pretrained_cfg=dict(file="/x")), "does not load weights by itself"),
        (dict(nonsense=1), "cannot be built"),
        (dict(norm_layer=dict(type="os.system")), "cannot be used"),
        (dict(out_indices=(99,)), "expected increasing numbers"),
    ],
)
def test_a_config_in_a_file_cannot_do_harm(trained, changes, message, tmp_path):
    """Only known models are built, without data and without reading files."""
    one = trained("timm ViT")
    content = torch.load(one.path, weights_only=True)
    cfg = Config.fromstring(content["meta"]["cfg"], ".py")
    cfg.model.backbone.update(changes)
    content["meta"]["cfg"] = cfg.pretty_text
    torch.save(content, tmp_path / "a.pth")
    with pytest.raises(CheckpointError, match=message):
        read_encoder(tmp_path / "a.pth")


def test_other_classes_are_refused_with_the_reason(tmp_path):
    pytest.importorskip("mmseg")
    backbone = dict(type="mmseg.TIMMBackbone", model_name="test_vit", pretrained=False, img_size=64)
    config = slotcon_config(18) | dict(backbone=backbone)
    model = MODELS.build(config | dict(neck=config["neck"] | dict(in_channels=64)))
    meta = dict(epoch=1, iter=1, cfg=Config(dict(model=config)).pretty_text)
    torch.save(dict(meta=meta, state_dict=model.state_dict()), tmp_path / "a.pth")
    with pytest.raises(SlotConError, match=r"TIMMBackbone, is not a ResNet .* TimmEncoder"):
        read_encoder(tmp_path / "a.pth")


def test_stages_of_a_timm_model(trained):
    one = trained("timm ConvNeXt")
    assert open_encoder(str(one.path), stage=3)(one.images).shape == (1, 160, 4, 4)
    with pytest.raises(SlotConError, match="expected increasing numbers from 0 to 3"):
        open_encoder(str(one.path), stage=5)


def test_fill_puts_an_encoder_into_timm_and_torchvision(trained):
    vit, resnet = trained("timm ViT"), trained("timm ResNet")
    net = timm.create_model("vit_tiny_patch16_224", depth=2, num_classes=0)
    fill(net, read_encoder(vit.path))
    net = torchvision.models.resnet18()
    net.fc = nn.Identity()
    fill(net, read_encoder(resnet.path))
