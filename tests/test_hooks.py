"""The hooks in real, small trainings under MMEngine's own runner."""

import json
import math
import time
from pathlib import Path

import pytest
import torch
from mmengine.dataset import DefaultSampler
from mmengine.model import BaseModel
from mmengine.optim import OptimWrapper
from mmengine.registry import HOOKS as HOOKS_REGISTRY
from mmengine.runner import Runner
from torch import nn
from torch.utils.data import DataLoader, Dataset

import slotcon_plugin  # noqa: F401  (registers the names)
from benchmarks.processes import run_processes
from slotcon_plugin.errors import ConfigError, TrainingStopped
from slotcon_plugin.runtime.resume_state import load_training_state
from slotcon_plugin.runtime.safe_loading import load_checkpoint_safely, safe_loader


@pytest.fixture(autouse=True)
def _safely():
    """As every tool loads: upstream's mmengine alone reads no checkpoint with torch >= 2.6."""
    with safe_loader():
        yield


HOOKS = ("LossGuardHook", "AverageOutputsHook", "TeacherHook", "DiagnosticsHook")


class Numbers(Dataset):
    """0, 1, 2, …; some may be NaN (`lost`), and loading may take time (`pause`)."""

    def __init__(self, count: int, lost: tuple[int, ...] = (), pause: float = 0):
        self.count, self.lost, self.pause = count, lost, pause

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        time.sleep(self.pause)
        return {"inputs": torch.tensor(float("nan") if index in self.lost else float(index))}


class Line(BaseModel):
    """y = w·x with the loss y, so that the gradient of w is the mean of x."""

    def __init__(self, feature_std: float = 1.0, used: float = 1.0, level: str = "", slots=9.0):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(()))
        self.moves: list[tuple[int, int]] = []
        self.expected = False
        self.feature_std, self.used, self.level, self.slots = feature_std, used, level, slots
        self.prototypes_of_levels = {level: 100}

    def expect_teacher_moves(self) -> None:
        self.expected = True

    def update_teacher(self, step: int, total_steps: int) -> float:
        self.moves.append((step, total_steps))
        return 0.5

    def forward(self, inputs, data_samples=None, mode="loss"):
        return {
            "loss_line": (self.weight * inputs).mean(),
            f"feature_std{self.level}": torch.tensor(self.feature_std),
            f"prototypes_used_running{self.level}": torch.tensor(self.used),
            f"active_slots{self.level}": torch.tensor(self.slots),
            "mean_input": inputs.mean(),
        }


class Careful(Line):
    """Its gradients are finite, whatever the loss is."""

    def forward(self, inputs, data_samples=None, mode="loss"):
        return {"loss": inputs.mean() + 0 * self.weight}


def make_runner(
    work_dir: Path, numbers: Dataset, model: BaseModel | None = None, **options
) -> Runner:
    """One number a batch, in order; `options`: epochs, accumulation, interval, any of Runner's."""
    optimizer = {"type": "SGD", "lr": 0.01}
    accumulation, interval = options.pop("accumulation", 1), options.pop("interval", 1)
    batch_size = options.pop("batch_size", 1)
    model = model or Line()
    settings = {
        "train_cfg": {"by_epoch": True, "max_epochs": options.pop("epochs", 1)},
        "custom_hooks": [{"type": name} for name in HOOKS],
        "default_hooks": {
            "logger": {"type": "LoggerHook", "interval": interval},
            "checkpoint": {"type": "CheckpointHook", "backend_args": {"backend": "atomic"}},
        },
        "log_processor": {"window_size": 1},
        "experiment_name": f"{work_dir.name}_{time.time_ns()}",
        **options,
    }
    return Runner(
        model=model,
        work_dir=str(work_dir),
        train_dataloader=DataLoader(
            numbers, batch_size, sampler=DefaultSampler(numbers, shuffle=False)
        ),
        optim_wrapper={
            "type": "OptimWrapper",
            "optimizer": optimizer,
            "accumulative_counts": accumulation,
        },
        **settings,
    )


def logged(runner: Runner) -> list[dict]:
    """The lines that the logger wrote for machines."""
    file = next(Path(runner.log_dir).rglob("scalars.json"))
    return [json.loads(line) for line in file.read_text().splitlines()]


def warnings_of(runner: Runner) -> str:
    text = next(Path(runner.log_dir).glob("*.log")).read_text()
    return "\n".join(line for line in text.splitlines() if "collapsing" in line)


def test_the_teacher_moves_once_a_step(tmp_path):
    runner = make_runner(tmp_path, Numbers(4), epochs=2)
    runner.train()
    assert runner.model.moves == [(step, 8) for step in range(8)]
    assert {line["teacher_momentum"] for line in logged(runner)} == {0.5}


def test_the_teacher_moves_once_an_accumulated_step(tmp_path):
    runner = make_runner(tmp_path, Numbers(5), epochs=1, accumulation=2)
    runner.train()
    assert runner.model.moves == [(0, 3), (1, 3), (2, 3)]  # the last step is of one iteration


def test_a_resume_within_an_accumulated_step(tmp_path):
    """Epochs of 3 iterations, steps of 2: the move of the second step is in the checkpoint."""
    numbers, curve = Numbers(3), {"type": "WarmupCosineLR", "warmup": 1, "by_epoch": False}
    options = {"accumulation": 2, "param_scheduler": curve, "epochs": 2}
    options["default_hooks"] = {"checkpoint": {"type": "CheckpointHook", "interval": 1}}
    make_runner(tmp_path, numbers, **options).train()
    saved = {"resume": True, "load_from": str(tmp_path / "epoch_1.pth")}
    runner = make_runner(tmp_path, numbers, **options, **saved)
    runner.train()
    assert runner.model.expected
    assert runner.model.moves == [(2, 3)]


def test_the_teacher_counts_on_after_a_resume(tmp_path):
    make_runner(tmp_path, Numbers(4), epochs=1).train()
    runner = make_runner(
        tmp_path, Numbers(4), epochs=3, resume=True, load_from=str(tmp_path / "epoch_1.pth")
    )
    runner.train()
    assert runner.model.moves == [(step, 12) for step in range(4, 12)]


def test_the_logged_losses_are_the_mean_since_the_last_line(tmp_path):
    runner = make_runner(tmp_path, Numbers(7), interval=3)
    runner.train()
    assert [line["mean_input"] for line in logged(runner)] == [1.0, 4.0]  # of 0, 1, 2 and 3, 4, 5
    assert [line["step"] for line in logged(runner)] == [3, 6]


def _train_one_of_two(rank, folder):
    make_runner(folder, Numbers(8), interval=2).train()


def test_the_logged_means_are_over_all_processes(tmp_path):
    run_processes(_train_one_of_two, 2, tmp_path)
    (file,) = tmp_path.rglob("scalars.json")
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    # One process has 0, 2, 4, 6, the other 1, 3, 5, 7.
    assert [line["mean_input"] for line in lines] == [(0 + 2 + 1 + 3) / 4, (4 + 6 + 5 + 7) / 4]


def test_the_rest_of_an_epoch_counts_in_the_next_line(tmp_path):
    runner = make_runner(tmp_path, Numbers(4), interval=3, epochs=2)
    runner.train()
    assert [line["mean_input"] for line in logged(runner)] == [1.0, (3 + 0 + 1 + 2) / 4]


def test_a_short_epoch_logs_its_end(tmp_path):
    runner = make_runner(tmp_path, Numbers(2), interval=10, epochs=2)
    runner.train()
    assert [line["mean_input"] for line in logged(runner)] == [0.5, 0.5]


@pytest.mark.parametrize(
    ("accumulation", "interval", "norms"),
    [(1, 1, [0, 1, 2, 3, 4, 5]), (1, 3, [2, 5]), (2, 2, [0.5, 2.5, 4.5]), (3, 2, [None, 1, 4])],
)
def test_the_gradient_norm_is_that_of_the_last_step(tmp_path, accumulation, interval, norms):
    runner = make_runner(tmp_path, Numbers(6), accumulation=accumulation, interval=interval)
    runner.train()
    assert [line.get("grad_norm") for line in logged(runner)] == pytest.approx(norms)


def test_the_norm_spans_all_tensors_and_leaves_the_optimizer_alone(tmp_path):
    class Plane(Line):
        def __init__(self):
            super().__init__()
            self.other = nn.Parameter(torch.zeros(2))

        def forward(self, inputs, data_samples=None, mode="loss"):
            return {"loss": 2 * self.weight + (self.other * torch.tensor([1.0, 2.0])).sum()}

    runner = make_runner(tmp_path, Numbers(1), Plane())
    runner.train()
    assert logged(runner)[0]["grad_norm"] == pytest.approx(math.sqrt(4 + 1 + 4))
    assert not runner.optim_wrapper.optimizer._optimizer_step_pre_hooks


def test_waiting_for_data_is_seen(tmp_path):
    slow = make_runner(tmp_path / "slow", Numbers(4, pause=0.05), interval=4)
    slow.train()
    assert 0.5 < logged(slow)[-1]["data_wait"] <= 1


def test_the_guard_stops_at_its_patience_and_keeps_the_checkpoint(tmp_path):
    runner = make_runner(tmp_path, Numbers(8), epochs=2)
    runner.train()
    before = (tmp_path / "epoch_2.pth").read_bytes()
    runner = make_runner(
        tmp_path,
        Numbers(8, lost=(2,)),  # NaN in the gradient of one step, and so in every loss after it
        epochs=3,
        resume=True,
        load_from=str(tmp_path / "epoch_2.pth"),
    )
    with safe_loader(), pytest.raises(TrainingStopped) as stopped:  # it removes saved paths
        runner.train()
    message = str(stopped.value)
    assert runner.iter == 16 + 2 + 4  # steps 19, 20, 21, 22 and 23 counted from 1
    assert "not finite for 5 steps at step 23" in message
    assert "at step 18" in message
    assert f"{tmp_path / 'epoch_2.pth'}, is intact" in message
    assert (tmp_path / "epoch_2.pth").read_bytes() == before
    assert not (tmp_path / "epoch_3.pth").exists()
    assert load_training_state(tmp_path / "epoch_2.pth")["meta"]["iter"] == 16


def test_a_streak_at_the_end_of_an_epoch_is_not_saved(tmp_path):
    runner = make_runner(tmp_path, Numbers(4, lost=(3,)))
    with pytest.raises(
        TrainingStopped, match=r"1 step at the end of the epoch.*no checkpoint in .* yet"
    ):
        runner.train()
    assert not list(tmp_path.glob("*.pth"))


@pytest.mark.parametrize("hooks", [HOOKS, HOOKS[::-1]], ids=["guard first", "guard last"])
def test_the_guard_reads_every_loss_in_any_order_of_the_hooks(tmp_path, hooks):
    custom_hooks = [{"type": name} for name in hooks]
    numbers = Numbers(8, lost=(0, 1, 2, 3, 4))
    runner = make_runner(tmp_path, numbers, Careful(), interval=3, custom_hooks=custom_hooks)
    with pytest.raises(TrainingStopped, match="not finite for 5 steps at step 5"):
        runner.train()


def _train_at_another_step(rank: int, folder: Path) -> str:
    runner = make_runner(folder, Numbers(4))
    runner.train_loop._iter = 3 * rank
    with pytest.raises(TrainingStopped) as stopped:
        runner.train()
    return str(stopped.value)


def test_the_guard_finds_processes_at_different_steps(tmp_path):
    messages = run_processes(_train_at_another_step, 2, tmp_path)
    for message, step in zip(messages, (1, 4), strict=True):
        assert f"The processes are not at the same step: this one is at step {step}." in message


class Root(Line):
    """Its loss is finite, the gradient of its root at 0 is not."""

    def forward(self, inputs, data_samples=None, mode="loss"):
        return {"loss": (self.weight * (inputs.mean() > 1)).abs().sqrt()}


def test_the_guard_keeps_the_first_step_of_a_streak_before_its_update(tmp_path):
    runner = make_runner(tmp_path, Numbers(9), Root())
    with pytest.raises(TrainingStopped, match=r"nonfinite_step/rank0.pth repeats the first"):
        runner.train()
    kept = load_checkpoint_safely(tmp_path / "nonfinite_step" / "rank0.pth")
    assert kept["meta"]["step"] == 1
    assert kept["meta"]["reason"] == "the gradient was not finite"
    assert kept["state_dict"]["weight"] == 0
    assert [path.name for path in (tmp_path / "nonfinite_step").iterdir()] == ["rank0.pth"]


def test_a_step_that_cannot_be_kept_does_not_end_the_training(tmp_path):
    (tmp_path / "nonfinite_step").touch()  # a file in place of the folder
    runner = make_runner(tmp_path, Numbers(2, lost=(0,)), Careful())
    runner.train()
    log = next(Path(runner.log_dir).glob("*.log")).read_text()
    assert "Step 1, not finite, is not kept: " in log


def test_a_lost_step_with_finite_weights_does_not_stop_the_epoch(tmp_path):
    runner = make_runner(tmp_path, Numbers(4, lost=(3,)), Careful())
    runner.train()  # its gradient was finite
    assert (tmp_path / "epoch_1.pth").exists()


def test_a_streak_is_not_saved_within_an_epoch_either(tmp_path):
    hooks = {"checkpoint": {"type": "CheckpointHook", "by_epoch": False, "interval": 2}}
    runner = make_runner(tmp_path, Numbers(6, lost=(2,)), default_hooks=hooks)
    with pytest.raises(TrainingStopped, match=r"2 steps when a checkpoint was due"):
        runner.train()
    assert [path.name for path in tmp_path.glob("*.pth")] == ["iter_2.pth"]


def test_a_streak_that_ends_does_not_stop_training(tmp_path):
    class Forgetful(Line):
        def forward(self, inputs, data_samples=None, mode="loss"):
            return {"loss": inputs.mean() + 0 * self.weight.nan_to_num()}

    numbers = Numbers(9, lost=(0, 1, 2, 3, 5, 6, 7))
    make_runner(tmp_path, numbers, Forgetful()).train()
    assert (tmp_path / "epoch_1.pth").exists()


@pytest.mark.parametrize(
    ("model", "warning"),
    [
        (Line(feature_std=0.01), "features are collapsing"),
        (Line(used=0.02), "about 2 of 100 prototypes"),
        (Line(used=0.03), ""),
        (Line(slots=1.1), "the groups are collapsing: a view has 1.10 groups, below 1.2"),
        (Line(feature_std=0.01, level="_dec1"), "the features of level dec1 are collapsing"),
        (Line(used=0.02, level="_dec1"), "the groups of level dec1 are collapsing: about 2 of 100"),
    ],
)
def test_collapse_is_reported_once_an_epoch_after_the_grace(tmp_path, model, warning):
    runner = make_runner(tmp_path, Numbers(3), model, epochs=3)
    runner.train()
    found = warnings_of(runner)
    assert warning in found
    assert found.count("collapsing") == (2 if warning else 0)


def test_bfloat16_on_the_cpu():
    from slotcon_plugin.runtime.amp import CpuAmpOptimWrapper

    layer = nn.Linear(4, 4)
    wrapper = CpuAmpOptimWrapper(optimizer=torch.optim.SGD(layer.parameters(), lr=0.1))
    assert isinstance(wrapper, OptimWrapper)
    with wrapper.optim_context(layer):
        out = layer(torch.ones(1, 4))
    assert out.dtype is torch.bfloat16
    before = layer.weight.clone()
    wrapper.update_params(out.float().sum())
    assert layer.weight.dtype is torch.float32
    assert not torch.equal(layer.weight, before)


@pytest.mark.parametrize("named", [True, False], ids=["load_from", "the latest"])
def test_a_resume_under_another_schedule_names_the_checkpoint(tmp_path, named):
    options = {"custom_hooks": [{"type": "ResumeCheckHook"}], "resume": True}
    make_runner(tmp_path, Numbers(4), epochs=1, custom_hooks=options["custom_hooks"]).train()
    if named:
        options["load_from"] = str(tmp_path / "epoch_1.pth")
    with pytest.raises(ConfigError, match="1 epochs were 4 iterations, now they are 6") as error:
        make_runner(tmp_path, Numbers(6), epochs=2, **options).train()
    assert str(error.value).startswith(f"{tmp_path / 'epoch_1.pth'} was trained")
    assert f"load_from={tmp_path / 'epoch_1.pth'} in" in str(error.value)


@pytest.mark.parametrize(
    ("hook", "name", "value"),
    [
        ("LossGuardHook", "patience", 0),
        ("LossGuardHook", "patience", 2.5),
        ("LossGuardHook", "min_feature_std", "small"),
        ("LossGuardHook", "min_prototypes", -1),
        ("LossGuardHook", "grace_epochs", None),
        ("UnreadableImagesHook", "max_unreadable", 5),
        ("UnreadableImagesHook", "interval", 0),
        ("PreciseBNHook", "iterations", 0),
        ("PreciseBNHook", "iterations", "many"),
        ("UnsupervisedSegHook", "interval", 0),
        ("UnsupervisedSegHook", "batch_size", "16"),
        ("UnsupervisedSegHook", "overlays", -1),
        ("UnsupervisedSegHook", "memory", 0.5),
    ],
)
def test_hooks_check_their_arguments(hook, name, value):
    required = {"images": "images", "labels": "labels", "kind": "voc"}
    options = required if hook == "UnsupervisedSegHook" else {}
    with pytest.raises(ValueError, match=f"{name} is {value!r}, expected an? "):
        HOOKS_REGISTRY.build({"type": hook, name: value, **options})
