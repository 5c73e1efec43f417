"""Transfer configs: each builds, states its protocol, and runs in mmdet's or mmseg's own tools."""

import runpy
from pathlib import Path

import pytest
from mmengine.registry import MODELS, init_default_scope

from benchmarks.processes import ROOT
from benchmarks.small_benchmark import write_mini
from slotcon_plugin.errors import ConfigError
from slotcon_plugin.runtime.config_options import read_config
from slotcon_plugin.runtime.fit_batch import fit_batch_norm, fit_total_batch
from slotcon_plugin.transfer.data_layout import LAYOUTS
from slotcon_plugin.transfer.fill_backbone import backbone_hook

DET, SEG = ROOT / "configs" / "det", ROOT / "configs" / "seg"
FILES = sorted([*DET.glob("*.py"), *SEG.glob("*.py")])
FILES = [path for path in FILES if not path.stem.endswith("_own")]  # need data
YAMLS = sorted((DET / "detectron2").glob("*.yaml"))
MEAN, STD = [123.675, 116.28, 103.53], [58.395, 57.12, 57.375]


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch):
    for name in ("SLOTCON_BACKBONE", "SLOTCON_WORK_DIR", "SLOTCON_DATA", "COCO_ROOT", "VOC_ROOT"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_config_builds(path, monkeypatch):
    pytest.importorskip("mmdet")
    pytest.importorskip("mmseg")
    cfg = read_config(path)
    if "detectron2" in path.stem:
        pytest.importorskip("detectron2", reason="detectron2 is not in the registries")
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    fit_batch_norm(cfg)
    assert "SyncBN" not in str(cfg.model)
    init_default_scope(cfg.default_scope)
    model = MODELS.build(cfg.model)
    assert all(p.requires_grad for p in model.parameters())  # nothing is frozen
    assert not any(m.training is False for m in model.train().modules())  # nor in evaluation mode


@pytest.mark.parametrize(
    ("library", "tool", "config", "options"),
    [
        ("mmdet", "browse_dataset", DET / "mask_rcnn_r18_mini.py", ["--not-show"]),
        ("mmdet", "get_flops", DET / "mask_rcnn_r18_tiny.py", ["--num-images", "1"]),
        ("mmseg", "browse_dataset", SEG / "fcn_r18_mini.py", ["--not-show"]),
        ("mmseg", "get_flops", SEG / "fcn_r50_voc12aug.py", ["--shape", "64"]),
    ],
)
def test_tools_of_mmdet_and_mmseg(library, tool, config, options, tmp_path, monkeypatch, capsys):
    """They build parts of a config without a Runner."""
    folder = Path(pytest.importorskip(library).__file__).parent
    script = folder / ".mim" / "tools" / "analysis_tools" / f"{tool}.py"
    if not script.exists():
        pytest.skip(f"this {library} has no {script.name}")
    monkeypatch.setenv("SLOTCON_DATA", str(write_mini(tmp_path / "mini")))
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    if tool == "browse_dataset":
        options = [*options, "--output-dir", str(tmp_path / "drawn")]
    if config.stem != "fcn_r50_voc12aug":
        options = [*options, "--cfg-options"]
        options += [f"{part}_dataloader.dataset.indices=[0,1,2,3]" for part in ("train", "val")]
    monkeypatch.setattr("sys.argv", [str(script), str(config), *options])
    runpy.run_path(str(script), run_name="__main__")
    if tool == "browse_dataset":
        assert len(list((tmp_path / "drawn").glob("*.jpg"))) == 4
    else:
        assert "Flops: " in capsys.readouterr().out


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_headers_and_entries_that_tools_need(path):
    header = path.read_text().split('"""')[1]
    for word in ("Paper:", "Command:", "Data:", "Cost:", "Expected:", path.stem):
        assert word in header
    cfg = read_config(path)
    assert cfg.data_layout in LAYOUTS
    assert cfg.total_batch_size == cfg.auto_scale_lr.base_batch_size
    assert cfg.auto_scale_lr.enable is False
    assert backbone_hook(cfg) == dict(type="BackboneHook", source="unnamed")


@pytest.mark.parametrize("path", YAMLS, ids=lambda path: path.stem)
def test_headers_of_detectron2_configs(path):
    for word in ("Command:", "Data:", "Expected:", path.stem):
        assert word in path.read_text()


def test_protocol_of_detection():
    cfg = read_config(DET / "mask_rcnn_r50_fpn_syncbn_1x_coco.py")
    assert cfg.total_batch_size == 8 * cfg.train_dataloader.batch_size == 16
    assert (cfg.train_cfg.max_iters, cfg.optim_wrapper.optimizer.lr) == (90_000, 0.02)
    assert cfg.optim_wrapper.optimizer.weight_decay == 1e-4
    assert cfg.optim_wrapper.paramwise_cfg.norm_decay_mult == 0
    warmup, steps = cfg.param_scheduler
    assert (warmup.start_factor, warmup.end) == (0.001, 1000)
    assert steps.milestones == [60_000, 80_000]
    model = cfg.model
    assert (model.data_preprocessor.mean, model.data_preprocessor.std) == (MEAN, STD)
    assert model.data_preprocessor.bgr_to_rgb
    assert (model.backbone.frozen_stages, model.backbone.style) == (-1, "pytorch")
    for part in (model.backbone, model.neck, model.roi_head.bbox_head, model.roi_head.mask_head):
        assert part.norm_cfg.type == "SyncBN"
    assert model.roi_head.bbox_head.type == "Shared4Conv1FCBBoxHead"
    assert model.roi_head.mask_head.num_convs == 4
    resize = cfg.train_pipeline[2]
    assert [scale[1] for scale in resize.scales] == [640, 672, 704, 736, 768, 800]
    assert {scale[0] for scale in resize.scales} == {1333}
    assert cfg.default_hooks.precise_bn == dict(type="PreciseBNHook", iterations=200)


def test_protocol_of_detection_by_detectron2():
    cfg = read_config(DET / "detectron2_mask_rcnn_r50_fpn_syncbn_1x_coco.py")
    detector = cfg.model.detector
    assert (detector.pixel_mean, detector.pixel_std) == (MEAN, STD)
    assert detector.resnets.stride_in_1x1 is False
    assert detector.backbone.freeze_at == 0
    norms = [detector[p].norm for p in ("resnets", "fpn", "roi_box_head", "roi_mask_head")]
    assert norms == ["SyncBN"] * 4
    assert (detector.roi_box_head.num_conv, detector.roi_box_head.num_fc) == (4, 1)
    text = (DET / "detectron2" / "mask_rcnn_r50_fpn_syncbn_1x_coco.yaml").read_text()
    for line in (
        *("STRIDE_IN_1X1: False", "FREEZE_AT: 0", "NUM_CONV: 4", "NUM_FC: 1", "BASE_LR: 0.02"),
        *("STEPS: (60000, 80000)", "MAX_ITER: 90000", "IMS_PER_BATCH: 16", 'FORMAT: "RGB"'),
        *("MIN_SIZE_TRAIN: (640, 672, 704, 736, 768, 800)", "NUM_ITER: 200"),
    ):
        assert line in text
    assert text.count('NORM: "SyncBN"') == 4


# crop, iterations, lr, decay, classes, stride-16 backbone, mean of the published normalization
PROTOCOL = {
    "fcn_r50_voc12aug": (513, 30_000, 0.003, 1e-4, 21, True, [0.485, 0.456, 0.406]),
    "fcn_r50_voc12aug_corrected": (513, 30_000, 0.003, 1e-4, 21, True, MEAN),
    "fcn_r50_cityscapes": (769, 90_000, 0.01, 1e-4, 19, True, [0.485, 0.456, 0.406]),
    "fcn_r50_cityscapes_corrected": (769, 90_000, 0.01, 1e-4, 19, True, MEAN),
    "fcn_r50_ade20k": (512, 80_000, 0.01, 5e-4, 150, False, MEAN),
}


@pytest.mark.parametrize("name", PROTOCOL)
def test_protocol_of_segmentation(name):
    crop, iterations, lr, decay, classes, coarse, mean = PROTOCOL[name]
    cfg = read_config(SEG / f"{name}.py")
    assert cfg.total_batch_size == 8 * cfg.train_dataloader.batch_size == 16
    assert cfg.train_cfg.max_iters == iterations
    optimizer = cfg.optim_wrapper.optimizer
    assert (optimizer.lr, optimizer.momentum, optimizer.weight_decay) == (lr, 0.9, decay)
    backbone, head = cfg.model.backbone, cfg.model.decode_head
    strides, dilations = ((1, 2, 2, 1), (1, 1, 1, 2)) if coarse else ((1, 2, 1, 1), (1, 1, 2, 4))
    assert (tuple(backbone.strides), tuple(backbone.dilations)) == (strides, dilations)
    assert backbone.contract_dilation
    assert backbone.norm_cfg.type == head.norm_cfg.type == "SyncBN"
    assert (head.num_classes, head.num_convs) == (classes, 2)
    wanted = (256, 6, False, 0, True) if coarse else (512, 1, True, 0.1, False)
    keys = ("channels", "dilation", "concat_input", "dropout_ratio", "align_corners")
    assert tuple(head[key] for key in keys) == wanted
    assert ("auxiliary_head" in cfg.model) != coarse
    assert cfg.model.data_preprocessor.mean == mean
    assert cfg.model.data_preprocessor.size == (crop, crop)
    transforms = {step.type: step for step in cfg.train_pipeline}
    assert transforms["RandomCrop"].crop_size == (crop, crop)
    assert transforms["RandomResize"].ratio_range == (0.5, 2.0)
    assert ("PhotoMetricDistortion" in transforms) != coarse
    if coarse:
        steps = [iterations * share // 10 for share in (7, 9)]
        assert cfg.param_scheduler.milestones == steps
        assert "cat_max_ratio" not in transforms["RandomCrop"]
    else:
        assert (cfg.param_scheduler.power, cfg.param_scheduler.eta_min) == (0.9, 1e-4)
        assert transforms["RandomCrop"].cat_max_ratio == 0.75
        assert all(p[2 - i].reduce_zero_label for i, p in enumerate([cfg.test_pipeline]))
        assert transforms["LoadAnnotations"].reduce_zero_label
    assert cfg.model.test_cfg.mode == ("slide" if "cityscapes" in name else "whole")


@pytest.mark.parametrize(
    ("processes", "accumulated", "each"), [(1, 1, 16), (4, 1, 4), (8, 1, 2), (16, 1, 1), (1, 4, 4)]
)
def test_the_total_batch_is_16_at_any_number_of_gpus(processes, accumulated, each):
    cfg = read_config(DET / "mask_rcnn_r50_fpn_syncbn_1x_coco.py")
    cfg.optim_wrapper.accumulative_counts = accumulated
    (said,) = fit_total_batch(cfg, processes)
    assert cfg.train_dataloader.batch_size == each
    assert f"total batch 16 = {processes} processes x {each}" in said


def test_a_total_batch_that_does_not_divide():
    cfg = read_config(DET / "mask_rcnn_r50_fpn_syncbn_1x_coco.py")
    with pytest.raises(ConfigError, match=r"1, 2, 4, 8, 16 processes.*--auto-scale-lr"):
        fit_total_batch(cfg, 3)
    assert fit_total_batch(cfg, 3, scale_lr=True) == []
    assert cfg.train_dataloader.batch_size == 2
