"""benchmarks/speed.py: both sides of a comparison compute the same; no test judges times."""

import json
import subprocess
import sys
from importlib.util import find_spec
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmengine.registry import DATASETS, MODELS, DefaultScope
from tiny_model import gradients, random_views, tiny_model

from benchmarks import speed, speed_loop, speed_tables
from benchmarks.measuring import Timed, peak_bytes, race, spread
from benchmarks.plain_model import random_geometry
from benchmarks.processes import CONFIGS, ROOT, environment
from benchmarks.speed_data import device_pair, worker_pair, write_jpegs
from benchmarks.speed_decoder import level_pair
from benchmarks.speed_exchange import exchange
from benchmarks.speed_growth import draw_growth
from benchmarks.speed_loop import BlockClock, check_shared_memory, loop_config
from benchmarks.speed_methods import METHODS, PASSES, shipped_config
from benchmarks.speed_networks import network_pairs, step_pair
from benchmarks.speed_report import Row, table, timed_row
from benchmarks.speed_step import Step, Updates
from slotcon_plugin import reference as plain
from slotcon_plugin.datasets import photometric
from slotcon_plugin.datasets.transforms import TwoViews
from slotcon_plugin.functional import kernels
from slotcon_plugin.models.backbones import TorchvisionResNet
from slotcon_plugin.runtime.config_options import read_config

EXACT = dict(rtol=1e-9, atol=1e-11)


def same(ours, expected):
    if isinstance(ours, torch.Tensor):
        torch.testing.assert_close(ours, expected, **EXACT)
        return
    for mine, theirs in zip(ours, expected, strict=True):
        same(mine, theirs)


@pytest.mark.parametrize(
    "name", ["scores", "alignment and grouping loss", "slot loss", "all of these"]
)
@pytest.mark.parametrize("chunk", [None, 1])
def test_each_part_of_the_step_equals_its_plain_version(name, chunk, monkeypatch):
    if chunk:
        monkeypatch.setattr(kernels, "CPU_CHUNK", chunk)  # one image at a time
    step = Step(20, 5, channels=12, size=4, dtype=torch.float64)
    ours, plainly = step.pairs()[name]
    for _ in range(2):  # the second time with another center
        same(ours(), plainly())


def test_a_level_of_a_decoder_equals_its_plain_version(monkeypatch):
    monkeypatch.setattr(kernels, "CPU_CHUNK", 4096)
    ours, plainly = level_pair(3, 6, 24, num_prototypes=10, dim=12, dtype=torch.float64)
    for _ in range(2):
        same(ours(), plainly())


def test_teacher_and_lars_equal_their_plain_versions():
    torch.manual_seed(0)
    shapes = (7, 5), (5,), (3, 4, 2, 2)
    updates = Updates([torch.randn(shape, dtype=torch.float64) for shape in shapes], 2)
    for ours, plainly in updates.pairs().values():
        for _ in range(2):
            same(ours(), plainly())


@pytest.mark.parametrize("name", ["vit_small", "convnext_tiny"])
def test_a_step_with_an_encoder_of_timm_equals_its_plain_version(name):
    options = ["backbone.name=test_" + name.partition("_")[0], "head.prototypes.num_prototypes=8"]
    options += ["neck.hidden_channels=32", "head.predictor.hidden_channels=32"]
    cfg = read_config(CONFIGS / f"slotcon_{name}_coco.py", [f"model.{one}" for one in options])
    torch.manual_seed(0)
    ours, plainly = step_pair(cfg, 3, 64, "cpu", torch.float64)
    for seed in range(2):
        torch.manual_seed(seed)  # of the student's stochastic depth
        mine = [tensor.detach().clone() for tensor in ours()]
        torch.manual_seed(seed)
        same(mine, plainly())


def test_channels_last_changes_nothing():
    views, geometry = random_views(3), random_geometry(3)
    results, reference = [], tiny_model().state_dict()
    for flag in (False, True):
        model = tiny_model(channels_last=flag)
        model.load_state_dict(reference)
        losses = model.loss(views, geometry)
        (losses["loss_group"] + losses["loss_slot"]).backward()
        results.append([losses["loss_group"], losses["loss_slot"], *gradients(model).values()])
    assert model.backbone.conv.weight.is_contiguous(memory_format=torch.channels_last)
    same(*results)


def test_two_processes_send_less_and_compute_the_same():
    for k, result in exchange([4, 64], batch=3, size=3).items():
        assert result["loss_ours"] == pytest.approx(result["loss_plain"], rel=1e-5), k
        assert result["center_error"] < 1e-6
        # Plain: 256 floats and a byte of the mask for each of k slots of 3 images, in both
        # directions; and the mean for the center.
        assert result["plain"] == 2 * 3 * k * (256 * 4 + 1) + 4 * k
    assert result["ours"] < result["plain"] / 4  # at most 9 of 64 slots are active


def test_both_pipelines_make_the_same_views(tmp_path):
    draws = TwoViews(size=96, blur_prob=0)  # PIL's blur only approximates a Gaussian
    ours, plainly = worker_pair(write_jpegs(tmp_path, 320, 240), draws)
    items, expected = ours(), plainly()
    for name in ("boxes", "flips"):
        same([item[name] for item in items], [item[name] for item in expected])
    normalized, of_same_pixels = (side() for side in device_pair(items, "cpu"))
    expected = torch.stack([item["views"] for item in expected])
    levels = photometric.IMAGENET_STD[0] * 255
    assert normalized.shape == expected.shape == (8, 2, 3, 96, 96)
    for other in (expected, of_same_pixels):
        error = (normalized - other).abs().mean(dim=(2, 3, 4)) * levels
        assert error.max() < 4, "gray levels"


def test_peak_memory_counts_simultaneous_allocations():
    def run():
        for _ in range(3):
            a = torch.ones(2**18)  # 1 MiB
            b = a + 1  # 1 MiB more
            del a, b

    assert 2 * 2**20 <= peak_bytes(run) <= 2 * 2**20 + 4096


def test_both_sides_of_a_race_alternate():
    order = []
    times = race(lambda: order.append("ours"), lambda: order.append("plain"), rounds=2)
    assert order == ["plain", "ours", "ours", "plain", "plain", "ours"]
    assert [len(side) for side in times] == [2, 2]


def test_ratios_and_spread_have_expected_values():
    times = Timed([1.0, 2.0, 2.0], [4.0, 4.0, 10.0])
    row = timed_row("step", "a", times, goal=4.0)
    assert (row.ours, row.plain, row.ratio) == (2.0, 4.0, 4.0)
    rates = timed_row("data", "b", times, images=8, unit="images/s/core")
    assert (rates.ours, rates.plain, rates.ratio) == (4.0, 2.0, 4.0)
    assert Row("memory", "c", "bytes", 10, 25).ratio == 2.5
    assert spread([1.0, 2.0, 3.0, 4.0, 5.0]) == pytest.approx(0.5)
    text = table([row, Row("memory", "c", "bytes", 2**20, 2**21, goal=3.0)])
    assert "4.0×" in text and "≥ 4× yes" in text and "≥ 3× NO" in text and "1.00 MiB" in text


def test_the_program_measures_every_table(tmp_path):
    out = tmp_path / "speed.json"
    command = [sys.executable, ROOT / "benchmarks" / "speed.py", "--quick", "--json", out]
    command += ["--growth", tmp_path / "growth.png"]
    done = subprocess.run(
        [str(word) for word in command], env=environment(), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    record = json.loads(out.read_text(encoding="utf-8"))
    expected = list(speed.TABLES[:-1])
    if find_spec("mmpretrain") is None:
        expected.remove("methods")
    assert [*dict.fromkeys(row["table"] for row in record["rows"])] == expected
    for row in record["rows"]:
        assert row["ours"] > 0 and row["plain"] > 0, row
        assert row["name"] in done.stdout
    assert record["machine"]["torch"] == torch.__version__
    assert (tmp_path / "growth.png").stat().st_size > 0
    assert "[speed]" in done.stderr and "[speed]" not in done.stdout


@pytest.mark.parametrize("quick", [True, False])
@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_the_config_of_the_loop_depends_on_the_device(device, quick):
    """No GPU is needed to build the config that `--device cuda` trains."""
    cfg = loop_config(["a.jpg"] * 10, device, batch=8, steps=5, workers=3, quick=quick)
    large = device == "cuda" and not quick
    assert cfg.model.backbone.depth == (50 if large else 18)
    assert cfg.model.compile == cfg.model.channels_last == large
    loader = cfg.train_dataloader
    assert (loader.batch_size, loader.num_workers, loader.prefetch_factor) == (8, 3, 1)
    assert loader.sampler.rounds * 10 // 8 >= 5
    assert loader.dataset.get("views", {}).get("size", 224) == (
        64 if quick else 224 if large else 128
    )


def test_both_sides_of_the_networks_have_equal_shapes():
    model = read_config(CONFIGS / "slotcon_r18_demo.py").model
    for pair in network_pairs(model, 2, 32, "cpu").values():
        ours, plainly = (side() for side in pair)
        assert ours.shape == plainly.shape == (2, 128, 2, 2)
        assert (ours.dtype, plainly.dtype) == (torch.bfloat16, torch.float16)


def test_the_encoder_passes_of_the_methods_are_those_of_the_table(monkeypatch):
    pytest.importorskip("mmpretrain.models")
    with_gradient, forward = [], TorchvisionResNet.forward

    def counted(self, images):
        with_gradient.append(torch.is_grad_enabled())
        return forward(self, images)

    monkeypatch.setattr(TorchvisionResNet, "forward", counted)
    files = {f"baselines/{one.baseline}_r18_small.py": one for one in METHODS.values()}
    for file, method in {"slotcon_r18_demo.py": PASSES, **files}.items():
        model = MODELS.build(read_config(CONFIGS / file).model)
        model.teacher_moves = True
        with_gradient.clear()
        model(list(torch.randn(2, 4, 3, 32, 32)), random_geometry(4), mode="loss")
        assert (len(with_gradient), sum(with_gradient)) == (method.forward, method.backward), file


@pytest.mark.parametrize("name", METHODS)
def test_the_methods_have_the_data_of_mmpretrain(name, tmp_path):
    pytest.importorskip("mmpretrain.models")
    write_jpegs(tmp_path, 64, 48)
    cfg = shipped_config(METHODS[name], tmp_path, 5, 3, 0, 32, "r18_small")
    assert cfg.data_preprocessor.type == "SelfSupDataPreprocessor"
    assert "data_preprocessor" not in cfg.model and cfg.default_scope == "mmpretrain"
    with DefaultScope.overwrite_default_scope("mmpretrain"):
        dataset = DATASETS.build(cfg.train_dataloader.dataset)
    assert len(dataset) == 16  # 8 photographs, repeated for 3 batches of 5
    assert [view.shape for view in dataset[5]["inputs"]] == [(3, 32, 32)] * 2


def test_a_block_ends_after_its_last_step():
    clock = BlockClock("cpu", block=2)
    for _ in range(5):
        clock.data_arrived()
        clock.step_done()
    assert len(clock.took) == len(clock.spent) == len(clock.waited) == 2
    assert all(0 < waited <= took for waited, took in zip(clock.waited, clock.took, strict=True))


def test_speed_includes_the_steps_that_waited(monkeypatch, tmp_path):
    """Three blocks take one second, one takes five, four of them waiting: 4 · 2 · 16 images in 8
    seconds, half of them waiting."""

    def loop(cfg, clock, *others):
        clock.took, clock.waited = (
            [9.0] * skipped + [1.0, 1, 5, 1],
            [9.0] * skipped + [0.0, 0, 4, 0],
        )
        clock.spent = clock.took

    settings = speed_tables.Settings(quick=True, workers=0, block=2)
    skipped = 1
    monkeypatch.setattr(speed_tables, "run_ours", loop)
    monkeypatch.setattr(speed_tables, "run_plainly", loop)
    rate, wait = speed_tables.all_rows(settings, tmp_path, print)
    assert (rate.ours, rate.plain, wait.ours) == (16.0, 16.0, 0.5)


def test_a_loop_that_fails_is_reported(monkeypatch, tmp_path, capsys):
    def breaks(cfg, clock):
        raise RuntimeError("broken device")

    def works(cfg, clock, *others):
        clock.took, clock.spent, clock.waited = [1.0] * 9, [1.0] * 9, [0.0] * 9

    monkeypatch.setattr(speed_tables, "run_ours", breaks)
    monkeypatch.setattr(speed_tables, "run_plainly", works)
    settings = speed_tables.Settings(quick=True, workers=0)
    rate, _ = speed_tables.all_rows(settings, tmp_path, print)
    assert rate.ours is None and rate.plain == 16 * 3
    assert "ours failed, RuntimeError: broken device" in capsys.readouterr().out


def test_too_little_shared_memory_is_reported_before_the_loop(monkeypatch):
    check_shared_memory(2, 4, 100)
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=64 * 2**20))
    with pytest.raises(RuntimeError, match=r"16 workers prepare .* MiB, but /dev/shm has 64 MiB"):
        check_shared_memory(16, 512, 301056)


@pytest.mark.parametrize(("fits", "failure"), [(64, "out of memory"), (32, "no engine")])
def test_the_largest_batch_is_found_by_doubling(monkeypatch, fits, failure):
    def two_steps(cfg, batch):
        if batch > fits:
            raise RuntimeError(failure)

    monkeypatch.setattr(speed_loop, "_two_steps", two_steps)
    lines = []
    assert speed_loop.largest_batch(None, 16, lines.append) == fits
    assert lines == [f"largest: {2 * fits} failed: {failure}"]
    with pytest.raises(RuntimeError, match=failure):
        speed_loop.largest_batch(None, 128, lines.append)


def test_a_table_that_fails_has_a_row_and_the_next_is_measured(tmp_path, monkeypatch, capsys):
    def breaks(settings, folder, report):
        yield Row("data", "the first", "s", 1.0, 2.0)
        raise RuntimeError("broken device")

    def works(settings, folder, report):
        yield Row("step", "the second", "s", 1.0, 2.0)

    monkeypatch.setattr(speed_tables, "TABLES", {"data": breaks, "step": works})
    out = tmp_path / "speed.json"
    failed = speed.run(speed.parse_args(["data", "step", "--quick", "--json", str(out)]))
    rows = json.loads(out.read_text(encoding="utf-8"))["rows"]
    assert failed == 1
    assert [(r["name"], r["ours"]) for r in rows] == [
        ("the first", 1.0),
        ("RuntimeError", None),
        ("the second", 1.0),
    ]
    assert "failed" in capsys.readouterr().out


def test_goals_for_values_and_for_ratios():
    rate = Row("all", "a", "images/s", 2000.0, 1500.0, goal=2.0, value_goal=1640.0)
    wait = Row("all", "b", "share", 0.07, None, value_goal=0.05)
    failed = Row("all", "c", "images/s", None, None, value_goal=1640.0)
    text = table([rate, wait, failed])
    assert "≥ 2× NO, ≥ 1,640 yes" in text and "≤ 5% NO" in text and "≥ 1,640 NO" in text
    settings = speed_tables.Settings(device="cuda")
    assert settings.goal({256: 2.0}, 256) is None  # goals are for a CPU


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["stap"], "unknown table 'stap'"),
        (["largest"], "on a GPU only"),
        (["--batch", "0"], "expected 1 or more"),
        (["-K", "1"], "-K is 1"),
    ],
)
def test_a_wrong_option_is_explained(arguments, part, capsys):
    with pytest.raises(SystemExit, match="2"):
        speed.parse_args(arguments)
    assert part in capsys.readouterr().err


def test_growth_is_drawn():
    curves = {"time, K": {"x": [1, 2], "ours": [0.1, 0.2], "plain": [0.3, 0.6]}}
    figure = draw_growth(curves, "a machine")
    (line, _) = figure.axes[0].get_lines()
    np.testing.assert_allclose(line.get_ydata(), [300, 600])


def test_both_centers_are_equal():
    """The pair of all parts does not return the center, which is compared here."""
    step = Step(9, 3, channels=8, size=3, dtype=torch.float64)
    for run in step.losses():
        run()
    centers = [m.head.group_loss.center for m in (step.model, step.plain_model)]
    same(*centers)
    assert centers[0].abs().max() > 0
    assert plain.Settings().center_momentum == step.model.head.group_loss.center_momentum
