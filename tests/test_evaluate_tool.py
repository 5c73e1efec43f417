"""The networks that are evaluated, and tools/evaluate.py as a user runs it."""

import json
import re
import sys

import pytest
import tiny_weights
import torch
from coloured import write_coloured
from photographs import photographs
from tiny_training import ROOT, start

from slotcon_plugin.data.labelled import to_tensor
from slotcon_plugin.errors import CheckpointError, ConfigError
from slotcon_plugin.evaluation.networks import Projected, open_encoder, open_groups
from slotcon_plugin.evaluation.report import table

COMMANDS = ("unsupervised", "overcluster", "retrieval", "probe", "knn")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return tiny_weights.ours(tmp_path_factory.mktemp("weights"), depth=18, num_stages=3)


@pytest.fixture(scope="module")
def picture():
    return to_tensor(photographs(128)[0])[None]


def test_the_groups_are_the_model_s(checkpoint, picture):
    """The network read from a checkpoint gives what the trained model predicts."""
    model = tiny_weights.lively_model(18, 3)
    expected = model.test_step(dict(inputs=picture))[0].scores
    torch.testing.assert_close(open_groups(checkpoint)(picture)[0], expected)
    student = open_groups(checkpoint, "student")(picture)[0]
    assert (student - expected).abs().max() > 0.01
    pixels = model.data_preprocessor(dict(inputs=picture))["inputs"]
    projected = model.teacher.neck(model.teacher.backbone(pixels))
    torch.testing.assert_close(Projected(open_groups(checkpoint))(picture), projected)


def test_the_groups_of_a_published_checkpoint(tmp_path, picture):
    torch.save(tiny_weights.published_content(), tmp_path / "published.pth")
    expected = tiny_weights.lively_model(18).test_step(dict(inputs=picture))[0].scores
    torch.testing.assert_close(open_groups(tmp_path / "published.pth")(picture)[0], expected)


def test_encoders_from_anywhere(checkpoint, picture, tmp_path):
    teacher = open_encoder(str(checkpoint))
    tiny_weights.assert_same_features(
        teacher(picture),
        tiny_weights.lively_model(18, 3).encode(
            tiny_weights.lively_model(18, 3).data_preprocessor(dict(inputs=picture))["inputs"]
        ),
    )
    assert "teacher" in teacher.origin
    assert open_encoder(str(checkpoint), stage=2)(picture).shape == (1, 128, 16, 16)
    random = open_encoder("random:resnet18")
    assert random(picture).shape == (1, 512, 4, 4)
    torch.testing.assert_close(random(picture), open_encoder("random:resnet18")(picture))
    assert not torch.equal(random(picture), open_encoder("random:resnet18", seed=1)(picture))
    # a plain state dict of torchvision's names, as it saves them
    plain = tmp_path / "resnet18.pth"
    torch.save(random.encoder.state_dict() | {"fc.weight": torch.zeros(1000, 512)}, plain)
    torch.testing.assert_close(open_encoder(str(plain))(picture), random(picture))
    with pytest.raises(CheckpointError, match="is an encoder alone"):
        open_groups(plain)
    with pytest.raises(ConfigError, match="expected random:resnet18, :resnet34"):
        open_encoder("random:vit")
    with pytest.raises(ConfigError, match="has the stages 1 to 3"):
        open_encoder(str(checkpoint), stage=4)


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
    data = write_coloured(folder / "data", count=3)
    where = ["--pictures", data / "pictures", "--labels", data / "labels"]
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
    assert "the 3 of 3 pictures that have labels" in shown
    assert re.search(r"\| one-to-one +\| +\d+\.\d\d", shown)
    written = json.loads((folder / "new" / "out.json").read_text())
    assert written["evaluation"] == "unsupervised"
    assert written["data"]["test"]["pictures"] == 3
    assert written["results"]["prototypes"] == 12
    one, many = (written["results"]["matchings"][m] for m in ("one-to-one", "many-to-one"))
    assert 0 < one["accuracy"] <= many["accuracy"] <= 100
    assert one["classes"]["sheep"]["pixels"] == 0 and one["classes"]["aeroplane"]["pixels"] > 0


def test_mistakes_are_one_message(runs):
    shown, status = runs[1]["mistake"]
    assert status == 1
    assert "error: retrieval learns from other pictures than it scores" in shown
    assert "Traceback" not in shown
