"""Weights that enter a model: completely, or except for the tensors that the user names."""

import itertools
from pathlib import Path

import pytest
import torch
from mmengine.model import BaseModel
from mmengine.runner import Runner
from tiny_weights import ours
from torch import nn
from torch.utils.data import DataLoader

import slotcon_plugin  # noqa: F401  (registers the hooks)
from slotcon_plugin.checkpoints import fill, read_encoder
from slotcon_plugin.checkpoints.fill import check_state_dict
from slotcon_plugin.checkpoints.left_out import (
    LeftOut,
    check_initial_weights,
    initial_files,
    read_record,
)
from slotcon_plugin.errors import CheckpointError, ConfigError
from slotcon_plugin.models.backbones import TorchvisionResNet


class Net(BaseModel):
    """Two layers; its loss is their output's mean. The teacher is its own."""

    def __init__(self, outputs: int = 2, part: dict | None = None, init_cfg=None):
        super().__init__(init_cfg=init_cfg)
        self.encoder, self.head = nn.Linear(3, 2), nn.Linear(2, outputs)
        if part is not None:
            self.part = Net(init_cfg=part)

    def expect_teacher_moves(self) -> None:
        pass

    def update_teacher(self, step: int, total_steps: int) -> float:
        return 1.0

    def forward(self, inputs, data_samples=None, mode="loss"):
        return {"loss": self.head(self.encoder(inputs)).mean()}


OTHERS = {
    "missing": (lambda state: state.pop("head.bias"), "1 missing: head.bias"),
    "left over": (
        lambda state: state.update({"fc.weight": torch.ones(1)}),
        "1 unexpected: fc.weight",
    ),
    "another shape": (
        lambda state: state.update({"head.weight": torch.ones(5, 2)}),
        r"1 of another shape: head.weight \(5, 2\) instead of \(2, 2\)",
    ),
    "another type": (
        lambda state: state.update({"head.weight": torch.ones(2, 2).half()}),
        "head.weight torch.float16 instead of torch.float32",
    ),
    "empty": (lambda state: state.clear(), "4 missing: encoder.weight"),
}


def changed(kind: str) -> dict:
    torch.manual_seed(0)
    state = Net().state_dict()
    OTHERS[kind][0](state)
    return state


@pytest.mark.parametrize("kind", OTHERS)
def test_a_difference_is_an_error_unless_it_is_named(kind):
    net, state = Net(), changed(kind)
    with pytest.raises(CheckpointError, match=OTHERS[kind][1]) as raised:
        check_state_dict(net, {"state_dict": state}, "a.pth")
    assert "--allow-missing" not in str(raised.value)  # here it would have no effect
    with pytest.raises(CheckpointError, match=OTHERS[kind][1]):
        check_state_dict(net, {"state_dict": state}, "a.pth", LeftOut(["other.*"]))
    left_out = LeftOut(["head.*", "fc.*", "encoder.?*"])
    if kind == "another type":
        with pytest.raises(CheckpointError, match=OTHERS[kind][1]):
            check_state_dict(net, {"state_dict": state}, "a.pth", left_out)
        return
    check_state_dict(net, {"state_dict": state}, "a.pth", left_out)
    (names,) = left_out.names.values()
    (line,) = left_out.lines()
    assert all(name in line for name in names)
    assert f"{len(names)} tensors are not loaded from a.pth" in line


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused(value):
    state = Net().state_dict()
    next(iter(state.values())).view(-1)[0] = value
    with pytest.raises(CheckpointError, match="is not finite"):
        check_state_dict(Net(), {"state_dict": state}, "a.pth")


def test_a_pattern_that_is_not_needed_is_an_error():
    for patterns, needed in ((["head.bias", "encoder.*"], "encoder"), (["Head.*"], "Head")):
        left_out = LeftOut(patterns)
        left_out.compare({"head.weight": torch.ones(1)}, {"head.bias": torch.ones(1)}, "a.pth")
        with pytest.raises(ConfigError, match=rf"--allow-missing {needed}.*no tensor of this name"):
            left_out.check_used()
    for patterns in ("head.*", [""], [3], {"a": 1}):
        with pytest.raises(ConfigError, match="expected a list of patterns"):
            LeftOut(patterns)
    for damaged in ([], {"a": "b"}, {1: ["b"]}, {"a": [None]}):
        with pytest.raises(CheckpointError, match=r"meta\.left_out` is damaged"):
            read_record({"left_out": damaged}, "a.pth")


@pytest.mark.parametrize("kind", OTHERS)
@pytest.mark.parametrize("road", ["whole", "part", "prefix", "override"])
def test_a_file_in_a_config_s_initialization_must_fit(tmp_path, road, kind):
    """MMEngine loads what fits and warns."""
    file, start = tmp_path / "a.pth", "old." if road == "prefix" else ""
    init = dict(type="Pretrained", checkpoint=str(file))
    init |= dict(prefix="old.") if road == "prefix" else {}
    if road == "whole":
        net = Net(init_cfg=init)
    elif road == "override":
        init = dict(type="Constant", val=1, layer="Linear", override=dict(name="part", **init))
        net = Net(part=dict(type="Constant", layer="Linear", val=0), init_cfg=init)
    else:
        net = Net(part=init)
    for state, message in ((changed(kind), OTHERS[kind][1]), (Net().state_dict(), None)):
        state = {start + name: value for name, value in state.items()}
        torch.save({"state_dict": state, "meta": {}}, file)
        if message is None:
            check_initial_weights(net, LeftOut())
            continue
        with pytest.raises(CheckpointError, match=f"{message}.*would only warn.*--backbone FILE"):
            check_initial_weights(net, LeftOut())
    assert initial_files(net) == [str(file)]
    file.unlink()
    with pytest.raises(CheckpointError, match="There is no checkpoint"):
        check_initial_weights(net, LeftOut())


RUNS = itertools.count()  # MMEngine keeps a logger for each name and second
HOOKS = [
    dict(type="WeightsHook"),
    dict(type="TeacherHook"),
    dict(type="BackboneHook", source="none"),
]


def test_an_initialization_without_a_file_is_refused():
    with pytest.raises(ConfigError, match="which names no `checkpoint`"):
        check_initial_weights(Net(init_cfg=dict(type="Pretrained")), LeftOut())


def run(work_dir: Path, hooks: list[dict], epochs: int = 1, resume: bool = False, **cfg) -> dict:
    """A training under MMEngine's own runner, as other scripts have it: its last checkpoint."""
    loader = DataLoader([dict(inputs=torch.ones(3)) for _ in range(2)], batch_size=2)
    runner = Runner(
        cfg.pop("model", Net()),
        str(work_dir),
        train_dataloader=loader,
        train_cfg=dict(by_epoch=True, max_epochs=epochs),
        optim_wrapper=dict(optimizer=dict(type="SGD", lr=0.1)),
        custom_hooks=hooks,
        load_from=cfg.get("load_from"),
        resume=resume,
        cfg=dict(model={}, **cfg),
        experiment_name=f"left_out{next(RUNS)}",
    )
    runner.train()
    return torch.load(work_dir / f"epoch_{epochs}.pth", weights_only=False)


@pytest.mark.parametrize("hook", HOOKS, ids=lambda hook: hook["type"])
def test_other_scripts_are_as_strict(tmp_path, hook):
    """Each of our hooks compares what MMEngine's runner loads, and records what is left out."""
    file = str(tmp_path / "a.pth")
    torch.save({"state_dict": changed("missing")}, file)
    init = dict(type="Pretrained", checkpoint=file)
    for name, options in (("a", dict(load_from=file)), ("b", dict(model=Net(part=init)))):
        with pytest.raises(CheckpointError, match=r"1 missing: head\.bias"):
            run(tmp_path / name, [hook], **options)
        assert not list((tmp_path / name).glob("*.pth"))
        with pytest.raises(ConfigError, match=r"allow-missing tail\.\*"):
            run(tmp_path / name, [hook], allow_missing=["head.*", "tail.*"], **options)
        saved = run(tmp_path / name, [hook], allow_missing=["head.*"], **options)
        assert saved["meta"]["left_out"] == {file: ["head.bias"]}
        (log,) = [
            t for p in (tmp_path / name).rglob("*.log") if "not loaded" in (t := p.read_text())
        ]
        assert log.count("1 tensors are not loaded from") == 1

    saved = run(tmp_path / "a", [hook], epochs=2, resume=True, allow_missing=["head.*"])
    assert saved["meta"]["left_out"] == {file: ["head.bias"]}  # of the first start
    whole = str(tmp_path / "a" / "epoch_2.pth")
    assert "left_out" not in run(tmp_path / "c", [hook], load_from=whole)["meta"]
    del saved["state_dict"]["head.bias"]
    torch.save(saved, tmp_path / "a" / "epoch_2.pth")
    with pytest.raises(CheckpointError, match=r"1 missing: head\.bias"):  # a resume is complete
        run(tmp_path / "a", [hook], epochs=3, resume=True, allow_missing=["head.*"])


def test_an_encoder_of_fewer_stages_fills_what_it_has(tmp_path):
    encoder = read_encoder(ours(tmp_path, 18, num_stages=2))
    net = TorchvisionResNet(18, num_stages=3)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    with pytest.raises(CheckpointError, match="30 missing: layer3"):
        fill(net, encoder)
    left_out = LeftOut(["layer3.*"])
    fill(net, encoder, left_out)
    assert {name.partition(".")[0] for name in left_out.names[str(encoder.source)]} == {"layer3"}
    for name, value in net.state_dict().items():
        source = before if name.startswith("layer3.") else encoder.state_dict
        assert torch.equal(value, source[name]), name
