"""The networks that are evaluated, and tools/evaluate.py as a user runs it."""

import json
import re
import sys

import pytest
import tiny_weights
import torch
from colored import write_colored
from photographs import photographs
from PIL import Image
from tiny_training import load_tool

from benchmarks.processes import ROOT, start
from slotcon_plugin.errors import CheckpointError, ConfigError
from slotcon_plugin.evaluation.evaluation_report import table
from slotcon_plugin.evaluation.labeled_images import to_tensor
from slotcon_plugin.evaluation.networks import Projected, open_encoder, open_groups

COMMANDS = ("unsupervised", "overcluster", "retrieval", "probe", "knn")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return tiny_weights.ours(tmp_path_factory.mktemp("weights"), depth=18, num_stages=3)


@pytest.fixture(scope="module")
def image():
    return to_tensor(photographs(128)[0])[None]


def test_the_groups_are_the_model_s(checkpoint, image):
    """The network read from a checkpoint gives what the trained model predicts."""
    model = tiny_weights.lively_model(18, 3)
    expected = model.test_step(dict(inputs=image))[0].scores
    torch.testing.assert_close(open_groups(checkpoint)(image)[0], expected)
    student = open_groups(checkpoint, "student")(image)[0]
    assert (student - expected).abs().max() > 0.01
    pixels = model.data_preprocessor(dict(inputs=image))["inputs"]
    projected = model.teacher.neck(model.teacher.backbone(pixels))
    torch.testing.assert_close(Projected(open_groups(checkpoint))(image), projected)


def test_the_groups_of_a_published_checkpoint(tmp_path, image):
    torch.save(tiny_weights.published_content(), tmp_path / "published.pth")
    expected = tiny_weights.lively_model(18).test_step(dict(inputs=image))[0].scores
    torch.testing.assert_close(open_groups(tmp_path / "published.pth")(image)[0], expected)


def test_encoders_from_anywhere(checkpoint, image, tmp_path):
    teacher = open_encoder(str(checkpoint))
    tiny_weights.assert_same_features(
        teacher(image),
        tiny_weights.lively_model(18, 3).encode(
            tiny_weights.lively_model(18, 3).data_preprocessor(dict(inputs=image))["inputs"]
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
    with pytest.raises(ConfigError, match="expected random:resnet18, :resnet34"):
        open_encoder("random:vit")
    with pytest.raises(ConfigError, match="has the stages 1 to 3"):
        open_encoder(str(checkpoint), stage=4)
    for name in ("random:resnet18", "supervised:resnet18"):
        with pytest.raises(ConfigError, match=f"{name} is an encoder alone.* full checkpoint"):
            open_groups(name)


def test_tables():
    assert table(["a", "long"], [["x", 1.0], ["yy", None]]).splitlines() == [
        "| a  | long |",
        "|----|------|",
        "| x  | 1.00 |",
        "| yy | –    |",
    ]


@pytest.fixture(scope="module")
def runs(checkpoint, tmp_path_factory):
    """The tool, run three times side by side: output and exit status of each."""
    folder = tmp_path_factory.mktemp("runs")
    data = write_colored(folder / "data", count=3)
    where = ["--images", data / "images", "--labels", data / "labels"]
    pixels = [*where, "--labels-format", "voc", "--size", 64]
    commands = dict(
        help=["--help"],
        segment=["unsupervised", checkpoint, *pixels, "--out", folder / "new" / "out.json"],
        mistake=["retrieval", checkpoint, *where],
    )
    tool = ROOT / "tools" / "evaluate.py"
    started = {name: start(sys.executable, tool, *words) for name, words in commands.items()}
    done = {
        name: (process.communicate(timeout=120)[0], process) for name, process in started.items()
    }
    return folder, {name: (text, process.returncode) for name, (text, process) in done.items()}


def test_help_teaches(runs):
    shown, _ = runs[1]["help"]
    for command in COMMANDS:
        assert command in shown
    examples = re.findall(r"tools/evaluate.py ([a-z]+) [^-]", shown)
    assert set(examples) >= {"unsupervised", "overcluster", "retrieval"}
    assert set(examples) <= set(COMMANDS)


def test_the_tool_segments_and_writes(runs):
    folder, results = runs
    shown, status = results["segment"]
    assert status == 0, shown
    assert "the 3 of 3 images that have labels" in shown
    assert re.search(r"\| one-to-one +\| +\d+\.\d\d", shown)
    written = json.loads((folder / "new" / "out.json").read_text())
    assert written["evaluation"] == "unsupervised"
    assert written["data"]["test"]["images"] == 3
    assert written["results"]["prototypes"] == 12
    one, many = (written["results"]["matchings"][m] for m in ("one-to-one", "many-to-one"))
    assert 0 < one["accuracy"] <= many["accuracy"] <= 100
    assert one["classes"]["sheep"]["pixels"] == 0 and one["classes"]["aeroplane"]["pixels"] > 0


def test_mistakes_are_one_message(runs):
    shown, status = runs[1]["mistake"]
    assert status == 1
    assert "error: retrieval learns from other images than it scores" in shown
    assert "Traceback" not in shown


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Five labeled images, lists of them, and two folders by class."""
    folder = write_colored(tmp_path_factory.mktemp("data") / "all", count=5)
    for name, numbers in (("train", "0 1 2"), ("val", "3 4"), ("mixed", "2 3")):
        (folder / f"{name}.txt").write_text("\n".join(numbers.split()))
    for i in range(4):
        place = folder / f"split{i // 2}" / f"class{i % 2}"
        place.mkdir(parents=True)
        Image.open(folder / "images" / f"{i}.png").save(place / "a.png")
    return folder


@pytest.fixture
def evaluate(checkpoint, data, tmp_path, monkeypatch, capsys):
    """Runs a sub-command in this process: exit status, what it printed, the JSON file."""
    tool = load_tool("evaluate", monkeypatch)
    labeled = ["--images", data / "images", "--labels", data / "labels"]
    labeled += ["--labels-format", "voc", "--list", data / "val.txt", "--size", 64]
    folders = ["--images", data / "split1", "--size", 32]

    def run(command, *words, train=data / "split0"):
        words = [command, *words, *(["--train", train, *folders] if command == "knn" else labeled)]
        out = tmp_path / "out.json"
        words += ["--quiet", "--device", "cpu", "--out", out]
        status = tool.main([str(word) for word in words])
        printed = capsys.readouterr()
        written = json.loads(out.read_text()) if out.exists() else None
        return status, printed.out + printed.err, written

    return run


def test_overcluster_compares_networks(evaluate, checkpoint, data):
    networks = "random:resnet18", str(checkpoint)
    clusters = "--stage", 3, "--clusters", 4, 6, "--train-list", data / "mixed.txt"
    status, shown, written = evaluate("overcluster", *networks, *clusters)
    assert status == 0, shown
    head, _, *rows = [line.split("|")[1:-1] for line in shown.splitlines() if line[:1] == "|"]
    assert [word.strip() for word in head[1:3]] == [
        "4 clusters, one-to-one",
        "4 clusters, many-to-one",
    ]
    assert [row[0].strip() for row in rows] == list(networks)
    assert all(re.fullmatch(r" \d+\.\d\d / \d+\.\d\d +", cell) for row in rows for cell in row[1:])
    assert "results" not in written
    first, second = written["networks"]
    assert first["network"].startswith("random:resnet18") and str(checkpoint) in second["network"]
    assert first["results"]["clusterings"].keys() == {"4", "6"}
    assert first["results"] != second["results"]
    # what was scored, and how
    assert written["options"]["network"] == list(networks)
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
    ("command", "words", "figures"),
    [
        ("retrieval", ("--memory", 100, "--neighbors", 5), {"accuracy", "miou", "memory"}),
        ("probe", ("--epochs", 2), {"accuracy", "miou", "last_loss"}),
        ("knn", ("--neighbors", 1), {"top1", "top5"}),
    ],
)
def test_the_other_sub_commands_run(evaluate, checkpoint, data, command, words, figures):
    train = () if command == "knn" else ("--train-list", data / "train.txt")
    status, shown, written = evaluate(command, checkpoint, *train, *words)
    assert status == 0, shown
    assert figures <= written["results"].keys()
    assert all(written["results"][name] is not None for name in figures)
    assert str(checkpoint) in written["network"]
    places = {name: one["source"]["folder"] for name, one in written["data"].items()}
    if command == "knn":
        assert places == dict(train=str(data / "split0"), test=str(data / "split1"))
        assert written["options"]["train"] == places["train"]
    else:
        assert places == dict.fromkeys(("train", "test"), str(data / "images"))
        assert "learned from: the 3 images of" in shown


def test_a_diverged_probe_keeps_its_results(evaluate, checkpoint, data):
    options = "--train-list", data / "train.txt", "--epochs", 4, "--lr", 1e38
    status, shown, written = evaluate("probe", checkpoint, "random:resnet18", *options)
    assert status == 0, shown
    assert f"note: {checkpoint}: The probe diverged" in shown
    assert all(one["results"]["last_loss"] is None for one in written["networks"])


def test_learned_from_and_scored_are_apart(evaluate, checkpoint, data):
    for command in ("retrieval", "probe"):
        status, shown, _ = evaluate(command, checkpoint, "--train-list", data / "mixed.txt")
        assert status == 1
        assert "error: 1 of the 2 images that are scored would be learned from too" in shown
        assert "--list and --train-list" in shown
    status, shown, _ = evaluate("knn", checkpoint, train=data / "split1")
    assert status == 1
    assert "2 of the 2 images" in shown and "--train or --images" in shown


def test_projected_needs_a_full_checkpoint(evaluate):
    status, shown, _ = evaluate("overcluster", "random:resnet18", "--projected", "--clusters", 3)
    assert status == 1 and "--part" not in shown
    assert "random:resnet18 is an encoder alone, without projector and prototypes" in shown


@pytest.mark.parametrize(
    ("command", "option", "value"),
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
    ],
)
def test_numbers_are_checked_first(evaluate, capsys, command, option, value):
    with pytest.raises(SystemExit):
        evaluate(command, "none.pth", f"{option}={value}")
    assert re.search(rf"argument {option}: '{value}', expected a", capsys.readouterr().err)
