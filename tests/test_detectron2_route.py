"""detectron2's model in MMEngine's Runner, and its own trainer; skipped without detectron2."""

import json
import sys

import pytest
import torch
from mmengine.logging import MMLogger
from tiny_training import finish
from tiny_weights import write_encoder

from benchmarks.processes import ROOT, start
from benchmarks.small_benchmark import transfer_options, write_mini
from slotcon_plugin.errors import CheckpointError
from slotcon_plugin.runtime.safe_loading import load_checkpoint_safely

pytest.importorskip("detectron2", reason="detectron2 is in no registry; see docs/transfers.md")
pytest.importorskip("mmdet", reason="Detectron2Wrapper is mmdet's")

WRAPPED = ROOT / "configs" / "det" / "detectron2_mask_rcnn_r18_mini.py"
YAML = ROOT / "configs" / "det" / "detectron2" / "mask_rcnn_r18_mini.yaml"
SMALL = {
    "model.detector.rpn.post_nms_topk_train": 20,
    "model.detector.rpn.post_nms_topk_test": 10,
    "model.detector.roi_heads.batch_size_per_image": 16,
    "model.detector.roi_heads.score_thresh_test": 0.0,
}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return write_mini(tmp_path_factory.mktemp("mini") / "coco_mini")


@pytest.fixture(scope="module")
def pickled(tmp_path_factory):
    """An encoder as tools/export.py --to detectron2 writes it."""
    folder = tmp_path_factory.mktemp("weights")
    for depth in (18, 34):
        write_encoder(folder / f"r{depth}.pth", depth)
        process = start(
            *(sys.executable, ROOT / "tools" / "export.py", folder / f"r{depth}.pth"),
            *(folder / f"r{depth}.pkl", "--to", "detectron2"),
        )
        finish(process)
    return folder


def run(*command):
    process = start(sys.executable, *command)
    output, _ = process.communicate(timeout=300)
    return process.returncode, output


def test_the_wrapped_model_trains_and_evaluates(root, pickled, tmp_path, monkeypatch):
    monkeypatch.setenv("SLOTCON_DATA", str(root))
    MMLogger._instance_dict.clear()
    options = [o for o in transfer_options(WRAPPED, root) if not o.startswith("model.")]
    options += [f"{key}={value}" for key, value in SMALL.items()]
    status, output = run(
        *(ROOT / "tools" / "train.py", WRAPPED, "--backbone", pickled / "r18.pkl"),
        *("--work-dir", tmp_path, "--cfg-options", *options),
    )
    assert status == 0, output
    assert "all 120 tensors used" in output
    assert "coco/segm_mAP" in output
    saved = load_checkpoint_safely(tmp_path / "iter_2.pth")["state_dict"]
    assert "d2_model.backbone.bottom_up.stem.conv1.weight" in saved


def test_the_official_trainer_trains_and_evaluates(root, pickled, tmp_path, monkeypatch):
    monkeypatch.setenv("SLOTCON_DATA", str(root))
    tool = (ROOT / "tools" / "train_detectron2.py", YAML, "--num-gpus", "0")
    shrunk = (
        *("MODEL.ROI_HEADS.NUM_CLASSES", 3, "SOLVER.MAX_ITER", 2, "TEST.PRECISE_BN.NUM_ITER", 1),
        *("INPUT.MIN_SIZE_TRAIN", "(96,)", "INPUT.MIN_SIZE_TEST", 96),
        *("MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE", 16, "MODEL.RPN.POST_NMS_TOPK_TRAIN", 20),
        *("MODEL.RPN.POST_NMS_TOPK_TEST", 10, "MODEL.ROI_HEADS.SCORE_THRESH_TEST", 0.0),
    )
    work = ("--work-dir", tmp_path)
    status, output = run(*tool, "--backbone", pickled / "r18.pkl", *work, *shrunk)
    assert status == 0, output
    assert "all 120 tensors used" in output
    assert "Computing precise BN statistics" in output
    assert "Evaluation results for segm" in output
    assert (tmp_path / "model_final.pth").exists()

    out = tmp_path / "metrics.json"
    trained = ("MODEL.WEIGHTS", tmp_path / "model_final.pth")
    status, output = run(*tool, *work, "--eval-only", "--out", out, *trained, *shrunk)
    assert status == 0, output
    assert {"bbox", "segm"} == json.loads(out.read_text()).keys()
    whole = torch.load(tmp_path / "model_final.pth", weights_only=False)
    name = "roi_heads.box_predictor.cls_score.bias"
    for changed in ({}, {name: whole["model"][name][1:]}):
        weights = {k: v for k, v in whole["model"].items() if k != name} | changed
        torch.save({**whole, "model": weights}, tmp_path / "changed.pth")
        given = ("MODEL.WEIGHTS", tmp_path / "changed.pth")
        status, output = run(*tool, *work, "--eval-only", *given, *shrunk)
        assert (status, name in output) == (1, True), output
        assert "1 missing: " in output or "1 of another shape: " in output
    (tmp_path / "last_checkpoint").write_text("changed.pth")
    options = ("--backbone", pickled / "r18.pkl", *work, "--resume", *shrunk)
    status, output = run(*tool, *options, "SOLVER.MAX_ITER", 3)
    assert status == 1
    assert "does not fit the config's model, GeneralizedRCNN" in output
    status, output = run(*tool, *work, "--eval-only", "MODEL.WEIGHTS", "none.pkl", *shrunk)
    assert status == 1
    assert "MODEL.WEIGHTS is none.pkl" in output

    again = (*tool, "--backbone", pickled / "r34.pkl", *work)
    status, output = run(*again, *shrunk)
    assert status == 1
    assert "model_final.pth" in output and "--overwrite moves" in output
    assert (tmp_path / "model_final.pth").exists()
    status, output = run(*again, "--overwrite", *shrunk)
    assert (tmp_path / "replaced_1" / "model_final.pth").exists()
    assert status == 1
    assert output.count("error: ") == 1
    (tmp_path / "last_checkpoint").write_text("model_final.pkl")
    status, output = run(*tool, "--backbone", pickled / "r18.pkl", *work, "--resume", *shrunk)
    assert status == 1
    assert "last_checkpoint is " in output and "expected an existing .pth file" in output
    status, output = run(*tool, *work, *shrunk)
    assert status == 1
    assert "No backbone is named" in output
    status, output = run(*tool, *work, "MODEL.WEIGHTS", "detectron2://R-18.pkl", *shrunk)
    assert status == 1
    assert "--backbone supervised" in output


@pytest.mark.parametrize("name", ["x.pkl", "x.pkl?a=.pth", "x.pkl#.pth", "absent.pth", "\0.pth"])
def test_only_pth_files_are_loaded(tmp_path, name):
    from slotcon_plugin.transfer.detectron2_route import check_resume, check_trained

    for file in ("x.pkl", "x.pkl?a=.pth", "x.pkl#.pth", "model_final.pth"):
        (tmp_path / file).write_bytes(b"x")
    check_trained(str(tmp_path / "model_final.pth"))
    with pytest.raises(CheckpointError, match=r"expected an existing \.pth file"):
        check_trained(str(tmp_path / name))
    for noted in (name.encode(), b"", b"\xff\0"):
        (tmp_path / "last_checkpoint").write_bytes(noted)
        with pytest.raises(CheckpointError, match=r"expected an existing \.pth file"):
            check_resume(str(tmp_path))
