"""The benchmark at its smallest, for real: pretraining, export, transfers, evaluation, table."""

import csv
import json
import os
import re
import signal
import sys

import pytest
from tiny_training import finish, wait_for

from benchmarks.processes import ROOT, start
from benchmarks.small_benchmark import TOOL, small_benchmark, write_benchmark, write_mini

pytest.importorskip("snakemake", reason="the benchmark needs snakemake (Python 3.11)")
pytest.importorskip("mmdet", reason="detection needs mmdet")
pytest.importorskip("mmseg", reason="segmentation needs mmseg")


def results(work_dir):
    """Every job's result file and when it was written."""
    return {
        json.loads(file.read_text())["job"]: file.stat().st_mtime_ns
        for file in work_dir.glob("jobs/*/*/result.json")
    }


@pytest.mark.slow
def test_the_chain(tmp_path):
    """Killed in the middle, with a job that fails, repaired, and changed."""
    root, work_dir = write_mini(tmp_path / "mini"), tmp_path / "out"
    content = small_benchmark(root, work_dir)
    del content["pretrainings"]["random"]
    broken = json.loads(json.dumps(content["transfers"]["voc"]))
    broken["overrides"]["optim_wrapper.optimizer.lr"] = "much"
    content["transfers"]["broken"] = dict(broken, column="city")
    content["transfers"]["stuff"] = dict(
        evaluate="unsupervised",
        images=str(root / "images"),
        labels=str(root / "voc21"),
        labels_format="voc",
        size=64,
    )
    file = write_benchmark(tmp_path / "tiny.yaml", content)
    command = (TOOL, file, "--cores", "1", "--keep-going")

    # Killed as soon as the pretraining has its first checkpoint, with everything that it started.
    process = start(*command)
    wait_for(lambda: list(work_dir.glob("jobs/pretrain.*/*/epoch_1.pth")), process)
    os.killpg(process.pid, signal.SIGKILL)
    process.stdout.close()
    process.wait()
    assert results(work_dir) == {}
    assert not (work_dir / "tables.md").exists()

    # It goes on there; one job fails, the others' results are in the table.
    process = start(*command)
    output, _ = process.communicate(timeout=900)
    assert process.returncode != 0
    assert "begun 50 %" in output
    (log,) = work_dir.glob("jobs/pretrain.tiny.s0/*/log.txt")
    assert "after epoch 1" in log.read_text()
    first = results(work_dir)
    names = (
        "export.tiny.s0 transfer.tiny.s0.coco.s0 transfer.tiny.s0.voc.s0 evaluate.tiny.s0.stuff.s0"
    )
    assert first.keys() == {"pretrain.tiny.s0", *names.split()}
    (row,) = csv.DictReader((work_dir / "tables.csv").open())
    assert row["City"] == ""
    for column in ("APᵇ", "APᵐ", "VOC", "Stuff mIoU"):
        assert float(row[column]) >= 0
        assert row[f"{column} paper's protocol"] == "no"
    page = (work_dir / "report.html").read_text()
    assert page.count("data:image/png;base64,") >= 4  # groups, curves of three trainings, jobs
    assert "NOT the paper&#x27;s protocol" in page
    assert not re.search(r'(src|href)="(?!data:)', page)  # self-contained
    one = json.loads(next(work_dir.glob("jobs/pretrain.tiny.s0/*/result.json")).read_text())
    assert one["starts"] == 2
    assert one["seconds"] > 0 and one["peak_memory_mib"] > 100
    assert one["versions"]["torch"] and one["device"] and len(one["digest"]) == 64

    # Repaired: that job runs, no other.
    content["transfers"]["broken"]["overrides"]["optim_wrapper.optimizer.lr"] = 0.001
    write_benchmark(file, content)
    output = finish(start(*command), 600)
    assert "6 jobs: 5 done, 1 to run" in output
    second = results(work_dir)
    assert {name: second[name] for name in first} == first
    assert second.keys() - first.keys() == {"transfer.tiny.s0.broken.s0"}
    (row,) = csv.DictReader((work_dir / "tables.csv").open())
    assert row["City"] != ""

    # Changed: what depends on it is to be run again; undone: nothing is.
    content["pretrainings"]["tiny"]["overrides"]["optim_wrapper.optimizer.lr"] = 0.5
    write_benchmark(file, content)
    assert "6 jobs: 0 done, 6 to run" in finish(start(*command, "--dry-run"))
    content["pretrainings"]["tiny"]["overrides"]["optim_wrapper.optimizer.lr"] = 1.0
    write_benchmark(file, content)
    output = finish(start(*command, "--dry-run"))
    assert "6 jobs: 6 done, 0 to run" in output
    assert "Nothing to be done" in output
    assert results(work_dir) == second


def test_a_mistake_gets_one_message(tmp_path):
    process = start(sys.executable, ROOT / "tools" / "benchmark.py", tmp_path / "absent.yaml")
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 1
    assert "error: There is no benchmark" in output
    assert "Traceback" not in output


@pytest.mark.slow
def test_detectron2_is_a_transfer_as_the_others(tmp_path, monkeypatch):
    """Its own trainer, killed at its first checkpoint; the table has its figures."""
    pytest.importorskip("detectron2", reason="detectron2 is in no registry; see docs/transfers.md")
    monkeypatch.setenv("SLOTCON_DATA", str(write_mini(tmp_path / "mini")))
    work_dir = tmp_path / "out"
    overrides = {
        "MODEL.ROI_HEADS.NUM_CLASSES": 3,
        "MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE": 16,
        "MODEL.ROI_HEADS.SCORE_THRESH_TEST": 0.0,
        "MODEL.RPN.POST_NMS_TOPK_TRAIN": 20,
        "MODEL.RPN.POST_NMS_TOPK_TEST": 10,
        "INPUT.MIN_SIZE_TRAIN": "(96,)",
        "INPUT.MIN_SIZE_TEST": 96,
        "SOLVER.MAX_ITER": 8,
        "SOLVER.CHECKPOINT_PERIOD": 2,
        "TEST.EVAL_PERIOD": 8,
        "TEST.PRECISE_BN.NUM_ITER": 1,
    }
    config = "configs/det/detectron2/mask_rcnn_r18_mini.yaml"
    content = dict(
        work_dir=str(work_dir),
        references=False,
        pretrainings=dict(random="random"),
        transfers={"coco-d2": dict(config=config, column="coco", overrides=overrides)},
    )
    command = (TOOL, write_benchmark(tmp_path / "d2.yaml", content), "--cores", "1")
    process = start(*command)
    wait_for(lambda: list(work_dir.glob("jobs/transfer.*/*/last_checkpoint")), process)
    os.killpg(process.pid, signal.SIGKILL)
    process.stdout.close()
    process.wait()
    finish(start(*command), 600)
    (log,) = work_dir.glob("jobs/transfer.*/*/log.txt")
    assert "Starting training from iteration 2" in log.read_text()
    (row,) = csv.DictReader((work_dir / "tables.csv").open())
    assert float(row["APᵐ"]) >= 0
    assert row["APᵐ paper's protocol"] == "no"
