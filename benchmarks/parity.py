"""Compare the plugin with golden records of the published implementation.

    python benchmarks/parity.py tests/golden/*proc.json

Each record is repeated in float64 on the CPU with the weights and inputs of
tests/golden/recipe.py. Model, optimizer, both schedules and the teacher's update are those of a
training, built from the registry. The largest relative errors are printed; the exit status is 1 if
one is above 1e-6.
"""

import argparse
import json
import runpy
import sys
from collections import defaultdict
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from mmengine.registry import MODELS, OPTIMIZERS, PARAM_SCHEDULERS
from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # runs without installation too

import slotcon_plugin  # noqa: F401  (registers the parts)
from benchmarks.processes import ROOT, run_processes
from slotcon_plugin.checkpoints.names import published_name
from slotcon_plugin.functional.alignment import ViewGeometry
from slotcon_plugin.functional.grouping import active_slots, slot_mask
from slotcon_plugin.functional.losses import DIRECTIONS

recipe = SimpleNamespace(**runpy.run_path(str(ROOT / "tests" / "golden" / "recipe.py")))

TOLERANCE = 1e-6
ZERO = 1e-9  # relative to the largest norm: tensors below it are zero up to rounding
SMALL = 0.01  # relative to the scale: smaller values are compared with this size instead


class PatchEncoder(nn.Module):
    """The smallest encoder of the records: one strided convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 512, 8, stride=8, bias=False)
        self.bn1 = nn.BatchNorm2d(512)

    def forward(self, images):
        return (self.bn1(self.conv1(images)).relu(),)


MODELS.register_module(module=PatchEncoder, name="ParityPatchEncoder", force=True)


def build_model(config: dict) -> nn.Module:
    """SlotCon with the record's hyper-parameters and `recipe.weight`'s weights, in float64."""
    if config["encoder"] == "patch":
        backbone, channels = dict(type="ParityPatchEncoder"), 512
    else:
        depth = int(config["encoder"].removeprefix("resnet"))
        backbone = dict(type="TorchvisionResNet", depth=depth)
        channels = 512 if depth < 50 else 2048
    hidden, out = config["dim_hidden"], config["dim_out"]
    model = MODELS.build(
        dict(
            type="SlotCon",
            backbone=backbone,
            neck=dict(
                type="PixelProjector",
                in_channels=channels,
                hidden_channels=hidden,
                out_channels=out,
            ),
            head=dict(
                type="PrototypeHead",
                prototypes=dict(
                    type="Prototypes",
                    num_prototypes=config["num_prototypes"],
                    channels=out,
                    temperature=config["teacher_temp"],
                ),
                group_loss=dict(
                    type="GroupingLoss",
                    student_temperature=config["student_temp"],
                    teacher_temperature=config["teacher_temp"],
                    center_momentum=config["center_momentum"],
                ),
                slot_loss=dict(type="SlotLoss"),
                predictor=dict(type="SlotPredictor", channels=out, hidden_channels=hidden),
                group_loss_weight=config["group_loss_weight"],
            ),
            teacher_momentum=config["teacher_momentum"],
        )
    ).double()
    state = model.state_dict()
    for name, value in state.items():
        if theirs := published_name(name):
            weight = recipe.weight(theirs, tuple(value.shape), config["seed"])
            state[name] = torch.as_tensor(weight, dtype=value.dtype)
    model.load_state_dict(state)
    return model.train()


def summaries(tensors: dict, seed: int) -> dict:
    """`recipe.summary` of floating-point tensors, under their published names if they have one."""
    named = {published_name(n): value for n, value in tensors.items() if value.is_floating_point()}
    return {
        name: recipe.summary(name, value.numpy(), seed) for name, value in named.items() if name
    }


def replay(rank: int, config: dict, processes: int) -> dict:
    """Train as the record says. Returns what a record has, of this rank."""
    seed, iters = config["seed"], config["iters_per_epoch"]
    model = build_model(config)
    watched = {}
    model.head.group_loss.register_forward_hook(
        lambda module, args, out: watched.update(group=out.tolist())
    )
    model.head.slot_loss.register_forward_hook(
        lambda module, args, out: watched.update(slot=out.tolist(), active=count_active(*args[:2]))
    )
    optimizer = OPTIMIZERS.build(
        dict(type="SlotConLARS", lr=config["lr"], weight_decay=config["weight_decay"]),
        default_args=dict(params=[p for p in model.parameters() if p.requires_grad]),
    )
    scheduler = PARAM_SCHEDULERS.build(
        dict(
            type="WarmupCosineLR",
            warmup=config["warmup_epoch"],
            end=config["epochs"],
            by_epoch=True,
            convert_to_iter_based=True,
        ),
        default_args=dict(optimizer=optimizer, epoch_length=iters),
    )
    parallel = nn.parallel.DistributedDataParallel
    run = parallel(model, broadcast_buffers=False) if processes > 1 else model
    result = dict(initial=summaries(model.state_dict(), seed), steps=[])
    for step in range(config["steps"]):
        crops, coords, flags = recipe.batch(seed, step, rank, config["batch"], config["size"])
        geometry = ViewGeometry(torch.tensor(np.stack(coords)), torch.tensor(np.stack(flags)))
        momentum = model.update_teacher(step, config["epochs"] * iters)
        losses = run([torch.as_tensor(c) for c in crops], geometry, mode="loss")
        loss = losses["loss_group"] + losses["loss_slot"]
        optimizer.zero_grad()
        loss.backward()
        center = model.head.group_loss.center
        entry = dict(
            lr=optimizer.param_groups[0]["lr"],
            teacher_momentum=momentum,
            loss=loss.item(),
            loss_group=watched["group"],
            loss_slot=watched["slot"],
            active_slots=watched["active"],
            center=center.flatten()[:8].tolist(),
            center_norm=center.norm().item(),
        )
        if step == 0:
            grads = {name: p.grad for name, p in model.named_parameters() if p.requires_grad}
            entry["grads"] = summaries(grads, seed)
        result["steps"].append(entry)
        optimizer.step()
        scheduler.step()
    result["final"] = summaries(model.state_dict(), seed)
    return result


def count_active(student, teacher) -> list[list[int]]:
    """For each direction: slots active in the student's view, in the teacher's, in both."""
    counts = []
    for s, t in DIRECTIONS:
        seen, known = (
            slot_mask(active_slots(view.scores), view.scores.shape[1])
            for view in (student[s], teacher[t])
        )
        counts.append([int(seen.sum()), int(known.sum()), int((seen & known).sum())])
    return counts


def replay_all(record: dict) -> list[dict]:
    """Replay on as many processes as the record had; one result per rank."""
    processes = record["world_size"]
    if processes == 1:
        return [replay(0, record["config"], 1)]
    return run_processes(replay, processes, record["config"], processes)


def relative_error(ours, theirs, scale: float | None = None) -> float:
    """The largest error of any value, relative to the expected value.

    The error of a value smaller than SMALL times `scale` (default: the largest expected value) is
    relative to SMALL times `scale`. It is infinite if shapes differ or a value is not finite.
    """
    ours, theirs = (np.atleast_1d(np.asarray(values, float)) for values in (ours, theirs))
    if ours.shape != theirs.shape:
        return float("inf")
    scale = np.abs(theirs).max() if scale is None else scale
    if not all(np.isfinite(values).all() for values in (ours, theirs, scale)):
        return float("inf")
    sizes = np.maximum(np.abs(theirs), max(SMALL * scale, 1e-30))
    return float((np.abs(ours - theirs) / sizes).max())


def summary_error(ours: dict, theirs: dict) -> float:
    """The largest error of named summaries, on the scale of each tensor's norm.

    Tensors that are zero up to rounding are compared on the scale of the largest norm.
    """
    if set(ours) != set(theirs):
        raise SystemExit(f"Names differ from the record's: {sorted(set(ours) ^ set(theirs))}")
    largest = max(norm for norm, *_ in theirs.values())
    floor = ZERO * largest
    scales = {name: norm if norm > floor else largest for name, (norm, *_) in theirs.items()}
    return max(relative_error(ours[name], theirs[name], scales[name]) for name in theirs)


def errors(record: dict, results: list[dict]) -> dict[str, float]:
    """The largest relative error of each kind of value in a record."""
    worst: dict[str, float] = defaultdict(float)

    def note(kind: str, error: float) -> None:
        worst[kind] = max(worst[kind], error)

    ours = results[0]
    for mine, step in zip(ours["steps"], record["steps"], strict=True):
        note("learning rate", relative_error(mine["lr"], step["lr"]))
        note("teacher momentum", relative_error(mine["teacher_momentum"], step["teacher_momentum"]))
        note("center", relative_error(mine["center"], step["center"], scale=step["center_norm"]))
        note("center", relative_error(mine["center_norm"], step["center_norm"]))
        pairs = [(mine, step)]
        if "per_rank" in step:
            per_rank = [result["steps"][step["step"]] for result in results]
            pairs += zip(per_rank, step["per_rank"], strict=True)
        for here, there in pairs:
            for name in ("loss", "loss_group", "loss_slot"):
                note("losses", relative_error(here[name], there[name]))
            note("active slots", relative_error(here["active_slots"], there["active_slots"]))
    note("gradients", summary_error(ours["steps"][0]["grads"], record["steps"][0]["grads"]))
    note("initial weights", summary_error(ours["initial"], record["initial"]))
    note("final weights", summary_error(ours["final"], record["final"]))
    return dict(worst)


def main(argv: list[str] | None = None) -> int:
    """Compare every record. Returns the exit status."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("records", nargs="+", type=Path, metavar="RECORD.json")
    failed = False
    for path in parser.parse_args(argv).records:
        record = json.loads(path.read_text())
        worst = errors(record, replay_all(record))
        config = record["config"]
        print(
            f"{path}: {config['encoder']}, K = {config['num_prototypes']}, "
            f"{config['steps']} steps, {record['world_size']} process(es)"
        )
        for kind, error in worst.items():
            print(f"  {kind:<18} {error:.1e}{'' if error <= TOLERANCE else '   above 1e-6'}")
        failed |= max(worst.values()) > TOLERANCE
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
