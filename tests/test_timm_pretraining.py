"""A pretraining with a TimmEncoder: channels that are inferred, a step, a resume, a dry run."""

from pathlib import Path

import pytest
import torch
from mmengine.registry import MODELS
from tiny_training import assert_same, write_images
from tiny_weights import slotcon_config

from benchmarks.processes import DEMO
from slotcon_plugin.apis.train import train
from slotcon_plugin.errors import CheckpointError, ConfigError

pytest.importorskip("timm")

# A transformer of two layers, with stochastic depth, whose random numbers a resume must restore.
VIT = dict(type="TimmEncoder", name="vit_tiny_patch16_224", depth=2, drop_path_rate=0.5)


def without_channels(config: dict) -> dict:
    return {name: value for name, value in config.items() if name != "in_channels"}


def timm_config(backbone: dict, **changes) -> dict:
    """A narrow SlotCon whose neck leaves out in_channels."""
    config = slotcon_config(18) | dict(backbone=backbone)
    return config | dict(neck=without_channels(config["neck"])) | changes


@pytest.mark.parametrize(
    ("backbone", "channels"),
    [
        (VIT, 192),
        (dict(type="TimmEncoder", name="convnext_atto"), 320),
        (dict(type="TorchvisionResNet", depth=18, num_stages=3), 256),
        (dict(type="mmdet.SwinTransformer", out_indices=(3,)), 768),
        (dict(type="mmseg.ResNet", depth=50, out_indices=(3,), norm_eval=False), 2048),
    ],
)
def test_channels_of_every_encoder_are_inferred_and_random_numbers_stay(backbone, channels):
    pytest.importorskip("mmdet")
    pytest.importorskip("mmseg")
    config = timm_config(backbone)
    torch.manual_seed(0)
    inferred = MODELS.build(config)
    torch.manual_seed(0)
    given = MODELS.build(config | dict(neck=dict(in_channels=channels, **config["neck"])))
    assert inferred.neck.mlp[0].weight.shape[1] == channels
    assert_same(dict(inferred.state_dict()), dict(given.state_dict()))


@pytest.mark.parametrize("decoder", ["FPN", "FCN"])
def test_channels_of_decoders_are_inferred(decoder):
    pytest.importorskip("mmdet")
    pytest.importorskip("mmseg")
    parts = {
        "FPN": dict(type="mmdet.FPN", out_channels=16, num_outs=4),
        "FCN": dict(type="FCNConvolutions", channels=24, num_convs=1),
    }
    backbone = dict(type="TimmEncoder", name="convnext_atto", out_indices=(0, 1, 2, 3))
    config = timm_config(backbone, decoder=parts[decoder])
    config |= dict(decoder_neck=config["neck"], decoder_head=config["head"])
    model = MODELS.build(config)
    first = model.decoder_necks[0].mlp[0]
    assert first.weight.shape[1] == parts[decoder].get("out_channels", 24)
    assert model.decoder(model.backbone(torch.zeros(1, 3, 64, 64)))[0].shape[1] == first.in_channels


def test_channels_that_cannot_be_inferred_must_be_given():
    class Odd(torch.nn.Conv2d):
        def forward(self, x):
            return super().forward(x) * float(x.sum())  # needs values

    with pytest.raises(ConfigError, match=r"channels of .*Odd.* cannot be found out.*in_channels"):
        MODELS.build(timm_config(dict(type=Odd, in_channels=3, out_channels=4, kernel_size=1)))


@pytest.fixture
def config(tmp_path: Path, monkeypatch) -> Path:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    path = tmp_path / "vit.py"
    path.write_text(f"""
_base_ = ["{DEMO}"]
model = dict(
    backbone=dict(_delete_=True, **{VIT}),
    neck=dict(_delete_=True, type="PixelProjector", hidden_channels=32, out_channels=16),
    head=dict(
        prototypes=dict(num_prototypes=8, channels=16),
        predictor=dict(channels=16, hidden_channels=32),
    ),
)
train_dataloader = dict(
    batch_size=4,
    num_workers=0,
    dataset=dict(source="{write_images(tmp_path / "images", 8)}", views=dict(size=56)),
)
train_cfg = dict(max_epochs=2)
param_scheduler = dict(warmup=0)
default_hooks = dict(checkpoint=dict(interval=1), iter_seed=dict(type="IterSeedHook"))
""")
    return path


def test_a_dry_run_a_training_and_its_resume(config, tmp_path, capsys):
    train(config, work_dir=tmp_path / "a", seed=1, dry_run=True)
    assert "TimmEncoder" in capsys.readouterr().out
    assert not (tmp_path / "a").exists()
    train(config, work_dir=tmp_path / "a", seed=1)
    train(config, work_dir=tmp_path / "b", seed=1, resume=tmp_path / "a" / "epoch_1.pth")
    whole, resumed = (
        torch.load(tmp_path / name / "epoch_2.pth", weights_only=False) for name in ("a", "b")
    )
    for part in ("state_dict", "optimizer"):
        assert_same(dict(whole[part]), dict(resumed[part]))
    assert (tmp_path / "a" / "groups" / "epoch_2.png").exists()
    moved = whole["state_dict"]["teacher.backbone.blocks.0.attn.qkv.weight"]
    assert not torch.equal(moved, whole["state_dict"]["backbone.blocks.0.attn.qkv.weight"])


def test_a_pretraining_starts_from_public_weights(config, tmp_path, capsys):
    """timm's file with its classifier: student and teacher are equal to it, in the plan too."""
    import timm

    whole = timm.create_model("vit_tiny_patch16_224", depth=2)
    torch.save(whole.state_dict(), tmp_path / "timm.pth")
    train(config, work_dir=tmp_path / "a", backbone=tmp_path / "timm.pth", dry_run=True)
    assert f"from {tmp_path / 'timm.pth'} (encoder), all 30 tensors used" in capsys.readouterr().out
    still = ["optim_wrapper.optimizer.lr=1e-30", "optim_wrapper.optimizer.weight_decay=0"]
    options = [*still, "train_cfg.max_epochs=1", "param_scheduler.final=0"]
    train(config, work_dir=tmp_path / "a", backbone=tmp_path / "timm.pth", cfg_options=options)
    saved = torch.load(tmp_path / "a" / "epoch_1.pth", weights_only=False)["state_dict"]
    for name, value in whole.state_dict().items():
        if not name.startswith("head."):
            for part in ("backbone", "teacher.backbone"):
                assert torch.allclose(saved[f"{part}.{name}"], value, rtol=0, atol=1e-20)
    with pytest.raises(CheckpointError, match="not a complete TimmEncoder"):
        torch.save({"conv.weight": torch.zeros(1)}, tmp_path / "other.pth")
        train(config, work_dir=tmp_path / "b", backbone=tmp_path / "other.pth", dry_run=True)
    assert not (tmp_path / "b").exists()
