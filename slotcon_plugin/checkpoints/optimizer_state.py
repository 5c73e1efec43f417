"""Converts the state of optimizer and schedule between the published code and ours.

Both LARS are the same update with the same buffer, both schedules the same function of the
iteration (benchmarks/parity.py compares them), so momentum, iteration and loss scale are exact.
Logs are not converted, and neither format stores the state of random number generators.
"""

from collections import OrderedDict

from ..errors import CheckpointError
from .metadata import lookup
from .names import Pairs, published_name, rename, reverse

# Options and buffer of LARS: ours, the published code's.
OPTIONS = (
    ("lr", "lr"),
    ("momentum", "momentum"),
    ("weight_decay", "weight_decay"),
    ("trust_coefficient", "eta"),
    ("initial_lr", "initial_lr"),
)
BUFFER = (("momentum_buffer", "mu"),)
FILTERS = ("weight_decay_filter", "lars_adaptation_filter")  # the published LARS ignores them

_BUFFERS = ("running_mean", "running_var", "num_batches_tracked", "center")


def to_ours(content: dict, published: list[str], ours: list[str]) -> tuple[dict, list[str]]:
    """The training state of a published checkpoint as MMEngine stores it; remarks.

    What `to_published` needs to restore the published one is kept in `meta.published`.

    Args:
        content: the published checkpoint.
        published: the names of its weights, without `module.`, in their order.
        ours: the names of our model's parameters, in their order.
    """
    kept = {"scheduler": content["scheduler"]} if "scheduler" in content else {}
    meta = {"epoch": content.get("epoch") or 0, "published": kept}
    groups = lookup(content, "optimizer.param_groups")
    step = lookup(content, "scheduler.last_epoch")  # counts iterations
    if groups is None or not isinstance(step, int):
        missing = "optimizer" if groups is None else "scheduler"
        return {"meta": meta}, [f"missing: {missing} (--resume needs it, load_from does not)"]
    meta["iter"] = step
    kept["param_groups"] = [{k: group[k] for k in FILTERS if k in group} for group in groups]
    positions = {theirs: i for i, theirs in _positions(ours, published).items()}
    try:
        optimizer = _convert(content["optimizer"], positions, reverse(OPTIONS), reverse(BUFFER))
        schedule = _our_schedule(content["scheduler"], step)
    except CheckpointError as error:
        return {"meta": meta}, [f"dropped: optimizer, which is not the paper's LARS. {error}"]
    except KeyError as error:
        return {"meta": meta}, [f"dropped: optimizer, since its schedule lacks {error}"]
    remarks = [f"converted: momentum, epoch {meta['epoch']}, iteration {step}, learning rate"]
    if "scaler" in content:
        optimizer["loss_scaler"] = content["scaler"]
        remarks.append("converted: the loss scale of mixed precision")
    logs = {name: OrderedDict() for name in ("log_scalars", "runtime_info", "resumed_keys")}
    entries = {"meta": meta, "message_hub": logs, "optimizer": optimizer}
    return {**entries, "param_schedulers": [schedule]}, remarks


def to_published(content: dict, published: list[str], ours: list[str]) -> tuple[dict, list[str]]:
    """The inverse of `to_ours`: our training state as the published code stores it; remarks."""
    entries: dict = {}
    remarks = []
    kept = lookup(content, "meta.published") or {}
    if content.get("optimizer") is not None:
        optimizer = {**content["optimizer"]}
        if (scaler := optimizer.pop("loss_scaler", None)) is not None:
            entries["scaler"] = scaler
        optimizer.pop("base_param_settings", None)  # MMEngine's record of options per parameter
        try:
            optimizer = _convert(optimizer, _positions(ours, published), OPTIONS, BUFFER)
        except CheckpointError as error:
            remarks.append(f"dropped: optimizer, which is not the paper's LARS. {error}")
        else:
            filters = lookup(kept, "param_groups")
            for i, group in enumerate(optimizer["param_groups"]):
                group |= filters[i] if filters else dict.fromkeys(FILTERS)
            entries["optimizer"] = optimizer
    scheduler = lookup(kept, "scheduler")
    if scheduler is None:
        schedules = content.get("param_schedulers") or [{}]
        scheduler = _published_schedule(schedules[0], lookup(content, "meta.iter"))
    if scheduler is None:
        remarks.append("dropped: scheduler, which is not the paper's (their --resume needs it)")
    else:
        entries["scheduler"] = scheduler
    if (epoch := lookup(content, "meta.epoch")) is not None:
        entries["epoch"] = epoch
    if lookup(content, "message_hub.log_scalars"):
        remarks.append("dropped: message_hub (the history of the log)")
    return entries, remarks


def _positions(ours: list[str], published: list[str]) -> dict[int, int]:
    """An optimizer's number of each parameter: ours -> the published code's."""
    parameters = [name for name in published if name.rpartition(".")[2] not in _BUFFERS]
    numbers = {name: i for i, name in enumerate(parameters)}
    return {i: numbers[published_name(name)] for i, name in enumerate(ours)}


def _convert(state: dict, positions: dict[int, int], options: Pairs, buffer: Pairs) -> dict:
    """An optimizer's state with other numbers of parameters and other names of options."""
    groups = []
    for group in state["param_groups"]:
        numbers = group["params"]
        if set(numbers) - positions.keys():
            raise CheckpointError(f"It has {len(numbers)} parameters instead of {len(positions)}.")
        values = {name: value for name, value in group.items() if name != "params"}
        renamed = rename(values, options, FILTERS, "The optimizer").values
        groups.append({**renamed, "params": sorted(positions[i] for i in numbers)})
    buffers = {
        positions[i]: rename(entry, buffer, (), "The optimizer").values
        for i, entry in state["state"].items()
    }
    return {"state": dict(sorted(buffers.items())), "param_groups": groups}


def _our_schedule(scheduler: dict, step: int) -> dict:
    """Our WarmupCosineLR after `step` iterations; --resume compares it with the config."""
    cosine = scheduler.get("after_scheduler") or scheduler
    warmup = scheduler.get("warmup_epoch", 0)  # in iterations, despite its name
    end = warmup + cosine["T_max"]
    return {
        "warmup": warmup,
        "final": cosine["eta_min"],
        "start_divisor": scheduler.get("multiplier", 100),
        "end": end,
        "base_values": scheduler["base_lrs"],
        "last_step": min(step, end - 1),
        "_global_step": step,
        "_last_value": scheduler["_last_lr"],
    }


def _published_schedule(ours: dict, step: int | None) -> dict | None:
    """The published warm-up and cosine after `step` iterations; None for another schedule."""
    if step is None or not {"warmup", "final", "start_divisor", "end"} <= ours.keys():
        return None
    rates = {"base_lrs": ours["base_values"], "_last_lr": ours["_last_value"]}
    after = max(step - ours["warmup"], 0)
    return {
        "multiplier": ours["start_divisor"],
        "warmup_epoch": ours["warmup"],
        "finished": False,
        "last_epoch": step,
        "_step_count": step + 1,
        **rates,
        "after_scheduler": {
            "T_max": ours["end"] - ours["warmup"],
            "eta_min": ours["final"],
            "last_epoch": after,
            "_step_count": after + 1,
            **rates,
        },
    }
