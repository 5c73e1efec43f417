"""The images of the demo: groups where they should be, curves of what was logged."""

import json
import sys

import numpy as np
import pytest
import torch
from mmengine.registry import MODELS
from PIL import Image
from tiny_model import tiny_config
from tiny_training import write_images

from benchmarks.processes import ROOT, start
from slotcon_plugin.errors import DataError
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
    assert grouped.assignment.shape == (192, 256)
    assert color_model.training
    expected = np.where(np.arange(256) < 80, 0, 2)
    wrong = grouped.assignment != expected
    assert not wrong[:, np.abs(np.arange(256) - 80) > 8].any()  # borders of the image included


def test_usage_is_the_mean_share_of_the_images():
    blank = np.zeros((2, 2, 3), np.uint8)
    small = groups.Grouped(blank, np.array([[0, 0], [0, 2]]))
    large = groups.Grouped(np.zeros((2, 4, 3), np.uint8), np.full((2, 4), 2))
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


def run_demo(*arguments):
    process = start(sys.executable, ROOT / "tools" / "demo.py", *arguments)
    output, _ = process.communicate(timeout=240)
    return process.returncode, output


def test_the_demo_draws_groups_and_losses(tmp_path):
    images = write_images(tmp_path / "images", count=20)
    options = ["--data", images, "--work-dir", tmp_path / "work", "--steps", 10]
    status, output = run_demo(*options)
    assert status == 0, output
    assert "20 images; about 10 steps" in output
    assert "trained 10 steps" in output  # an epoch is 8 rounds of 20 images
    for name in ("groups.png", "losses.png"):
        assert min(Image.open(tmp_path / "work" / name).size) > 300


def test_the_demo_says_what_is_wrong_with_a_folder(tmp_path):
    status, output = run_demo("--data", tmp_path / "none")
    assert status == 1
    assert "none does not exist" in output
    assert "Traceback" not in output
