"""What of an optimizer's and a schedule's state goes over between the published code and ours.

Both LARS are the same update with the same buffer, both schedules the same function of the
iteration (benchmarks/parity.py holds them to each other), and both count iterations: so momentum,
iteration and loss scale are exact. Logs, and the state of random numbers, are not in either.
"""

from collections import OrderedDict

from ..errors import CheckpointError
from .literals import lookup
from .name_tables import PUBLISHED, published_name
from .renaming import rename, reverse

# LARS' options and buffer: ours, the published code's.
GROUP = (
    ("lr", "lr"),
    ("momentum", "momentum"),
    ("weight_decay", "weight_decay"),
    ("trust_coefficient", "eta"),
    ("initial_lr", "initial_lr"),
)
FILTERS = ("weight_decay_filter", "lars_adaptation_filter")  # the published LARS ignores them
BUFFER = (("momentum_buffer", "mu"),)
_BUFFERS = ("running_mean", "running_var", "num_batches_tracked", "center")


def parameters_of(names: list[str]) -> list[str]:
    """The names of a state dict that are parameters: an optimizer numbers these."""
    return [name for name in names if name.rpartition(".")[2] not in _BUFFERS]


def to_ours(
    content: dict, published: list[str], ours: list[str], source: str
) -> tuple[dict, dict, list[str]]:
    """The training state of a published checkpoint as MMEngine keeps it.

    Args:
        content: the published checkpoint.
        published: the names of its weights, without `module.`, in their order.
        ours: the names of our model's parameters, in their order.
        source: the file, for messages.

    Returns:
        Entries of our checkpoint; what has to be kept to find the way back; remarks.
    """
    meta = {"epoch": content.get("epoch") or 0}
    kept = {name: content[name] for name in ("scheduler",) if name in content}
    step = lookup(content, "scheduler.last_epoch")  # stepped once an iteration
    if not isinstance(step, int) or "optimizer" not in content:
        lacking = "optimizer" if "optimizer" not in content else "scheduler"
        return (
            {"meta": meta},
            kept,
            [f"not there: {lacking}; --resume needs it, load_from does not"],
        )
    meta["iter"] = step
    names = rename({n: n for n in parameters_of(published)}, reverse(PUBLISHED), (), source).used
    theirs = {name: i for i, name in enumerate(parameters_of(published))}
    places = {theirs[names[name]]: i for i, name in enumerate(ours)}
    kept["param_groups"] = [
        {name: group.get(name) for name in FILTERS if name in group}
        for group in content["optimizer"]["param_groups"]
    ]
    try:
        optimizer = _renumbered(content["optimizer"], places, reverse(GROUP), reverse(BUFFER))
        schedule = _our_schedule(content["scheduler"], step)
    except CheckpointError as error:
        return {"meta": meta}, kept, [f"dropped: optimizer, which is not the paper's LARS. {error}"]
    except KeyError as error:
        return {"meta": meta}, kept, [f"dropped: optimizer; its schedule has no {error}"]
    remarks = [f"came over: momentum, epoch {meta['epoch']}, iteration {step}, learning rate"]
    if "scaler" in content:
        optimizer["loss_scaler"] = content["scaler"]
        remarks.append("came over: the loss scale of mixed precision")
    entries = {
        "meta": meta,
        "message_hub": {
            "log_scalars": OrderedDict(),
            "runtime_info": OrderedDict(),
            "resumed_keys": OrderedDict(),
        },
        "optimizer": optimizer,
        "param_schedulers": [schedule],
    }
    return entries, kept, remarks


def to_published(
    content: dict, ours: list[str], published: list[str]
) -> tuple[dict, tuple[str, ...]]:
    """The training state of a checkpoint of ours as the published code keeps it; remarks.

    Args:
        content: our checkpoint.
        ours: the names of our model's parameters, in their order.
        published: the names of the published weights, without `module.`, in their order.
    """
    entries: dict = {}
    remarks = []
    theirs = {name: i for i, name in enumerate(parameters_of(published))}
    places = {i: theirs[published_name(name)] for i, name in enumerate(ours)}
    optimizer = content.get("optimizer")
    if optimizer is not None:
        optimizer = {**optimizer}
        scaler = optimizer.pop("loss_scaler", None)
        optimizer.pop("base_param_settings", None)  # MMEngine's note for options by parameter
        try:
            entries["optimizer"] = _renumbered(optimizer, places, GROUP, BUFFER)
        except CheckpointError as error:
            remarks.append(f"dropped: optimizer, which is not the paper's LARS. {error}")
        else:
            notes = lookup(content, "meta.published.param_groups")
            for i, group in enumerate(entries["optimizer"]["param_groups"]):
                group |= notes[i] if notes else dict.fromkeys(FILTERS)
        if scaler is not None:
            entries["scaler"] = scaler
    schedulers = content.get("param_schedulers") or [{}]
    scheduler = lookup(content, "meta.published.scheduler") or _published_schedule(
        schedulers[0], lookup(content, "meta.iter")
    )
    if scheduler is None:
        remarks.append("dropped: scheduler, which is not the paper's; their --resume needs it")
    else:
        entries["scheduler"] = scheduler
    if (epoch := lookup(content, "meta.epoch")) is not None:
        entries["epoch"] = epoch
    if lookup(content, "message_hub.log_scalars"):
        remarks.append("dropped: message_hub (the log's history)")
    return entries, tuple(remarks)


def _renumbered(state: dict, places: dict[int, int], group_names, buffer_names) -> dict:
    """An optimizer's state with parameters numbered anew and options renamed.

    Raises:
        CheckpointError: options, buffers or numbers that the other side does not have.
    """
    groups = []
    for group in state["param_groups"]:
        numbers = group["params"]
        if set(numbers) - places.keys():
            raise CheckpointError(f"It numbers {len(numbers)} parameters of {len(places)}.")
        options = {name: value for name, value in group.items() if name != "params"}
        renamed = rename(options, group_names, FILTERS, "The optimizer").values
        groups.append({**renamed, "params": sorted(places[i] for i in numbers)})
    buffers = {
        places[i]: rename(entry, buffer_names, (), "The optimizer").values
        for i, entry in state["state"].items()
    }
    return {"state": dict(sorted(buffers.items())), "param_groups": groups}


def _our_schedule(scheduler: dict, step: int) -> dict:
    """Our WarmupCosineLR after `step` iterations; --resume compares the curve with the config's."""
    cosine = scheduler.get("after_scheduler") or scheduler
    warmup = scheduler.get("warmup_epoch", 0)  # in iterations, whatever its name
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
    """The published warm-up and cosine after `step` iterations; None of another schedule."""
    if step is None or not {"warmup", "final", "start_divisor", "end"} <= ours.keys():
        return None
    shared = {"base_lrs": ours["base_values"], "_last_lr": ours["_last_value"]}
    after = max(step - ours["warmup"], 0)
    cosine = {
        "T_max": ours["end"] - ours["warmup"],
        "eta_min": ours["final"],
        "last_epoch": after,
        "_step_count": after + 1,
    }
    return {
        "multiplier": ours["start_divisor"],
        "warmup_epoch": ours["warmup"],
        "finished": False,
        "last_epoch": step,
        "_step_count": step + 1,
        **shared,
        "after_scheduler": {**cosine, **shared},
    }
