"""Groups and figures of the teacher during a pretraining, which they do not change."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from mmengine.runner import Runner
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tiny_training import assert_same, write_images

from benchmarks.processes import CONFIGS, DEMO
from benchmarks.small_benchmark import decoder_options, pretraining_options
from slotcon_plugin.functional.dense import upsampled_argmax
from slotcon_plugin.hooks.feature_rank_hook import measure_features
from slotcon_plugin.hooks.group_images_hook import draw_sample
from slotcon_plugin.runtime.config_options import read_config
from slotcon_plugin.runtime.fit_machine import fit_to_machine
from slotcon_plugin.runtime.safe_loading import load_checkpoint_safely
from slotcon_plugin.visualization.contact_sheet import LABEL
from slotcon_plugin.visualization.painting import overlay

OFF = ["default_hooks.group_images=None", "default_hooks.feature_rank=None"]
STATES = ("state_dict", "optimizer", "param_schedulers")


@pytest.fixture(autouse=True)
def _on_the_cpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


def make_runner(options: list[str], config: Path = DEMO, iterations: int | None = None) -> Runner:
    cfg = read_config(config, options)
    if iterations:
        cfg.train_cfg = dict(type="IterBasedTrainLoop", max_iters=iterations)
    cfg.experiment_name = cfg.work_dir.replace(
        "/", "_"
    )  # two of one second would share a visualizer
    fit_to_machine(cfg)
    return Runner.from_cfg(cfg)


def painted(model, image_3hw: torch.Tensor, level: int = 0) -> np.ndarray:
    """The groups of one image of 64 or 128 pixels over its pixels, 160 x 160, as they are drawn."""
    pixels = model.data_preprocessor(dict(inputs=image_3hw[None]))["inputs"]
    framed = F.pad(pixels, [32] * 4, mode="reflect")
    scores = model.teacher(framed)[level].scores
    whole = 160 * framed.shape[3] // pixels.shape[3]
    (groups,) = upsampled_argmax(scores, whole, whole)
    cut = slice((whole - 160) // 2, (whole + 160) // 2)
    small = F.interpolate(image_3hw[None], (160, 160), mode="bilinear", antialias=True)[0]
    return overlay(small.permute(1, 2, 0).numpy(), groups[cut, cut].numpy())


def logged(work_dir: Path) -> list[dict]:
    lines = next(work_dir.glob("*/vis_data/scalars.json")).read_text().splitlines()
    return [json.loads(line) for line in lines]


def drawn(work_dir: Path) -> list[str]:
    return sorted(path.name for path in (work_dir / "groups").iterdir())


def measured(runner: Runner) -> tuple[float, float]:
    """RankMe and α-ReQ of a runner's teacher."""
    (hook,) = [one for one in runner.hooks if type(one).__name__ == "FeatureRankHook"]
    hook.before_train(runner)
    found = []
    hook.look(runner, lambda model, images: found.extend(measure_features(model, images)))
    return tuple(found)


def test_a_pretraining_is_drawn_and_measured_and_stays_the_same(tmp_path):
    images, random_numbers = write_images(tmp_path / "images", count=8), []
    for name, options in (("with", []), ("without", OFF)):
        runner = make_runner([*pretraining_options(images, tmp_path / name), *options])
        runner.train()
        random_numbers.append((torch.rand(3), np.random.rand()))
        if name == "with":
            looked_at = runner
    assert_same(*random_numbers[0][:1], random_numbers[1][0])
    assert random_numbers[0][1] == random_numbers[1][1]
    one, other = (
        load_checkpoint_safely(tmp_path / name / "epoch_2.pth") for name in ("with", "without")
    )
    for part in STATES:
        assert_same(one[part], other[part], part)
    assert looked_at.model.teacher.backbone.bn1.training  # the mode, too

    assert drawn(tmp_path / "with") == ["epoch_0.png", "epoch_1.png", "epoch_2.png"]
    assert not (tmp_path / "without" / "groups").exists()
    (hook,) = [one for one in looked_at.hooks if type(one).__name__ == "GroupImagesHook"]
    looked_at.model.teacher.eval()
    sheet = np.asarray(draw_sample(looked_at.model, hook.sample, "epoch 2"))
    last = np.asarray(Image.open(tmp_path / "with" / "groups" / "epoch_2.png"))
    assert np.array_equal(last, sheet) and sheet.shape == (324, 980 + LABEL, 3)
    assert np.array_equal(
        sheet[164:, LABEL : LABEL + 160], painted(looked_at.model, hook.sample[0])
    )

    board = EventAccumulator(
        str(next((tmp_path / "with").glob("*/vis_data/events*"))), size_guidance=dict(images=0)
    ).Reload()
    assert [entry.step for entry in board.Images("groups")] == [0, 2, 4]
    encoded = io.BytesIO(board.Images("groups")[-1].encoded_image_string)
    assert np.array_equal(np.asarray(Image.open(encoded)), sheet)
    lines = logged(tmp_path / "with")
    assert [line["step"] for line in lines if "rankme" in line] == [1, 2, 3, 4]
    assert (lines[-1]["rankme"], lines[-1]["alpha_req"]) == pytest.approx(measured(looked_at))
    assert "rankme" not in logged(tmp_path / "without")[-1]


def test_a_resumed_training_goes_on(tmp_path):
    images = write_images(tmp_path / "images", count=8)
    make_runner(pretraining_options(images, tmp_path / "whole")).train()
    options = pretraining_options(images, tmp_path / "resumed")
    runner = make_runner(
        [*options, f"load_from={tmp_path / 'whole' / 'epoch_1.pth'}", "resume=True"]
    )
    runner.train()
    assert drawn(tmp_path / "resumed") == ["epoch_2.png"]
    files = [tmp_path / name / "groups" / "epoch_2.png" for name in ("whole", "resumed")]
    assert files[0].read_bytes() == files[1].read_bytes()
    whole, resumed = (
        [(line["step"], line["rankme"]) for line in logged(tmp_path / name)]
        for name in ("whole", "resumed")
    )
    assert resumed == whole[2:]


def test_what_cannot_be_drawn_is_one_warning(tmp_path):
    images = write_images(tmp_path / "images", count=8)
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "groups").write_text("not a folder")
    make_runner(pretraining_options(images, tmp_path / "work")).train()
    log = next((tmp_path / "work").glob("*/*.log")).read_text()
    assert log.count("no images of groups are drawn, and the training continues") == 1
    assert "rankme" in logged(tmp_path / "work")[-1]
    assert (tmp_path / "work" / "epoch_2.pth").exists()


def test_features_of_few_directions_are_a_warning(tmp_path):
    images = write_images(tmp_path / "images", count=8)
    options = [*pretraining_options(images, tmp_path / "work"), "train_cfg.max_epochs=1"]
    make_runner([*options, "+default_hooks.feature_rank.min_rank=1e4"]).train()
    log = next((tmp_path / "work").glob("*/*.log")).read_text()
    assert log.count("Epoch 1: the features are collapsing: RankMe is") == 2


def test_iterations_and_parts_of_the_training(tmp_path):
    """A training that counts iterations; lines every 2 of 3 iterations of an epoch."""
    images = write_images(tmp_path / "images", count=12)
    lines = ["default_hooks.logger.interval=2", "+default_hooks.feature_rank.points=2"]
    tiny = pretraining_options(images, tmp_path / "iterations")
    make_runner([*tiny, *lines], iterations=7).train()
    names = [f"iter_{n}.png" for n in (0, 1, 2, 5, 7)]
    assert drawn(tmp_path / "iterations") == names
    assert [line["step"] for line in logged(tmp_path / "iterations") if "rankme" in line] == [2, 6]

    tiny = pretraining_options(images, tmp_path / "epochs", epochs=3)
    make_runner([*tiny, *lines]).train()
    found = {line["step"]: "rankme" in line for line in logged(tmp_path / "epochs")}
    assert found == {2: True, 5: False, 8: True}


def test_a_decoder_is_drawn_on_its_largest_map(tmp_path):
    pytest.importorskip("mmdet")
    images = write_images(tmp_path / "images", count=4)
    options = decoder_options(images, tmp_path / "work", epochs=1)
    runner = make_runner(options, CONFIGS / "decon_fpn_r18_demo.py")
    runner.train()
    sheet = np.asarray(Image.open(tmp_path / "work" / "groups" / "epoch_1.png"))
    (hook,) = [one for one in runner.hooks if type(one).__name__ == "GroupImagesHook"]
    model = runner.model.eval()
    pixels = model.data_preprocessor(dict(inputs=hook.sample[:1]))["inputs"]
    sizes = [view.scores.shape[2] for view in model.teacher(pixels)]
    assert sizes[1] == max(sizes) > sizes[0]
    assert np.array_equal(sheet[164:, LABEL : LABEL + 160], painted(model, hook.sample[0], level=1))


def test_the_figures_of_a_checkpoint(tmp_path, run_tool):
    """evaluate rank: the values that the training logged, of the same images without labels."""
    images = write_images(tmp_path / "images", count=8)
    runner = make_runner(pretraining_options(images, tmp_path / "work", epochs=1))
    runner.train()
    last = logged(tmp_path / "work")[-1]
    out, checkpoint = tmp_path / "rank.json", tmp_path / "work" / "epoch_1.pth"
    options = ["--images", images, "--size", 32, "--out", out, "--quiet"]
    status, output, errors = run_tool("evaluate", "rank", checkpoint, *options)
    assert status == 0, errors
    found = json.loads(out.read_text())["results"]
    assert found["cells"] == 8 * 16 and found["channels"] == 128
    for name in ("rankme", "alpha_req"):
        assert found[name] == pytest.approx(last[name], rel=1e-4)
    assert f"{found['rankme']:.2f}" in output and "RankMe" in output
    status, _, errors = run_tool(
        "evaluate", "rank", checkpoint, *options, "--cells", 40, "--overwrite"
    )
    assert status == 0, errors
    assert json.loads(out.read_text())["results"]["cells"] == 40
