"""The networks that are evaluated, `apis.evaluate`, and the command line of tools/evaluate.py."""

import json
import re
import subprocess
import sys

import pytest
import tiny_weights
import torch
from colored import write_colored
from photographs import photographs
from PIL import Image
from torchvision.transforms.v2.functional import pil_to_tensor

from benchmarks.processes import ROOT
from slotcon_plugin.apis import evaluate as api
from slotcon_plugin.errors import CheckpointError, ConfigError, DataError, UnreadableFileError
from slotcon_plugin.evaluation import kinds
from slotcon_plugin.evaluation.evaluation_report import table
from slotcon_plugin.evaluation.networks import open_encoder, open_groups
from slotcon_plugin.evaluation.untrained import build_untrained
from slotcon_plugin.runtime.config_options import read_config
from slotcon_plugin.runtime.run_command import run_command

TOOL = ROOT / "tools" / "evaluate.py"


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return tiny_weights.ours(tmp_path_factory.mktemp("weights"), depth=18, num_stages=3)


@pytest.fixture(scope="module")
def image():
    return pil_to_tensor(photographs(128)[0])[None]


def test_the_groups_are_the_model_s(checkpoint, image):
    """The network read from a checkpoint has the scores of the trained model."""
    model = tiny_weights.random_model(18, 3)
    expected = model.test_step(dict(inputs=image))[0].scores
    torch.testing.assert_close(open_groups(checkpoint)(image)[0], expected)
    student = open_groups(checkpoint, "student")(image)[0]
    assert (student - expected).abs().max() > 0.01
    pixels = model.data_preprocessor(dict(inputs=image))["inputs"]
    projected = model.teacher.neck(model.teacher.backbone(pixels))
    torch.testing.assert_close(open_groups(checkpoint).features(image), projected)


def test_the_groups_of_a_published_checkpoint(tmp_path, image):
    torch.save(tiny_weights.published_content(), tmp_path / "published.pth")
    expected = tiny_weights.random_model(18).test_step(dict(inputs=image))[0].scores
    torch.testing.assert_close(open_groups(tmp_path / "published.pth")(image)[0], expected)


def test_encoders_of_every_origin(checkpoint, image, tmp_path):
    teacher = open_encoder(str(checkpoint))
    tiny_weights.assert_same_features(
        teacher(image),
        tiny_weights.random_model(18, 3).encode(
            tiny_weights.random_model(18, 3).data_preprocessor(dict(inputs=image))["inputs"]
        ),
    )
    assert "teacher" in teacher.origin
    assert open_encoder(str(checkpoint), stage=2)(image).shape == (1, 128, 16, 16)
    random = open_encoder("random:resnet18")
    assert random(image).shape == (1, 512, 4, 4)
    torch.testing.assert_close(random(image), open_encoder("random:resnet18")(image))
    assert not torch.equal(random(image), open_encoder("random:resnet18", seed=1)(image))
    # a plain state dict of torchvision's names, as it saves them
    plain = tmp_path / "resnet18.pth"
    torch.save(random.encoder.state_dict() | {"fc.weight": torch.zeros(1000, 512)}, plain)
    torch.testing.assert_close(open_encoder(str(plain))(image), random(image))
    with pytest.raises(CheckpointError, match="is an encoder alone"):
        open_groups(plain)
    with pytest.raises(ConfigError, match="There is no config vit"):
        open_encoder("random:vit")
    with pytest.raises(ConfigError, match="expected supervised:resnet18, :resnet34"):
        open_encoder("supervised:vit")
    with pytest.raises(ConfigError, match="has the stages 1 to 3"):
        open_encoder(str(checkpoint), stage=4)
    for name in ("random:resnet18", "supervised:resnet18"):
        with pytest.raises(ConfigError, match=f"{name} is an encoder alone.* full checkpoint"):
            open_groups(name)


def test_tables():
    assert table(["a", "long"], [["x", 1.0], ["yy", None]]).splitlines() == [
        "| a   |   long |",
        "|-----|--------|",
        "| x   |   1.00 |",
        "| yy  |   –    |",
    ]


def test_help_has_examples(run_tool):
    _, shown, _ = run_tool("evaluate", "--help")
    for kind in kinds.OPTIONS:
        assert kind in shown
    examples = re.findall(r"slotcon evaluate ([a-z]+) [^-]", shown)
    assert set(examples) >= {"unsupervised", "overcluster", "retrieval"}
    assert set(examples) <= set(kinds.OPTIONS)


PARSE = """
import evaluate, json, sys
given = [(kind, "n.pth", "--images", "i", *words) for kind, *words in json.load(sys.stdin)]
found = [vars(evaluate.parse_args(words)) for words in given]
assert "torch" not in sys.modules
print(json.dumps(found))
"""


def test_the_command_line_has_the_options_and_defaults_of_the_function():
    needed = {kind: ["--labels", "l"] for kind in kinds.OPTIONS} | {
        "knn": ["--train", "l"],
        "rank": [],
    }
    words = json.dumps([[kind, *options] for kind, options in needed.items()])
    shown = subprocess.check_output(
        [sys.executable, "-c", PARSE], input=words, cwd=ROOT / "tools", text=True
    )
    common = dict(networks=["n.pth"], images="i", batch_size=16, workers=0)
    common |= dict(device=None, out=None, quiet=False, overwrite=False)
    for (kind, options), parsed in zip(kinds.OPTIONS.items(), json.loads(shown), strict=True):
        given = {word[2:]: "l" for word in needed[kind] if word.startswith("--")}
        expected = dict(kind=kind, **common, **options) | given
        assert parsed == json.loads(json.dumps(expected)), kind


def test_the_tool_segments_and_writes(checkpoint, tmp_path, run_tool):
    data, out = write_colored(tmp_path / "data", count=3), tmp_path / "new" / "out.json"
    words = ["--images", data / "images", "--labels", data / "labels", "--labels-format", "voc"]
    words += ["--size", 64, "--out", out]
    status, shown, errors = run_tool("evaluate", "unsupervised", checkpoint, *words)
    assert status == 0, errors
    assert "the 3 of 3 images that have labels" in shown
    assert re.search(r"\| one-to-one +\| +\d+\.\d\d", shown)
    written = json.loads(out.read_text())
    assert written["evaluation"] == "unsupervised"
    assert written["data"]["test"]["images"] == 3
    assert written["versions"].keys() >= {"slotcon_plugin", "torch", "python"}
    assert written["results"]["prototypes"] == 12
    assert [one["results"] for one in written["networks"]] == [written["results"]]
    one, many = (written["results"]["matchings"][m] for m in ("one-to-one", "many-to-one"))
    assert 0 < one["accuracy"] <= many["accuracy"] <= 100
    assert one["classes"]["sheep"]["pixels"] == 0 and one["classes"]["aeroplane"]["pixels"] > 0


def test_errors_are_one_message(checkpoint, tmp_path, run_tool):
    """Of a loader process too."""
    data = write_colored(tmp_path / "data", count=1)
    (data / "images" / "0.png").write_bytes(b"broken")
    where = "--images", data / "images", "--labels", data / "labels"
    for words, message in (
        (["retrieval", checkpoint], "error: retrieval learns from other images than it scores"),
        (
            ["unsupervised", checkpoint, "--labels-format", "voc", "--workers", 1],
            r"error: cannot read the image .*data/images/0\.png",
        ),
    ):
        status, _, errors = run_tool("evaluate", *words, *where)
        assert status == 1
        assert re.search(message, errors)
        assert "Traceback" not in errors


def test_the_process_that_meets_a_broken_image_reports_it(monkeypatch, capsys):
    """Other processes load other images."""
    for name, value in (("RANK", "1"), ("WORLD_SIZE", "2"), ("LOCAL_RANK", "1")):
        monkeypatch.setenv(name, value)

    def fail(error):
        raise error

    assert run_command(lambda: fail(UnreadableFileError("a.png is broken")), "pytorch") == 1
    assert "[process 1] error: a.png is broken" in capsys.readouterr().err
    assert run_command(lambda: fail(ConfigError("met by all")), "pytorch") == 1
    assert not capsys.readouterr().err


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Five labeled images, lists of them, and two folders by class."""
    folder = write_colored(tmp_path_factory.mktemp("data") / "all", count=5)
    for name, numbers in (("train", "0 1 2"), ("val", "3 4"), ("mixed", "2 3")):
        (folder / f"{name}.txt").write_text("\n".join(numbers.split()))
    for i in range(4):
        split = folder / f"split{i // 2}" / f"class{i % 2}"
        split.mkdir(parents=True)
        Image.open(folder / "images" / f"{i}.png").save(split / "a.png")
    return folder


@pytest.fixture
def evaluate(data, tmp_path, capsys):
    """Evaluates on the CPU: what was returned, which is also in the JSON file, and printed."""
    labeled = dict(images=data / "images", labels=data / "labels", labels_format="voc")
    labeled |= dict(list=data / "val.txt", size=64)
    folders = dict(images=data / "split1", train=data / "split0", size=32)

    def run(kind, networks, **options):
        options = (folders if kind == "knn" else labeled) | options
        out = tmp_path / "out.json"
        found = api.evaluate(
            kind, networks, quiet=True, device="cpu", out=out, overwrite=True, **options
        )
        written = json.loads(out.read_text())
        assert written.pop("versions")
        assert written == json.loads(json.dumps(found))
        return written, capsys.readouterr().out

    return run


def test_overcluster_compares_networks(evaluate, checkpoint, data):
    networks = ["random:resnet18", str(checkpoint)]
    options = dict(stage=3, clusters=[4, 6], train_list=data / "mixed.txt")
    written, shown = evaluate("overcluster", networks, **options)
    head, _, *rows = [line.split("|")[1:-1] for line in shown.splitlines() if line[:1] == "|"]
    assert [word.strip() for word in head[1:3]] == [
        "4 clusters, one-to-one",
        "4 clusters, many-to-one",
    ]
    assert [row[0].strip() for row in rows] == networks
    assert all(re.fullmatch(r" \d+\.\d\d / \d+\.\d\d +", cell) for row in rows for cell in row[1:])
    assert "results" not in written
    first, second = written["networks"]
    assert first["network"].startswith("random:resnet18") and str(checkpoint) in second["network"]
    assert first["results"]["clusterings"].keys() == {"4", "6"}
    assert first["results"] != second["results"]
    # what was scored, and how
    assert written["options"]["networks"] == networks
    assert written["options"]["matching"] == ["one-to-one", "many-to-one"]
    assert written["data"]["test"]["source"] == dict(
        folder=str(data / "images"),
        labels=str(data / "labels"),
        labels_format="voc",
        list=str(data / "val.txt"),
    )
    assert written["data"]["train"]["source"]["list"] == str(data / "mixed.txt")
    for part in ("images", "labels", "val.txt"):
        assert str(data / part) in re.search("^images: .*", shown, re.MULTILINE)[0]


@pytest.mark.parametrize(
    ("kind", "options", "scores"),
    [
        ("retrieval", dict(memory=100, neighbors=5), {"accuracy", "miou", "memory"}),
        ("probe", dict(epochs=2), {"accuracy", "miou", "last_loss"}),
        ("knn", dict(neighbors=1), {"top1", "top5"}),
    ],
)
def test_the_other_kinds_of_evaluation(evaluate, checkpoint, data, kind, options, scores):
    train = {} if kind == "knn" else dict(train_list=data / "train.txt")
    written, shown = evaluate(kind, checkpoint, **train, **options)
    assert scores <= written["results"].keys()
    assert all(written["results"][name] is not None for name in scores)
    assert str(checkpoint) in written["network"]
    folders = {name: one["source"]["folder"] for name, one in written["data"].items()}
    if kind == "knn":
        assert folders == dict(train=str(data / "split0"), test=str(data / "split1"))
        assert written["options"]["train"] == folders["train"]
    else:
        assert folders == dict.fromkeys(("train", "test"), str(data / "images"))
        assert "learned from: the 3 images of" in shown


def test_a_diverged_probe_keeps_its_results(evaluate, checkpoint, data):
    networks = [checkpoint, "random:resnet18"]
    options = dict(train_list=data / "train.txt", epochs=4, lr=1e38)
    written, shown = evaluate("probe", networks, **options)
    assert "note: random:resnet18: The probe diverged" in shown
    assert written["networks"][1]["results"]["last_loss"] is None


def test_images_to_score_are_not_learned_from(evaluate, checkpoint, data):
    message = "1 of the 2 images to score .* --list and --train-list"
    for kind in ("retrieval", "probe"):
        with pytest.raises(ConfigError, match=message):
            evaluate(kind, checkpoint, train_list=data / "mixed.txt")
    with pytest.raises(ConfigError, match=r"2 of the 2 images .* --train or --images"):
        evaluate("knn", checkpoint, train=data / "split1")


def test_projected_needs_a_full_checkpoint(evaluate):
    message = "^random:resnet18 is an encoder alone, without projector and prototypes"
    with pytest.raises(ConfigError, match=message) as caught:
        evaluate("overcluster", "random:resnet18", projected=True, clusters=[3])
    assert "--part" not in str(caught.value)


def test_a_finer_output_stride(evaluate, checkpoint, data, image):
    options = dict(cells=10**6, size=64, device="cpu", quiet=True)
    own, finer = (
        api.evaluate("rank", checkpoint, data / "images", output_stride=stride, **options)
        for stride in (None, 4)
    )
    assert finer["results"]["cells"] == 16 * own["results"]["cells"]
    assert finer["network"] == own["network"] + ", output stride 4"
    for projected in (False, True):
        options = kinds.OPTIONS["rank"] | dict(projected=projected)
        network = kinds.open_network("rank", str(checkpoint), options)
        found = kinds.open_network("rank", str(checkpoint), options | dict(output_stride=8))
        torch.testing.assert_close(found(image)[..., ::2, ::2], network(image))


@pytest.mark.parametrize(
    ("network", "stride", "message"),
    [
        (
            "random:resnet18",
            64,
            "--output-stride 64: expected one of 4, 8, 16, 32; random:resnet18",
        ),
        ("random:slotcon_r18_small", 32, "--output-stride 32: expected one of 4, 8, 16; random:"),
        (
            "random:slotcon_r18_small",
            8.0,
            "--output-stride is 8.0, expected a whole number from 1 on",
        ),
        ("random:slotcon_vit_small_coco", 8, "--output-stride is for torchvision's ResNets, and"),
    ],
)
def test_an_output_stride_that_the_encoder_cannot_have(evaluate, data, network, stride, message):
    with pytest.raises(ConfigError, match=message):
        evaluate("probe", network, output_stride=stride, train_list=data / "train.txt")


def test_labels_of_another_format_are_noted(evaluate, checkpoint):
    written, shown = evaluate("unsupervised", checkpoint, labels_format="coco-stuff")
    assert "the labels have only 2 of the 27 classes: is --labels-format right?" in shown
    assert "the labels have only" in written["results"]["note"]
    assert "the labels have only" not in evaluate("unsupervised", checkpoint)[1]


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        ("unsupervisd", {}, "kind is 'unsupervisd', expected one of unsupervised, overcluster"),
        ("probe", dict(clusters=[3]), "probe has no option 'clusters'; it has .*epochs"),
        ("knn", dict(train=None), "knn needs the option 'train'"),
        ("unsupervised", dict(size=1), "--size is 1, expected a whole number from 32 to 16384"),
        ("unsupervised", dict(size=10**6), "--size is 1000000, expected a whole number from 32 to"),
        ("unsupervised", dict(out="/proc/none/out.json"), "/proc/none/out.json cannot be written"),
        ("unsupervised", dict(out="."), "--out . is a folder"),
    ],
)
def test_wrong_options_are_found_first(data, kind, options, message):
    options = dict(images=data / "images", labels=data / "labels", device="cpu") | options
    if kind == "knn":
        del options["labels"]
    with pytest.raises(ConfigError, match=message):
        api.evaluate(kind, "none.pth", **options)


def test_a_list_in_another_encoding(evaluate, checkpoint, data, tmp_path):
    (tmp_path / "latin.txt").write_bytes("café\n3\n".encode("latin-1"))
    message = "latin.txt, line 1, has caf\ufffd, which names no file, and the text is not UTF-8"
    with pytest.raises(DataError, match=message):
        evaluate("unsupervised", checkpoint, list=tmp_path / "latin.txt")


@pytest.mark.parametrize(
    ("kind", "option", "value"),
    [
        ("probe", "--epochs", "0"),
        ("probe", "--lr", "nan"),
        ("retrieval", "--neighbors", "0"),
        ("retrieval", "--memory", "0"),
        ("retrieval", "--temperature", "0"),
        ("overcluster", "--clusters", "0"),
        ("overcluster", "--directions", "-5"),
        ("knn", "--batch-size", "0"),
        ("knn", "--workers", "-1"),
        ("knn", "--batch-size", "1" + 30 * "0"),
    ],
)
def test_numbers_are_checked_before_anything_is_loaded(kind, option, value):
    command = [sys.executable, TOOL, kind, "none.pth", f"{option}={value}"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2
    assert re.search(rf"argument {option}: '{value}', expected a", done.stderr)


def test_the_network_of_a_config_before_its_training(tmp_path):
    """It is what a training starts from, of any encoder, with its decoder."""
    image = torch.randint(256, (1, 3, 64, 64), dtype=torch.uint8)
    for config, level in (("slotcon_r18_small", None), ("decon_fpn_r18_demo", 0)):
        model = build_untrained(read_config(config), seed=3)
        path = tmp_path / f"{config}.pth"
        torch.save(dict(state_dict=model.state_dict(), meta={}), path)
        for open_network in (open_groups, open_encoder):
            found, saved = (
                open_network(source, level=level, seed=3)
                for source in (f"random:{config}", str(path))
            )
            torch.testing.assert_close(found(image), saved(image), rtol=0, atol=0)
        assert "untrained, seed 3" in found.origin
        other = open_encoder(f"random:{config}", level=level, seed=4)
        assert (other(image) != found(image)).any()
    with pytest.raises(ConfigError, match="There is no config resnet5x"):
        open_encoder("random:resnet5x")
