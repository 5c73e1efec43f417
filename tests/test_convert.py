"""Full checkpoints convert to the published format and back bit by bit, and training continues."""

import json
from pathlib import Path

import pytest
import torch
from mmengine.registry import MODELS
from tiny_training import assert_same, train_apart, write_images
from tiny_weights import ours, published_content, random_model, slotcon_config

from benchmarks.processes import DEMO
from benchmarks.small_benchmark import pretraining_options
from slotcon_plugin.apis.export import export
from slotcon_plugin.checkpoints import read_encoder
from slotcon_plugin.checkpoints.containers import read_file
from slotcon_plugin.checkpoints.published import to_ours, to_published
from slotcon_plugin.errors import CheckpointError
from slotcon_plugin.runtime.resume_state import load_training_state
from slotcon_plugin.runtime.safe_loading import load_checkpoint_safely

GOLDEN = Path(__file__).parent / "golden" / "checkpoint_keys_r50_coco.json"


@pytest.fixture(scope="module")
def content() -> dict:
    return published_content()


def test_the_round_trip_is_bit_equal(content, tmp_path):
    torch.save(content, tmp_path / "published.pth")
    export(tmp_path / "published.pth", tmp_path / "ours.pth", to="slotcon")
    export(tmp_path / "ours.pth", tmp_path / "again.pth", to="published")
    again = read_file(tmp_path / "again.pth")
    assert list(again["model"]) == list(content["model"])
    assert vars(again.pop("args")) == vars(content["args"])
    assert_same(again, {name: value for name, value in content.items() if name != "args"})


def test_the_converted_model_is_the_same(content):
    state = to_ours(content, "it").content["state_dict"]
    original = random_model(18)
    model = MODELS.build(slotcon_config(18))
    model.load_state_dict(state)  # strict
    assert_same(dict(model.state_dict()), dict(original.state_dict()))
    assert list(state) == list(original.state_dict())


def test_momentum_belongs_to_the_same_parameter(content):
    done = to_ours(content, "it")
    model = random_model(18)
    ours = [name for name, _ in model.named_parameters()]
    buffers = ("running_mean", "running_var", "num_batches_tracked", "center")
    theirs = [name for name in content["model"] if not name.endswith(buffers)]
    moved = done.content["optimizer"]["state"]
    assert len(moved) == len(content["optimizer"]["state"])
    for i, entry in moved.items():
        old = done.old_names[ours[i]]
        mu = content["optimizer"]["state"][theirs.index(f"module.{old}")]["mu"]
        assert entry["momentum_buffer"] is mu
        assert mu.shape == dict(model.named_parameters())[ours[i]].shape
    assert done.content["optimizer"]["loss_scaler"] == content["scaler"]
    curve = dict(warmup=5, final=1e-6, start_divisor=100, end=45, base_values=[2.0])
    (schedule,) = done.content["param_schedulers"]
    assert schedule == dict(**curve, last_step=30, _global_step=30, _last_value=[0.7])
    assert (done.content["meta"]["epoch"], done.content["meta"]["iter"]) == (3, 30)


@pytest.mark.parametrize(
    ("change", "remark"),
    [
        (lambda c: c.pop("optimizer"), "missing: optimizer (--resume needs it"),
        (lambda c: c.pop("scheduler"), "missing: scheduler (--resume needs it"),
        (
            lambda c: c["scheduler"]["after_scheduler"].pop("T_max"),
            "dropped: optimizer, since its schedule lacks 'T_max'",
        ),
        (
            lambda c: c["optimizer"]["param_groups"][0].update(nesterov=False),
            "dropped: optimizer, which is not the paper's LARS",
        ),
    ],
)
def test_remarks_name_what_was_not_converted(tmp_path, change, remark):
    content = published_content()
    change(content)
    done = to_ours(content, "it")
    assert any(remark in line for line in done.remarks)
    torch.save(done.content, tmp_path / "a.pth")
    with pytest.raises(CheckpointError, match="cannot be resumed from"):
        load_training_state(tmp_path / "a.pth")
    model = MODELS.build(slotcon_config(18))
    model.load_state_dict(load_checkpoint_safely(tmp_path / "a.pth")["state_dict"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda m: m.pop("module.center"),
            "not a complete SlotCon model: 1 missing: head.group_loss.center",
        ),
        (lambda m: m.pop("module.grouping_q.slot_embed.weight"), "lacks head.prototypes.weight"),
        (lambda m: m.update({"module.queue": m["module.center"]}), "unknown names: queue"),
        (
            lambda m: m.update({"module.predictor_slot.mlp.9.bias": m["module.center"]}),
            r"unexpected: head.predictor.mlp.9.bias",
        ),
        (
            lambda m: m.update({"module.center": torch.zeros(1, 5)}),
            "of another shape: head.group_loss.center",
        ),
        (
            lambda m: m.update({"module.center": torch.full((1, 12), torch.inf)}),
            "`head.group_loss.center` is not finite",
        ),
    ],
)
def test_incomplete_checkpoints_are_refused(change, message):
    content = published_content()
    change(content["model"])
    with pytest.raises(CheckpointError, match=message):
        to_ours(content, "it")


def test_each_direction_accepts_one_kind(content, tmp_path):
    own = read_file(ours(tmp_path, 18))
    with pytest.raises(CheckpointError, match="not a published SlotCon checkpoint"):
        to_ours(own, "it")
    with pytest.raises(CheckpointError, match="--to published converts full checkpoints of"):
        to_published(content, "it")
    del own["state_dict"]["neck.mlp.4.bias"]
    with pytest.raises(CheckpointError, match=r"missing: neck.mlp.4.bias"):
        to_published(own, "it")


def test_our_checkpoint_in_the_published_format(tmp_path):
    done = to_published(read_file(ours(tmp_path, 18)), "it")
    expected = published_content()["model"]
    assert list(done.content["model"]) == list(expected)
    assert_same(done.content["model"], expected)
    args = vars(done.content["args"])
    assert args["arch"] == "resnet18" and args["num_prototypes"] == 12 and args["epochs"] == 800
    assert done.digest == to_ours(done.content, "it").digest


def test_the_papers_checkpoint_by_names_and_shapes():
    """Every tensor of the published COCO checkpoint, of its real size, but without its numbers."""
    golden = json.loads(GOLDEN.read_text())
    kinds = {name: torch.long if name.endswith("_tracked") else torch.float for name in golden}
    weights = {n: torch.zeros((), dtype=kinds[n]).expand(shape) for n, shape in golden.items()}
    done = to_ours({"model": weights, "epoch": 800}, "it")
    assert "use a config with the same encoder and prototypes: ResNet-50, 256" in done.remarks[0]
    back = to_published(done.content, "it")
    assert {name: list(value.shape) for name, value in back.content["model"].items()} == golden
    assert list(back.content["model"]) == list(golden)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("optimizer", {"param_groups": 5, "state": {}}),
        ("optimizer", {"param_groups": [5], "state": {}}),
        ("optimizer", {"param_groups": [{"params": [0], "lr": 1}], "state": {0: 5}}),
        ("scheduler", {"last_epoch": 5, "after_scheduler": 7}),
        ("scheduler", {"last_epoch": 5, "warmup_epoch": "x", "T_max": 1}),
    ],
)
def test_a_damaged_training_state_gets_one_message(key, value):
    with pytest.raises(CheckpointError, match="state of optimizer or schedule in it is damaged"):
        to_ours({**published_content(), key: value}, "it")


@pytest.mark.parametrize("args", [[1], {1: 2}, 5])
def test_a_damaged_command_line_gets_one_message(tmp_path, args):
    path = tmp_path / "a.pth"
    meta = {"published": {"args": args}}
    torch.save({"meta": meta, "state_dict": random_model(18).state_dict()}, path)
    for read in (lambda: read_encoder(path), lambda: to_published(read_file(path), "it")):
        with pytest.raises(CheckpointError, match="expected the options by name"):
            read()


@pytest.mark.slow
def test_training_resumes_exactly_after_a_round_trip(tmp_path):
    """Two epochs in one go, and one epoch, over to the published format and back, and one more."""
    images = write_images(tmp_path / "images")

    def train(work_dir: Path, resume: Path | None = None) -> Path:
        train_apart(1, DEMO, resume=resume, cfg_options=pretraining_options(images, work_dir))
        return work_dir / "epoch_2.pth"

    straight = load_checkpoint_safely(train(tmp_path / "straight"))
    published = to_published(read_file(tmp_path / "straight" / "epoch_1.pth"), "it")
    assert "scheduler" in published.content
    torch.save(published.content, tmp_path / "published.pth")
    back = to_ours(read_file(tmp_path / "published.pth"), "it")
    torch.save(back.content, tmp_path / "ours.pth")
    resumed = load_checkpoint_safely(train(tmp_path / "resumed", tmp_path / "ours.pth"))
    for state in (straight, resumed):
        del state["state_dict"]["idle_steps"]  # begun anew
    for entry in ("state_dict", "optimizer", "param_schedulers"):
        assert_same(straight[entry], resumed[entry], entry)
    assert resumed["meta"]["iter"] == straight["meta"]["iter"]
