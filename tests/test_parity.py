"""benchmarks/parity.py: the published records pass, any wrong value fails, other settings work."""

import copy
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from tiny_model import gradients

from benchmarks import parity
from benchmarks.parity import recipe
from benchmarks.plain_model import plain_losses
from benchmarks.processes import ROOT
from slotcon_plugin import reference as plain
from slotcon_plugin.functional.alignment import ViewGeometry
from slotcon_plugin.functional.schedules import learning_rate, teacher_momentum

GOLDEN = Path(__file__).parent / "golden"
RECORDS = sorted(GOLDEN.glob("*_?proc.json"))


def test_the_published_records_pass(capsys):
    assert len(RECORDS) == 6
    assert parity.main([str(record) for record in RECORDS]) == 0
    printed = capsys.readouterr().out
    for record in RECORDS:
        assert f"{record}: " in printed
    kinds = ("learning rate", "momentum", "center", "losses", "gradients", "final weights")
    assert all(printed.count(kind) == 6 for kind in kinds)
    assert "above" not in printed


@pytest.fixture(scope="module")
def short():
    """A correct record of two steps, and our results of them."""
    record = json.loads((GOLDEN / "patch_1proc.json").read_text())
    record["config"]["steps"] = 2
    record["steps"] = record["steps"][:2]
    results = parity.replay_all(record)
    record["final"] = copy.deepcopy(results[0]["final"])
    return record, results


def values(node, path=()):
    """Paths to all numbers of a record."""
    if isinstance(node, dict | list):
        children = node.items() if isinstance(node, dict) else enumerate(node)
        for key, child in children:
            yield from values(child, (*path, key))
    else:
        yield path


def with_value(record, path, change):
    changed = copy.deepcopy(record)
    *parents, last = path
    node = changed
    for key in parents:
        node = node[key]
    node[last] = change(node[last])
    return changed


def test_any_value_with_an_error_of_a_ten_thousandth_fails(short):
    """Except values that are zero up to rounding, relative to their tensor."""
    record, results = short
    assert max(parity.errors(record, results).values()) < 1e-9
    missed, tried = [], 0
    for part in ("initial", "steps", "final"):
        for path in values(record[part], (part,)):
            if path[-1] == "step":
                continue
            tried += 1
            changed = with_value(record, path, lambda value: value * (1 + 1e-4) or 1e-4)
            if max(parity.errors(changed, results).values()) <= parity.TOLERANCE:
                missed.append(path)
    assert tried > 300
    for path in missed:
        summary = record
        for key in path[:-1]:
            summary = summary[key]
        norm, value = summary[0], summary[path[-1]]
        assert norm < 1e-9 or abs(value) < 2e-4 * norm, path
    assert len(missed) < tried / 10


@pytest.mark.parametrize("wrong", [float("nan"), float("inf")])
def test_a_value_that_is_not_finite_fails(short, wrong):
    record, results = short
    for path in values(record["steps"][0], ("steps", 0)):
        if path[-1] != "step":
            changed = with_value(record, path, lambda value: wrong)
            assert max(parity.errors(changed, results).values()) > parity.TOLERANCE, path
    ours = copy.deepcopy(results)
    ours[0]["final"]["projector_q.mlp.6.weight"][0] = wrong
    assert max(parity.errors(record, ours).values()) > parity.TOLERANCE


def test_a_missing_or_an_unknown_name_fails(short):
    record, results = short
    for change in (
        lambda names: names.pop("center"),
        lambda names: names.update(other=[1, 1, 1, 1]),
    ):
        changed = copy.deepcopy(record)
        change(changed["final"])
        with pytest.raises(SystemExit, match="Names differ"):
            parity.errors(changed, results)


def test_the_exit_status_of_the_program(short, tmp_path):
    """Started in another folder, as the package and the records are found from the program's."""
    record, _ = short
    good, bad = tmp_path / "good.json", tmp_path / "bad.json"
    good.write_text(json.dumps(record))
    path = ("steps", 1, "loss_slot", 0)
    bad.write_text(json.dumps(with_value(record, path, lambda value: value * (1 + 1e-4))))
    done = subprocess.run(
        [sys.executable, ROOT / "benchmarks" / "parity.py", good, bad],
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert done.returncode == 1, done.stderr
    good_lines, bad_lines = done.stdout.split(str(bad))
    assert "above 1e-6" not in good_lines
    assert bad_lines.count("above 1e-6") == 1


# ---- a record of the reference ------------------------------------------------------------------

OTHER = dict(seed=77, encoder="patch", dim_hidden=24, dim_out=20, num_prototypes=50)
OTHER |= dict(batch=2, size=64, steps=3, iters_per_epoch=2, epochs=3, warmup_epoch=1, lr=0.8)
OTHER |= dict(group_loss_weight=0.3, teacher_momentum=0.9, center_momentum=0.7)
OTHER |= dict(student_temp=0.2, teacher_temp=0.05, weight_decay=1e-3)


def batch_of(config, step, rank):
    views, boxes, flips = recipe.batch(config["seed"], step, rank, config["batch"], config["size"])
    tensors = ([torch.tensor(part) for part in parts] for parts in (views, boxes, flips))
    views, boxes, flips = tensors
    return views, ViewGeometry(torch.stack(boxes), torch.stack(flips))


def count_active(model, views):
    """For each direction: slots of the student's view, of the teacher's, and of both."""
    probe = copy.deepcopy(model)
    student = [plain.active_slots(probe.group(view)[0].scores) for view in views]
    teacher = [plain.active_slots(probe.teacher(view)[0].scores) for view in views]
    return [
        [len(student[s]), len(teacher[t]), len(student[s] & teacher[t])]
        for s, t in plain.DIRECTIONS
    ]


def plain_record(config, processes):
    """A record in the format of `golden`, from the reference on one process."""
    seed, iters = config["seed"], config["iters_per_epoch"]
    total = config["epochs"] * iters
    model = parity.build_model(config)
    model.expect_teacher_moves()
    params = [p for p in model.parameters() if p.requires_grad]
    buffers = [torch.zeros_like(p) for p in params]
    students = [p for part in model.student for p in part.parameters()]
    statistics = {n: b for n, b in model.named_buffers() if n.split(".")[-1].startswith("running")}
    record = dict(config=config, world_size=processes, steps=[])
    record["initial"] = parity.summaries(model.state_dict(), seed)
    for step in range(config["steps"]):
        lr = learning_rate(step, total, config["warmup_epoch"] * iters, config["lr"])
        momentum = teacher_momentum(step, total, config["teacher_momentum"])
        plain.move_teacher(list(model.teacher.parameters()), students, momentum)
        batches = [batch_of(config, step, rank) for rank in range(processes)]
        actives = [count_active(model, views) for views, _ in batches]

        alone = copy.deepcopy(model)
        plain_losses(alone, batches[:1])
        losses, center = plain_losses(model, batches)
        model.zero_grad()
        (sum(process.total for process in losses) / processes).backward()
        model.head.group_loss.center.copy_(center)
        for name, value in alone.named_buffers():
            if name in statistics:  # rank 0's statistics, of its own batches
                statistics[name].copy_(value)
        per_rank = [
            dict(
                loss=process.total.item(),
                loss_group=process.group.tolist(),
                loss_slot=process.slot.tolist(),
                active_slots=active,
            )
            for process, active in zip(losses, actives, strict=True)
        ]
        entry = dict(
            step=step,
            lr=lr,
            teacher_momentum=momentum,
            center=center.flatten()[:8].tolist(),
            center_norm=center.norm().item(),
            **per_rank[0],
        )
        if processes > 1:
            entry["per_rank"] = per_rank
        if step == 0:
            entry["grads"] = parity.summaries(gradients(model), seed)
        record["steps"].append(entry)
        plain.lars_step(params, buffers, lr, weight_decay=config["weight_decay"])
    record["final"] = parity.summaries(model.state_dict(), seed)
    return record


@pytest.mark.parametrize("processes", [1, 2])
def test_a_record_with_other_settings_passes(processes):
    record = plain_record(OTHER, processes)
    assert all(min(step["active_slots"][0]) > 2 for step in record["steps"])
    results = parity.replay_all(json.loads(json.dumps(record)))
    assert len(results) == processes
    worst = parity.errors(record, results)
    assert max(worst.values()) < 1e-8, worst


def test_every_setting_changes_the_results():
    """Each hyper-parameter is used: with another value the results no longer agree."""
    config = OTHER | dict(steps=2, iters_per_epoch=1, warmup_epoch=1)
    record = plain_record(config, 1)
    assert max(parity.errors(record, parity.replay_all(record)).values()) < 1e-8
    for name in (
        "seed",
        "num_prototypes",
        "group_loss_weight",
        "teacher_momentum",
        "student_temp",
        "teacher_temp",
        "center_momentum",
        "weight_decay",
        "lr",
        "epochs",
        "warmup_epoch",
    ):
        value = config[name]
        other = value + 1 if isinstance(value, int) else value * 0.9
        results = parity.replay_all(dict(record, config=config | {name: other}))
        try:
            assert max(parity.errors(record, results).values()) > parity.TOLERANCE, name
        except SystemExit:
            raise AssertionError(f"{name} changed the names") from None


def test_a_resnet50_record_is_built_with_the_published_names():
    config = OTHER | dict(encoder="resnet50", dim_hidden=8, dim_out=8, num_prototypes=4)
    state = parity.build_model(config).state_dict()
    names = {parity.record_name(name) for name in state} - {None}
    published = json.loads((GOLDEN / "checkpoint_keys_r50_coco.json").read_text())
    assert names == {name.removeprefix("module.") for name in published}
    name = "encoder_k.layer4.2.conv3.weight"
    expected = torch.tensor(recipe.weight(name, (2048, 512, 1, 1), config["seed"]))
    assert torch.equal(state["teacher.backbone.layer4.2.conv3.weight"], expected)
