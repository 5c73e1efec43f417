"""Benchmark files: what is read, and the errors about what cannot be used."""

import copy
import os
import time

import pytest
import yaml

from benchmarks.processes import ROOT
from slotcon_plugin.benchmark.planner import Planner
from slotcon_plugin.benchmark.protocols import Protocols
from slotcon_plugin.benchmark.recipe import file_digest, resolve
from slotcon_plugin.benchmark.schema import read_benchmark
from slotcon_plugin.benchmark.yaml_files import read_yaml
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
    coco, file, random = benchmark.pretrainings.values()
    assert (coco.config, coco.gpus) == ("configs/pretrain/slotcon_r50_coco.py", 8)
    assert (coco.checkpoint, coco.weights, coco.seeds) == (None, None, [0])
    assert (file.config, file.checkpoint, file.weights) == (None, "epoch_800.pth", None)
    assert file.paper == "slotcon-coco-800"
    assert (random.weights, random.paper) == ("random", "random")
    voc, d2, stuff = benchmark.transfers.values()
    assert (voc.kind, voc.seeds, voc.gpus) == ("openmmlab", [7], 2)
    assert (d2.kind, d2.seeds) == ("detectron2", [0, 1])
    assert (stuff.kind, stuff.column, stuff.seeds) == ("unsupervised", "stuff", [0])
    assert (stuff.images, stuff.labels, stuff.list) == ("p", "l.json", None)
    assert benchmark.references is True
    assert read_benchmark(write(tmp_path, {**GOOD, "references": None})).references is False


@pytest.mark.parametrize("name", ["paper", "mini"])
def test_benchmarks_of_the_repository_are_valid(name):
    path = ROOT / "configs" / "benchmark" / f"{name}.yaml"
    Protocols(ROOT).check(read_benchmark(path))


def test_environment_variables_are_replaced(tmp_path, monkeypatch):
    monkeypatch.setenv("PLACE", "/data/x")
    monkeypatch.delenv("NOWHERE", raising=False)
    content = copy.deepcopy(GOOD)
    content["transfers"]["stuff"]["images"] = "${PLACE}/a"
    content["transfers"]["stuff"]["labels"] = "${NOWHERE:-here}/b"
    stuff = read_benchmark(write(tmp_path, content)).transfers["stuff"]
    assert (stuff.images, stuff.labels) == ("/data/x/a", "here/b")
    content["transfers"]["stuff"]["labels"] = "${NOWHERE}/b"
    with pytest.raises(
        ConfigError, match=r"transfers\.stuff\.labels: the environment variable NOWHERE"
    ):
        read_benchmark(write(tmp_path, content))


@pytest.mark.parametrize(
    ("entry", "value", "message"),
    [
        ("seed", [1], "unknown key `seed`. Did you mean seeds?"),
        ("seeds", 3, "seeds is 3; expected a valid list"),
        ("seeds", [1, 1], r"seeds: .*expected different whole numbers: \[0, 1, 2\]"),
        ("seeds", [], r"seeds is \[\]; List should have at least 1 item"),
        ("gpus", -1, "gpus is -1; expected greater than or equal to 0"),
        ("gpus", True, "gpus is True; expected a valid integer"),
        ("cores", 0, "cores is 0; expected greater than or equal to 1"),
        ("transfers", {}, "transfers is {}; Dictionary should have at least 1 item"),
        ("pretrainings", None, "`pretrainings` is missing"),
        ("references", 3, r"references.* is 3; expected a valid boolean(.|\n)*valid list"),
        ("work_dir", "", "work_dir is ''; String should have at least 1 character"),
        ("pretrainings.Coco!", "random", "pretrainings.Coco! is 'Coco!'; String should match"),
        ("pretrainings.x", "randm", "x.weights is 'randm'; expected 'random' or 'supervised'"),
        ("pretrainings.x", 3, "pretrainings.x: 3 is no section; expected keys of title, config"),
        ("pretrainings.x", {"gpus": 1}, "pretrainings.x: has no source; expected one of `config`"),
        ("pretrainings.x", {"config": "a", "checkpoint": "b"}, "has config and checkpoint"),
        ("pretrainings.x", {"checkpoint": "b", "seeds": [1]}, "not trained and takes no seeds"),
        ("pretrainings.coco.paper", ["x"], r"coco.paper is \['x'\]; expected a valid string"),
        ("pretrainings.coco.transfers", ["vox"], "no transfer `vox`. Did you mean voc?"),
        ("pretrainings.coco.overrides", ["a=b"], "coco.overrides is .*; expected a valid dict"),
        ("transfers.voc.column", "vox", "expected 'coco', 'city', 'voc', 'ade', 'seg', 'stuff'"),
        (
            "transfers.voc.column",
            "stuff",
            "column is 'stuff'; expected coco or city or voc or ade or seg",
        ),
        ("transfers.d2.column", "voc", "transfers.d2: column is 'voc'; expected coco"),
        ("transfers.voc.evaluate", "unsupervised", "expected either `config`, or"),
        ("transfers.voc.images", "p", "transfers.voc: `openmmlab` takes no images"),
        ("transfers.voc.optional", "no", "transfers.voc.optional is 'no'; expected a valid bool"),
        ("transfers.stuff.evaluate", "prob", "evaluate is 'prob'; expected 'unsupervised', 'over"),
        ("transfers.stuff.evaluate", "probe", "`evaluate: probe` requires `train_list` or `train_"),
        ("transfers.stuff.evaluate", "overcluster", "requires `clusters`"),
        ("transfers.stuff.evaluate", "knn", "transfers.stuff: `knn` takes no labels"),
        ("transfers.stuff.epochs", 3, "transfers.stuff: `unsupervised` takes no epochs"),
        ("transfers.stuff.column", "probe", "column is 'probe'; expected stuff or groups"),
        ("transfers.stuff.labels", None, "transfers.stuff: .*requires `labels`"),
        ("pretrainings.x", {"weights": "supervised", "config": "a"}, "has config and weights"),
        ("pretrainings.x", {"weights": "random", "seeds": [1]}, "not trained and takes no seeds"),
        ("transfers.stuff.seeds", [0, 1], "transfers.stuff: `unsupervised` takes no seeds"),
        ("transfers.stuff.paired", True, "transfers.stuff: `unsupervised` takes no paired"),
        ("transfers.voc.paired", True, "transfers.voc: has `seeds`, and is `paired`"),
        ("transfers.voc.overrides", {"load_from": "x.pth"}, "`load_from` is set by the benchmark"),
        ("gpus", 10**30, "gpus is 10+; expected less than or equal to 4096"),
        ("seeds", [2**32], "seeds.0 is 4294967296; expected less than 4294967296"),
        ("seeds", [float("nan")], "seeds.0 is nan; expected a valid integer"),
        (
            "work_dir",
            "~nobody-of-this-name/x",
            "work_dir: .* cannot be a path: Could not determine",
        ),
        ("transfers.voc.config", "x" * 5000, "voc.config: .* cannot be a path: File name too long"),
        (
            "transfers.stuff.labels_format",
            "coco",
            "labels_format: The format of labels is 'coco', expected",
        ),
        ("transfers.stuff.size", 8, "size is 8; expected greater than or equal to 32"),
        ("transfers.voc.overrides", {"+resume": True}, r"`\+resume` is set by the benchmark"),
        ("transfers.voc.colum", "voc", "transfers.voc: unknown key `colum`. Did you mean column?"),
    ],
)
def test_errors_name_the_entry(entry, value, message, tmp_path):
    content = copy.deepcopy(GOOD)
    *sections, name = entry.split(".")
    inner = content
    for section in sections:
        inner = inner[section]
    inner[name] = value
    with pytest.raises(ConfigError, match=message) as raised:
        read_benchmark(write(tmp_path, content))
    assert "b.yaml: " in str(raised.value)


def test_numbers_without_a_point_are_numbers(tmp_path):
    """YAML 1.1 reads 1e-4 as text."""
    text = "{a: 1e-4, b: 3E5, c: -1.5e+3, d: e4, e: 1e, f: 7e3f2a.pth}"
    content = read_yaml(write(tmp_path, text))
    assert content == dict(a=1e-4, b=3e5, c=-1500.0, d="e4", e="1e", f="7e3f2a.pth")
    file = write(
        tmp_path,
        yaml.safe_dump(GOOD).replace("column: voc", "column: voc\n    overrides: {lr: 3e-3}"),
    )
    assert read_benchmark(file).transfers["voc"].overrides == {"lr": 0.003}


def test_a_config_has_the_same_digest_in_every_process(tmp_path):
    """Whatever objects it contains."""
    config = tmp_path / "config.py"
    config.write_text("a = {(1, 2): 3, 'x': {'b', 'a'}, 'f': len}\nimport math\nf = math.hypot\n")
    content = resolve(config, {})
    assert content["a.x"] == ["a", "b"] and content["a.(1, 2)"] == 3
    assert content["a.f"] == "builtins.len" and content["f"] == "math.hypot"


def test_chains_of_bases_end(tmp_path):
    for i in range(60):
        (tmp_path / f"{i}.yaml").write_text(f"_BASE_: {i + 1}.yaml\n")
    with pytest.raises(ConfigError, match="has more than 50 bases"):
        resolve(tmp_path / "0.yaml", {})


def test_several_errors_have_a_line_each(tmp_path):
    content = copy.deepcopy(GOOD) | {"gpus": "many", "cores": 1.5}
    with pytest.raises(ConfigError) as raised:
        read_benchmark(write(tmp_path, content))
    assert len(str(raised.value).splitlines()) == 2


def test_files_that_are_no_benchmark(tmp_path):
    with pytest.raises(ConfigError, match="There is no config"):
        read_benchmark(tmp_path / "absent.yaml")
    with pytest.raises(ConfigError, match="is not valid YAML"):
        read_benchmark(write(tmp_path, "a: [1"))
    with pytest.raises(ConfigError, match="line 2: duplicate key `seeds`"):
        read_benchmark(write(tmp_path, "seeds: [0]\nseeds: [1]\n"))
    with pytest.raises(ConfigError, match="the file is empty"):
        read_benchmark(write(tmp_path, ""))
    content = copy.deepcopy(GOOD)
    content["pretrainings"]["file"]["paper"] = "slotcon-coco-900"
    with pytest.raises(ConfigError, match="no published row `slotcon-coco-900`"):
        Protocols(ROOT).check(read_benchmark(write(tmp_path, content)))


BOMB = "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9) if i else '1'}]\n" for i in range(30))
NESTED = "".join(f"a{i}: &a{i} [{f'*a{i - 1}' if i else '1'}]\n" for i in range(400))


@pytest.mark.parametrize("name", ["b.yaml", "base.yaml"])
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (BOMB.encode(), "more than 100000 values, aliases expanded"),
        (NESTED.encode(), "more than 50 levels"),
        (b"a: &a [*a]", "line 1: the alias refers to a section that contains it"),
        (b"[" * 100_000, "more than 50 levels"),
        ("a: ü".encode("latin-1"), "is not UTF-8 text"),
        (b"a: 2026-99-99", "is not valid YAML"),
        (b"a: !!python/object:os.system x", "line 1, column 4: is not valid YAML"),
        (b"[a]: 1", "line 1, column 1: is not valid YAML: .* unhashable key"),
        (b"a: {[1]: 2}", "line 1, column 5: is not valid YAML: .* unhashable key"),
        (b"a:\n\t- 1", "line 2, column 1: is not valid YAML"),
        (b"<<: 3", "expected a mapping or list of mappings for merging"),
        (b"a: !!bool x", "is not valid YAML: KeyError: 'x'"),
        (b"a: !!timestamp x", "is not valid YAML: AttributeError"),
        (b"a: 1" + b"0" * 5000, "is not valid YAML: ValueError: Exceeds the limit"),
        (b'a: "\\e[31m"', r"line 1: the text has the character '\\x1b'; remove it"),
        (b'a: "\\ud800"', r"line 1: the text has the character '\\ud800'; remove it"),
        (b"a: " + b"x" * 2**23, "expected at most 4,194,304"),
        (b"\xff\xfea\x00:\x00", "is not UTF-8 text"),
    ],
)
def test_yaml_that_is_too_large_or_damaged_gives_one_quick_error(name, content, message, tmp_path):
    """In the benchmark file itself, and in the base of a detectron2 config."""
    file, config = tmp_path / name, tmp_path / "config.yaml"
    file.write_bytes(content)
    config.write_text("_BASE_: base.yaml\n")
    started = time.monotonic()
    with pytest.raises(ConfigError, match=message) as raised:
        read_benchmark(file) if name == "b.yaml" else resolve(config, {})
    assert str(file) in str(raised.value)
    assert "\n" not in str(raised.value)
    assert time.monotonic() - started < 5


def test_a_pipe_is_not_opened(tmp_path):
    os.mkfifo(tmp_path / "pipe.yaml")
    with pytest.raises(ConfigError, match="it is a pipe"):
        read_benchmark(tmp_path / "pipe.yaml")
    (tmp_path / "config.yaml").write_text("_BASE_: pipe.yaml\n")
    with pytest.raises(ConfigError, match="it is a pipe"):
        resolve(tmp_path / "config.yaml", {})
    with pytest.raises(ConfigError, match="is not a regular file"):
        file_digest(tmp_path / "pipe.yaml")


def test_aliases_and_merges_are_read(tmp_path):
    content = read_yaml(write(tmp_path, "a: &a {x: 1, y: 2}\nb: {<<: *a, y: 3}\nc: *a\n"))
    assert content == dict(a=dict(x=1, y=2), b=dict(x=1, y=3), c=dict(x=1, y=2))


def test_cyclic_bases_of_detectron2_configs_are_refused(tmp_path):
    (tmp_path / "a.yaml").write_text("_BASE_: b.yaml\n")
    (tmp_path / "b.yaml").write_text("_BASE_: ./a.yaml\n")
    with pytest.raises(ConfigError, match=r"b\.yaml: `_BASE_` leads back to .*a\.yaml"):
        resolve(tmp_path / "a.yaml", {})


def test_an_empty_list_of_transfers_is_none_of_them(tmp_path):
    content = dict(GOOD, work_dir=str(tmp_path))
    content["pretrainings"] = {"coco": dict(GOOD["pretrainings"]["coco"], transfers=[])}
    content["transfers"] = {"voc": GOOD["transfers"]["voc"]}
    benchmark = read_benchmark(write(tmp_path, content))
    with pytest.raises(ConfigError, match="no job to run: coco: none of its transfers"):
        Planner(benchmark, ROOT, Protocols(ROOT)).plan()
