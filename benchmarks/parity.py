"""Compare the plugin with golden records of the published implementation.

    python benchmarks/parity.py tests/golden/*proc.json

Each record is repeated in float64 on the CPU with the weights and inputs of
tests/golden/recipe.py. Model, optimizer, both schedules and the teacher's update are those of a
training, built from the registry. The largest relative errors are printed; the exit status is 1 if
one is above 1e-6.
"""

import argparse
import json
import sys
from collections import defaultdict
from pathlib import Path

import numpy as np
import torch
from mmengine.registry import OPTIMIZERS, PARAM_SCHEDULERS
from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # runs without installation too

from benchmarks.parity_models import build_model, recipe, record_name
from benchmarks.processes import run_processes
from slotcon_plugin.functional.alignment import ViewGeometry
from slotcon_plugin.functional.grouping import active_slots, slot_mask
from slotcon_plugin.functional.losses import DIRECTIONS

TOLERANCE = 1e-6
ZERO = 1e-9  # relative to the largest norm: tensors below it are zero up to rounding
SMALL = 0.01  # relative to the scale: smaller values are compared with this size instead


def summaries(tensors: dict, seed: int) -> dict:
    """`recipe.summary` of floating-point tensors, under the records' names if they have one."""
    named = {record_name(n): value for n, value in tensors.items() if value.is_floating_point()}
    return {
        name: recipe.summary(name, value.numpy(), seed) for name, value in named.items() if name
    }


def replay(rank: int, config: dict, processes: int) -> dict:
    """Train as the record says. Returns what a record has, of this rank."""
    seed, iters = config["seed"], config["iters_per_epoch"]
    model = build_model(config)
    levels = [watch(level.head) for level in model.levels]
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
        loss = sum(value for name, value in losses.items() if "loss" in name)
        optimizer.zero_grad()
        loss.backward()
        entry = dict(
            lr=optimizer.param_groups[0]["lr"],
            teacher_momentum=momentum,
            loss=loss.item(),
            levels=[dict(level) for level in levels],
        )
        if step == 0:
            grads = {name: p.grad for name, p in model.named_parameters() if p.requires_grad}
            entry["grads"] = summaries(grads, seed)
        result["steps"].append(entry)
        optimizer.step()
        scheduler.step()
    result["final"] = summaries(model.state_dict(), seed)
    return result


def watch(head: nn.Module) -> dict:
    """A dictionary that always has the figures of the head's last step."""
    seen = {}

    def grouped(module, args, out):
        seen["loss_group"] = out.tolist()

    def contrasted(module, args, out):  # after the center has moved
        center = head.group_loss.center
        seen["loss_slot"], seen["active_slots"] = out.tolist(), count_active(*args[:2])
        seen["center"], seen["center_norm"] = center.flatten()[:8].tolist(), center.norm().item()

    head.group_loss.register_forward_hook(grouped)
    head.slot_loss.register_forward_hook(contrasted)
    return seen


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
        pairs = [(mine, step)]
        if "per_rank" in step:
            per_rank = [result["steps"][step["step"]] for result in results]
            pairs += zip(per_rank, step["per_rank"], strict=True)
        for here, there in pairs:
            note("losses", relative_error(here["loss"], there["loss"]))
            # Records without a decoder have the figures of their only level in the step itself.
            for own, known in zip(here["levels"], there.get("levels", [there]), strict=True):
                for name in ("loss_group", "loss_slot"):
                    note("losses", relative_error(own[name], known[name]))
                if "center" in known:
                    scale = known["center_norm"]
                    note("center", relative_error(own["center"], known["center"], scale=scale))
                    note("center", relative_error(own["center_norm"], known["center_norm"]))
                if "active_slots" in known:
                    note("active slots", relative_error(own["active_slots"], known["active_slots"]))
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
