"""The demo and the figures of groups and losses."""

import json
import os

import numpy as np
import pytest
import torch
from mmengine.registry import MODELS
from PIL import Image
from tiny_model import tiny_config
from tiny_training import write_images

from benchmarks.processes import DEMO
from benchmarks.small_benchmark import pretraining_options
from slotcon_plugin.apis.demo import demo_config
from slotcon_plugin.apis.draw_groups import draw_groups
from slotcon_plugin.apis.train import train
from slotcon_plugin.errors import CheckpointError, ConfigError, DataError
from slotcon_plugin.runtime.scalars import read_curves
from slotcon_plugin.visualization import curves, groups


@pytest.fixture
def color_model():
    """Groups by color: its encoder averages 8 x 8 pixels of each channel, its prototypes are red,
    green and blue."""
    config = tiny_config(num_prototypes=3, channels=3)
    config["backbone"] = dict(type="TinyEncoder", channels=3, norm=False)
    config["neck"] = dict(type="LastMap")
    config["data_preprocessor"] = dict(type="TwoViewPreprocessor")
    model = MODELS.build(config)
    with torch.no_grad():
        for encoder in (model.backbone, model.teacher.backbone):
            encoder.conv.weight.zero_()
            encoder.conv.bias.fill_(3)  # normalized pixels are above -2.2
            for channel in range(3):
                encoder.conv.weight[channel, channel] = 1 / 64
        model.teacher.prototypes.weight.copy_(torch.eye(3))
    return model.train()


def test_groups_lie_where_the_colors_lie(color_model):
    pixels = np.zeros((96, 128, 3), np.uint8)
    pixels[:, :40, 0] = pixels[:, 40:, 2] = 255
    (grouped,) = groups.group_photographs(color_model, [Image.fromarray(pixels)], short_side=192)
    _, assignment = grouped
    assert assignment.shape == (192, 256)
    assert color_model.training
    expected = np.where(np.arange(256) < 80, 0, 2)
    wrong = assignment != expected
    assert not wrong[:, np.abs(np.arange(256) - 80) > 8].any()  # borders of the image included


def test_usage_is_the_mean_share_of_the_images():
    blank = np.zeros((2, 2, 3), np.uint8)
    small = blank, np.array([[0, 0], [0, 2]])
    large = np.zeros((2, 4, 3), np.uint8), np.full((2, 4), 2)
    assert groups.usage([small, large], 4).tolist() == [0.375, 0, 0.625, 0]


def test_curves_of_a_run_and_its_resume(tmp_path):
    for run, steps in (("1", (1, 2, 3)), ("2", (3, 4))):
        folder = tmp_path / run / "vis_data"
        folder.mkdir(parents=True)
        lines = [json.dumps(dict(step=s, loss=float(run), loss_group=1.0)) for s in steps]
        (folder / "scalars.json").write_text("\n".join([*lines, json.dumps(dict(step=9, other=1))]))
    logged = read_curves(tmp_path)
    assert logged["loss"] == [(1, 1), (2, 1), (3, 2), (4, 2)]
    assert [step for step, _ in read_curves(tmp_path / "1")["loss"]] == [1, 2, 3]
    lines = curves.draw_losses(logged).axes[0].lines
    assert [line.get_label() for line in lines] == ["loss", "loss_group"]
    with pytest.raises(DataError, match="No loss was logged"):
        curves.draw_losses(read_curves(tmp_path / "3"))


def test_damaged_lines_of_a_log_are_left_out(tmp_path):
    steps = ('"3"', "1.5", "true", "NaN", "Infinity", "[3]", "{}", "null", f"1{400 * '0'}")
    lines = [f'{{"step": {step}, "loss": 1}}' for step in steps]
    values = ("NaN", "1e400", f"1{400 * '0'}", "true", '"1"')
    lines += [f'{{"step": 3, "loss": {value}}}' for value in values]
    lines += ['{"step": 3, "lo', "[" * 100_000, "3", "", '{"step": 4, "loss": 2}']
    (tmp_path / "metrics.json").write_text("\n".join(lines))
    assert read_curves(tmp_path) == {"loss": [(4, 2.0)]}


def test_the_demo_draws_groups_and_losses(tmp_path, run_tool):
    """With exactly the steps asked for, from a folder with any name, with one broken image."""
    images = write_images(tmp_path / "motorcycles", count=20)
    (images / "000.png").write_bytes(b"no image")
    (images / "001.png").unlink()
    os.mkfifo(images / "001.png")
    Image.new("RGB", (1, 3000)).save(images / "002.png")
    (images / "003.png").rename(images / os.fsdecode(b"\xe9.png"))
    options = "--data", images, "--work-dir", tmp_path / "work", "--steps", 2
    status, output, errors = run_tool("demo", *options)
    assert status == 0, errors
    assert "20 images, 2 steps" in output
    assert all(text in output for text in ("00.png: the file", "a pipe", "more than 4096"))
    assert "trained 2 steps" in output
    for name in ("groups.png", "losses.png"):
        assert min(Image.open(tmp_path / "work" / name).size) > 300
    assert (tmp_path / "work" / "iter_2.pth").exists()


@pytest.mark.parametrize(("images", "steps"), [(20, 1), (20, 10), (7, 25), (160, 11)])
def test_the_demo_trains_the_steps_asked_for(images, steps, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    cfg = demo_config([f"{i}.png" for i in range(images)], tmp_path, steps, seed=0)
    assert cfg.train_cfg == dict(type="IterBasedTrainLoop", max_iters=steps)
    # The loader does not end before: MMEngine waits two seconds to start it again.
    assert cfg.train_dataloader.sampler.rounds * images >= steps * 16
    assert cfg.default_hooks.logger.interval <= steps  # at least one loss is logged


def test_the_demo_reports_a_missing_folder(tmp_path, run_tool):
    status, output, errors = run_tool("demo", "--data", tmp_path / "none")
    assert (status, output) == (1, "")
    assert "none does not exist" in errors
    assert "Traceback" not in errors


def test_the_groups_of_a_checkpoint_are_drawn(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    images = write_images(tmp_path / "images")
    (images / "000.png").write_bytes(b"no image")
    options = pretraining_options(images, tmp_path / "work", epochs=1)
    options.append("default_hooks.unreadable_images.max_unreadable=0.5")
    work_dir = train(DEMO, cfg_options=options)
    checkpoint, out = work_dir / "epoch_1.pth", tmp_path / "groups.png"
    draw_groups(DEMO, checkpoint, out, images=str(images), count=2, cfg_options=options)
    assert min(Image.open(out).size) > 300
    drawn = out.read_bytes()
    weights = torch.load(checkpoint, weights_only=False)["state_dict"]
    torch.save({f"module.{name}": value for name, value in weights.items()}, tmp_path / "plain.pth")
    two = dict(images=str(images), count=2, cfg_options=options)
    with pytest.raises(ConfigError, match=r"groups\.png is there already.* give --overwrite"):
        draw_groups(DEMO, tmp_path / "plain.pth", out, **two)
    draw_groups(DEMO, tmp_path / "plain.pth", out, overwrite=True, **two)
    assert out.read_bytes() == drawn
    out.unlink()
    init = f"+model.init_cfg={{'type': 'Pretrained', 'checkpoint': '{tmp_path / 'plain.pth'}'}}"
    part = {name: value for name, value in weights.items() if name.startswith("backbone.")}
    torch.save(part, tmp_path / "plain.pth")
    with pytest.raises(CheckpointError, match=r"The config initializes the model from .* missing"):
        draw_groups(DEMO, checkpoint, out, str(images), cfg_options=[*options, init])
    assert "000.png" in capsys.readouterr().out
    with pytest.raises(ConfigError, match="--count is 0, expected a whole number from 1 on"):
        draw_groups(DEMO, checkpoint, out, count=0, cfg_options=options)
    other = tmp_path / "other.py"
    other.write_text('model = dict(type="mmseg.EncoderDecoder")\n')
    with pytest.raises(ConfigError, match="is not of a pretraining with SlotCon"):
        draw_groups(other, checkpoint, out)
    other.write_text('model = dict(type="SlotCon")\n')
    with pytest.raises(ConfigError, match="names no training images: give some with"):
        draw_groups(other, checkpoint, out)
    with pytest.raises(DataError, match="None of the images can be read"):
        draw_groups(DEMO, checkpoint, out, images=str(images / "000.png"), cfg_options=options)
