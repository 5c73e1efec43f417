"""What a checkpoint says about its training is checked before MMEngine applies it."""

import pickle
import re

import numpy as np
import pytest
import torch
from mmengine.logging import HistoryBuffer
from mmengine.optim import scheduler
from mmengine.runner import CheckpointLoader
from test_checkpoint import safe_mmengine, training_state  # noqa: F401  (a fixture)

from slotcon_plugin.errors import CheckpointError
from slotcon_plugin.runtime.resume_state import load_training_state
from slotcon_plugin.runtime.safe_loading import load_checkpoint_safely, use_safe_loader
from slotcon_plugin.runtime.stand_ins import ArrayUnpickler, plain_values
from slotcon_plugin.runtime.training_state import check_training_state


def with_entry(path: str, value: object) -> dict:
    """A training state with one entry replaced or added."""
    state = training_state()
    part: object = state
    *parents, last = (int(key) if key.isdigit() else key for key in path.split("/"))
    for key in parents:
        part = part[key]
    part[last] = value
    return state


INFO = "message_hub/runtime_info/"


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("meta/epoch", "1"),
        ("meta/iter", -1),
        ("meta/seed", 2**40),
        ("state_dict", {"weight": 1}),
        ("message_hub", [1]),
        ("message_hub/log_scalars", {"loss": [1.0]}),
        ("message_hub/log_scalars", {"loss": training_state()["optimizer"]}),
        ("message_hub/resumed_keys", {"loss": "yes"}),
        ("message_hub/runtime_info", None),
        (INFO + "keep_ckpt_ids", ["/../../precious"]),
        (INFO + "keep_ckpt_ids", 5),
        (INFO + "best_ckpt", 5),
        (INFO + "best_score", "high"),
        ("optimizer", None),
        ("optimizer/param_groups", {}),
        ("optimizer/param_groups", [5]),
        ("optimizer/param_groups/0/lr", torch.ones(2)),
        ("optimizer/param_groups/0/params", ["a"]),
        ("optimizer/state", {"a": {}}),
        ("optimizer/loss_scaler", {"scale": "x"}),
        ("param_schedulers", 5),
        ("param_schedulers", [5]),
        ("param_schedulers/0/step", 5),
        ("param_schedulers/0/_get_value", [0.1]),
        ("param_schedulers/0/load_state_dict", None),
        ("param_schedulers/0/optimizer", None),
        ("param_schedulers/0/__class__", 1),
        ("param_schedulers/0/last_step", "1"),
        ("param_schedulers/0/base_values", ["a"]),
        ("param_schedulers/0/base_values", torch.ones(1)),
    ],
)
def test_a_training_state_of_other_types_is_not_applied(tmp_path, path, value, safe_mmengine):  # noqa: F811
    torch.save(with_entry(path, value), tmp_path / "epoch_1.pth")
    with pytest.raises(CheckpointError, match=r"cannot be resumed from: `|expected a dictionary"):
        load_training_state(tmp_path / "epoch_1.pth")
    with pytest.raises(CheckpointError, match=r"cannot be resumed from: `|expected a dictionary"):
        CheckpointLoader.load_checkpoint(str(tmp_path / "epoch_1.pth"))


def test_paths_in_a_checkpoint_lead_into_the_work_dir(tmp_path, safe_mmengine):  # noqa: F811
    state = training_state()
    state["message_hub"]["runtime_info"] |= {
        "keep_ckpt_ids": [1, 2],
        "last_ckpt": "/elsewhere/epoch_2.pth",
        "best_ckpt": "/home/precious.pth",
        "best_ckpt_coco/bbox_mAP": "/home/best_coco_bbox_mAP_epoch_1.pth",
    }
    torch.save(state, tmp_path / "epoch_2.pth")
    use_safe_loader(tmp_path)
    loaded = CheckpointLoader.load_checkpoint(str(tmp_path / "epoch_2.pth"))
    assert loaded["message_hub"]["runtime_info"] == {
        "keep_ckpt_ids": [1, 2],
        "last_ckpt": str(tmp_path / "epoch_2.pth"),
        "best_ckpt_coco/bbox_mAP": str(tmp_path / "best_coco_bbox_mAP_epoch_1.pth"),
        "share": 0.5,
    }


def test_a_log_does_not_change_the_statistics_of_the_process(tmp_path):
    history = HistoryBuffer([1.0, 3.0], [1, 1])
    HistoryBuffer._statistics_methods["mean"] = HistoryBuffer.max
    try:
        torch.save({"log": history}, tmp_path / "log.pth")
    finally:
        HistoryBuffer._statistics_methods["mean"] = HistoryBuffer.mean
    log = load_checkpoint_safely(tmp_path / "log.pth")["log"]
    assert HistoryBuffer._statistics_methods["mean"] is HistoryBuffer.mean
    assert log.statistics("mean") == 2 and type(log) is HistoryBuffer


def test_all_schedulers_of_mmengine_can_be_resumed():
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=0.1, momentum=0.9)
    made = [
        scheduler.MultiStepLR(optimizer, [2, 5]),
        scheduler.LinearLR(optimizer, end=5),
        scheduler.PolyLR(optimizer, end=5),
        scheduler.CosineRestartLR(optimizer, [2, 3], [1, 1], eta_min=0),
        scheduler.StepLR(optimizer, 3),
        scheduler.ConstantMomentum(optimizer, 0.5, end=5),
        scheduler.ReduceOnPlateauLR(optimizer, "loss", "less"),
    ]
    state = training_state() | {"param_schedulers": [one.state_dict() for one in made]}
    check_training_state(state, "epoch_1.pth")


@pytest.mark.parametrize("core", ["numpy.core", "numpy._core"])
def test_logs_of_numpy_1_and_2_are_read(tmp_path, core):
    log = HistoryBuffer([1.0, 2.5], [1, 1])
    content = pickle.dumps({"log": log, "share": np.float32(0.5)}, protocol=2)
    content = re.sub(rb"numpy\._?core", core.encode(), content)
    (tmp_path / "log.pkl").write_bytes(content)
    with open(tmp_path / "log.pkl", "rb") as file:
        found = plain_values(ArrayUnpickler(file, encoding="latin1").load())
    assert found["share"] == 0.5
    assert [values.tolist() for values in found["log"].data] == [[1.0, 2.5], [1, 1]]


def test_files_of_torch_before_1_6_are_read(tmp_path):
    state = training_state()
    torch.save(state, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    found = load_training_state(tmp_path / "old.pth")
    assert torch.equal(found["state_dict"]["weight"], state["state_dict"]["weight"])
    momentum = found["optimizer"]["state"][0]["momentum_buffer"]
    assert torch.equal(momentum, state["state_dict"]["weight"])
