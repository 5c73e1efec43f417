"""What is wrong with a benchmark is found before its first job, all at once."""

import gc
import re

import numpy as np
import pytest
import torch
from PIL import Image

from benchmarks.processes import CONFIGS, ROOT
from benchmarks.small_benchmark import (
    DET,
    SEG,
    decoder_options,
    overrides,
    small_benchmark,
    write_benchmark,
    write_mini,
)
from slotcon_plugin.apis.run_benchmark import run_benchmark
from slotcon_plugin.benchmark.check_plan import check_plan
from slotcon_plugin.benchmark.planner import Planner
from slotcon_plugin.benchmark.protocols import Protocols
from slotcon_plugin.benchmark.schema import read_benchmark
from slotcon_plugin.errors import ConfigError
from slotcon_plugin.models.slotcon import SlotCon
from slotcon_plugin.runtime import config_options

pytest.importorskip("mmdet", reason="detection needs mmdet")
pytest.importorskip("mmseg", reason="segmentation needs mmseg")


def problems_of(content, folder, gpus=0):
    """What is found, by the entry of the file."""
    benchmark = read_benchmark(write_benchmark(folder / "b.yaml", content))
    planner = Planner(benchmark, ROOT, Protocols(ROOT))
    lines = check_plan(benchmark, planner.plan().jobs, planner.find, gpus)
    assert all("\n" not in line and str(folder / "tmp") not in line for line in lines)
    found = dict(line.split(": ", 1) for line in lines)
    assert len(found) == len(lines)
    return found


def test_all_that_is_wrong_is_listed_at_once(tmp_path):
    mini = write_mini(tmp_path / "mini")
    content = small_benchmark(mini, tmp_path / "out")
    content["pretrainings"]["supervised"] = dict(weights="supervised", transfers=["voc"])
    assert problems_of(content, tmp_path) == {}

    good, voc = content["pretrainings"]["tiny"], content["transfers"]["voc"]

    def pretraining(**changes):
        overrides = {key.replace("__", "."): value for key, value in changes.items()}
        return dict(good, overrides=good["overrides"] | overrides, transfers=["voc"])

    def transfer(**changes):
        overrides = {key.replace("__", "."): value for key, value in changes.items()}
        return dict(voc, overrides=voc["overrides"] | overrides)

    other = tmp_path / "other.py"
    other.write_text(
        f"_base_ = ['{good['config']}']\nmodel = dict(_delete_=True, type='mmseg.EncoderDecoder')"
    )
    torch.save({"state_dict": {"queue": torch.zeros(2)}}, tmp_path / "other.pth")
    labels = dict(evaluate="unsupervised", images=str(mini / "images"), labels=str(mini / "voc21"))
    stages = dict(model__backbone__num_stages=3, model__neck__in_channels=256)
    content["pretrainings"]["tiny"]["transfers"] = ["stuff", "list"]
    content["pretrainings"] |= {
        "three": pretraining(**stages),
        "deep": pretraining(model__backbone__depth=50, model__neck__in_channels=2048),
        "neck": pretraining(model__neck__in_channels=100),
        "nowhere": pretraining(train_dataloader__dataset__source="/nowhere"),
        "large": pretraining(train_dataloader__batch_size=64),
        "gpus": dict(pretraining(), gpus=2),
        "method": dict(config=str(other), transfers=["voc"]),
        "file": dict(checkpoint=str(tmp_path / "other.pth"), transfers=["voc"]),
    }
    content["transfers"] |= {
        "absent": transfer(train_dataloader__dataset__ann_file="absent.txt"),
        "head": transfer(model__decode_head__type="FCNHaed"),
        "channels": transfer(model__decode_head__in_channels=100),
        "d2": dict(config="configs/det/detectron2/mask_rcnn_r18_mini.yaml", column="coco"),
        "stuff": dict(labels, labels_format="panoptic"),
        "list": dict(labels, labels_format="voc", list=str(tmp_path / "b.yaml")),
    }
    expected = {
        "transfers.voc with pretrainings.three": "ResNet-18 without layer4.* does not fit",
        "transfers.voc with pretrainings.deep": "ResNet-50.* does not fit",
        "pretrainings.neck": "to have 100 channels, but got 512.*the config's model.neck",
        "pretrainings.nowhere": "/nowhere does not exist",
        "pretrainings.large": "fewer than one batch",
        "pretrainings.gpus": "`gpus` is 2, this machine has 0",
        "pretrainings.method": "EncoderDecoder",
        "pretrainings.file": "other.pth contains no known encoder",
        "transfers.absent": "Missing or empty are 1 of 4: .*absent.txt .*SLOTCON_DATA",
        "transfers.head": "FCNHaed.* Did you mean FCNHead",
        "transfers.channels": "to have 100 channels",
        "transfers.d2": "detectron2 is not installed",
        "transfers.stuff": "voc21",
        "transfers.list": "The list .*b.yaml",
    }
    found = problems_of(content, tmp_path)
    assert found.keys() == expected.keys()
    for entry, message in expected.items():
        assert re.search(message, found[entry]), found[entry]


def test_images_and_labels_are_read(tmp_path):
    mini = write_mini(tmp_path / "mini")
    content = small_benchmark(mini, tmp_path / "out")
    for name in ("001.jpg", "002.jpg"):
        (mini / "images" / name).write_bytes(b"no image")
    found = problems_of(content, tmp_path)
    assert found.keys() == {"pretrainings.tiny", "transfers.coco", "transfers.voc"}
    assert all("/00" in message for message in found.values())


def test_few_models_are_in_memory_at_once(tmp_path, monkeypatch):
    content = small_benchmark(write_mini(tmp_path / "mini"), tmp_path / "out")
    tiny = content["pretrainings"]["tiny"]
    content["pretrainings"] = {f"tiny{i}": tiny for i in range(4)}
    benchmark, counts = read_benchmark(write_benchmark(tmp_path / "b.yaml", content)), []
    planner = Planner(benchmark, ROOT, Protocols(ROOT))

    def read_config(*given):  # before each model
        gc.collect()
        counts.append(sum(type(one) is SlotCon for one in gc.get_objects()))
        return config_options.read_config(*given)

    jobs = [job for job in planner.plan().jobs if job.rule == "pretrain"]
    monkeypatch.setattr("slotcon_plugin.benchmark.check_plan.read_config", read_config)
    assert check_plan(benchmark, jobs, planner.find, 0) == []
    assert len(counts) == 4 and max(counts) - counts[0] == 1


def test_a_plan_whose_jobs_would_fail_is_refused(tmp_path, capfd, monkeypatch):
    content = dict(work_dir=str(tmp_path / "out"), gpus=8, pretrainings=dict(random="random"))
    content["transfers"] = dict(voc=dict(config=str(SEG), column="voc", gpus=8))
    content["transfers"]["coco"] = dict(config=str(DET), column="coco")
    file = write_benchmark(tmp_path / "b.yaml", content)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setenv("SLOTCON_DATA", str(tmp_path / "absent"))
    for dry_run in (True, False):
        with pytest.raises(ConfigError, match=r"b.yaml: jobs would fail for 4 reasons:") as raised:
            run_benchmark(file, dry_run=dry_run)
        assert "transfer.random.s0.voc.s0" in capfd.readouterr().out  # the plan
        for line in ("transfers.voc: `gpus` is 8", "transfers.coco: The data", "--skip-checks"):
            assert line in str(raised.value)
    assert not (tmp_path / "out").exists()
    options = ["--executor=slurm", "transfer.random.s0.voc.s0"]
    with pytest.raises(ConfigError, match=r"would fail for 1 reasons:\n  transfers.voc: The data"):
        run_benchmark(file, dry_run=True, snakemake_options=options)  # of that job, elsewhere
    assert run_benchmark(file, dry_run=True, skip_checks=True) == 0


def test_a_decoder_that_does_not_fit_is_found(tmp_path):
    mini = write_mini(tmp_path / "mini")
    content = small_benchmark(mini, tmp_path / "out")
    del content["transfers"]["voc"]
    stages = [
        *("model.backbone.num_stages=4", "model.backbone.out_indices=(0,1,2,3)"),
        *("model.neck.in_channels=512", "model.decoder.in_channels=[64,128,256,512]"),
        "model.decoder.num_outs=4",
    ]
    options = overrides([*decoder_options(mini / "images", tmp_path), *stages])
    config = str(CONFIGS / "decon_fpn_r18_demo.py")
    content["pretrainings"] = dict(
        decon=dict(config=config, overrides=options),
        alone=dict(same_as="decon", parts="encoder"),
    )
    (where, problem), *others = problems_of(content, tmp_path).items()
    assert (where, others) == ("transfers.coco with pretrainings.decon", [])
    assert "does not fit MaskRCNN.neck" in problem and "--parts encoder" in problem


def test_the_small_benchmark_of_the_repository_would_run(tmp_path, monkeypatch):
    """Its entries follow from the images and the labels of a folder, which is tiny here."""
    rng, names = np.random.default_rng(0), [f"{i:02}" for i in range(40)]
    for folder, channels in (("images", (3,)), ("labels", ())):
        (tmp_path / folder).mkdir()
        for name in names:
            values = rng.integers(0, 255 if channels else 3, (64, 64, *channels), dtype=np.uint8)
            Image.fromarray(values).save(tmp_path / folder / f"{name}.png")
    for name in ("train", "train20_0", "train20_1", "train20_2"):
        (tmp_path / f"{name}.txt").write_text("\n".join(names[:32]))
    (tmp_path / "test.txt").write_text("\n".join(names[32:]))
    monkeypatch.setenv("SLOTCON_DATA", str(tmp_path))
    monkeypatch.setenv("SLOTCON_CLASSES", "3")
    benchmark = read_benchmark(CONFIGS.parent / "benchmark" / "small.yaml")
    planner = Planner(benchmark, ROOT, Protocols(ROOT))
    jobs = [one for one in planner.plan().jobs if one.about["seed"] == 0]
    jobs = [one for one in jobs if "fcn-all" not in one.name]
    assert check_plan(benchmark, jobs, planner.find, 0) == []
    jobs = [one for one in jobs if "fcn20" in one.name]
    right, wrong = benchmark.transfers["fcn20"], {"default_hooks.precise_bn.iterations": -3}
    benchmark.transfers["fcn20"] = right.with_overrides(wrong)
    (problem,) = check_plan(benchmark, jobs, planner.find, 0)
    assert problem.startswith("transfers.fcn20: ") and "iterations is -3" in problem
    benchmark.transfers["fcn20"] = right
    (tmp_path / "train20_0.txt").unlink()
    (problem,) = check_plan(benchmark, jobs, planner.find, 0)
    assert problem.startswith("transfers.fcn20: ") and "train20_0" in problem
