"""Benchmark files: what is read, and what a mistake is answered with."""

import copy

import pytest
import yaml

from benchmarks.processes import ROOT
from slotcon_plugin.benchmark.entries import Loader
from slotcon_plugin.benchmark.protocols import read_protocols
from slotcon_plugin.benchmark.schema import read_benchmark
from slotcon_plugin.errors import ConfigError

GOOD = {
    "seeds": [0, 1],
    "gpus": 2,
    "pretrainings": {
        "coco": {"config": "configs/pretrain/slotcon_r50_coco.py", "gpus": 8},
        "file": {"checkpoint": "epoch_800.pth", "paper": "slotcon-coco-800"},
        "random": "random",
    },
    "transfers": {
        "voc": {"config": "configs/seg/fcn_r50_voc12aug.py", "column": "voc", "seeds": [7]},
        "d2": {"config": "mask_rcnn.yaml", "column": "coco"},
        "stuff": {"evaluate": "unsupervised", "images": "p", "labels": "l.json"},
    },
}


def write(folder, content):
    path = folder / "b.yaml"
    path.write_text(
        content if isinstance(content, str) else yaml.safe_dump(content, sort_keys=False)
    )
    return path


def test_everything_is_read(tmp_path):
    benchmark = read_benchmark(write(tmp_path, GOOD))
    coco, file, random = benchmark.pretrainings
    assert (coco.kind, coco.gpus, coco.seeds) == ("config", 8, (0,))
    assert (file.kind, file.source, file.paper) == ("checkpoint", "epoch_800.pth", file.paper)
    assert (random.kind, random.paper) == ("random", "random")
    voc, d2, stuff = benchmark.transfers
    assert (voc.kind, voc.seeds, voc.gpus) == ("openmmlab", (7,), 2)
    assert (d2.kind, d2.seeds) == ("detectron2", (0, 1))
    assert (stuff.kind, stuff.column, stuff.seeds) == ("unsupervised", "stuff", (0,))
    assert stuff.options == {"images": "p", "labels": "l.json"}
    assert benchmark.references is None


@pytest.mark.parametrize("name", ["paper", "mini"])
def test_our_own_files_are_good(name):
    path = ROOT / "configs" / "benchmark" / f"{name}.yaml"
    read_protocols(ROOT).check(read_benchmark(path))


def test_the_environment_is_put_in(tmp_path, monkeypatch):
    monkeypatch.setenv("PLACE", "/data/x")
    monkeypatch.delenv("NOWHERE", raising=False)
    content = copy.deepcopy(GOOD)
    content["transfers"]["stuff"]["images"] = "${PLACE}/a"
    content["transfers"]["stuff"]["labels"] = "${NOWHERE:-here}/b"
    stuff = read_benchmark(write(tmp_path, content)).transfers[2]
    assert stuff.options == {"images": "/data/x/a", "labels": "here/b"}
    content["transfers"]["stuff"]["labels"] = "${NOWHERE}/b"
    with pytest.raises(ConfigError, match=r"transfers\.stuff\.labels asks for .*NOWHERE"):
        read_benchmark(write(tmp_path, content))


@pytest.mark.parametrize(
    ("entry", "value", "message"),
    [
        ("seed", [1], "the file has no `seed`. Did you mean seeds?"),
        ("seeds", 3, "seeds is 3; expected a list"),
        ("seeds", [1, 1], r"expected different whole numbers: \[0, 1, 2\]"),
        ("gpus", -1, "gpus is -1; expected a whole number from 0"),
        ("cores", 0, "cores is 0; expected a whole number from 1"),
        ("transfers", {}, "`transfers` is missing"),
        ("pretrainings", None, "`pretrainings` is missing"),
        ("references", 3, "`references` is 3"),
        ("pretrainings.Coco!", "random", "the name 'Coco!' cannot be part of a file's name"),
        ("pretrainings.x", "randm", "'randm'; expected 'random', 'supervised' or a section"),
        ("pretrainings.x", {"gpus": 1}, "pretrainings.x has neither; expected one of `config`"),
        ("pretrainings.x", {"config": "a", "checkpoint": "b"}, "has config and checkpoint"),
        ("pretrainings.x", {"checkpoint": "b", "seeds": [1]}, "it takes no overrides, gpus, seeds"),
        ("pretrainings.coco.transfers", ["vox"], "no transfer `vox`. Did you mean voc?"),
        ("pretrainings.coco.overrides", ["a=b"], "train_cfg.max_epochs: 3"),
        ("transfers.voc.column", "vox", "column is 'vox'; expected coco, city, voc, ade, stuff"),
        ("transfers.voc.evaluate", "unsupervised", "expected either `config`, or"),
        ("transfers.voc.images", "p", "transfers.voc.images belongs to"),
        ("transfers.stuff.evaluate", "probe", "evaluate is 'probe'; expected unsupervised"),
        ("transfers.stuff.labels", None, "transfers.stuff.labels is None; expected text"),
        ("transfers.stuff.seeds", [0, 1], "transfers.stuff takes no seeds: nothing is drawn"),
        ("transfers.voc.overrides", {"load_from": "x.pth"}, "`load_from`, which the chain decides"),
        ("transfers.voc.colum", "voc", "has no `colum`. Did you mean column?"),
    ],
)
def test_a_mistake_is_named(entry, value, message, tmp_path):
    content = copy.deepcopy(GOOD)
    *sections, name = entry.split(".")
    inner = content
    for section in sections:
        inner = inner[section]
    inner[name] = value
    with pytest.raises(ConfigError, match=message) as raised:
        read_benchmark(write(tmp_path, content))
    assert "b.yaml: " in str(raised.value)


def test_numbers_are_numbers(tmp_path):
    """YAML 1.1 takes 1e-4 for text."""
    content = yaml.load("{a: 1e-4, b: 3E5, c: -1.5e+3, d: e4, e: 1e, f: 7e3f2a.pth}", Loader)
    assert content == dict(a=1e-4, b=3e5, c=-1500.0, d="e4", e="1e", f="7e3f2a.pth")
    file = write(
        tmp_path,
        yaml.safe_dump(GOOD).replace("column: voc", "column: voc\n    overrides: {lr: 3e-3}"),
    )
    assert read_benchmark(file).transfers[-1].overrides == {"lr": 0.003}


def test_other_mistakes(tmp_path):
    with pytest.raises(ConfigError, match="There is no benchmark"):
        read_benchmark(tmp_path / "absent.yaml")
    with pytest.raises(ConfigError, match="is not YAML"):
        read_benchmark(write(tmp_path, "a: [1"))
    with pytest.raises(ConfigError, match="line 2: `seeds` is there twice"):
        read_benchmark(write(tmp_path, "seeds: [0]\nseeds: [1]\n"))
    with pytest.raises(ConfigError, match="the file is None"):
        read_benchmark(write(tmp_path, ""))
    content = copy.deepcopy(GOOD)
    content["pretrainings"]["file"]["paper"] = "slotcon-coco-900"
    with pytest.raises(ConfigError, match="no published row `slotcon-coco-900`"):
        read_protocols(ROOT).check(read_benchmark(write(tmp_path, content)))
