"""How a training that is resumed differs from the run that wrote the checkpoint."""

import os
import re
from math import prod
from typing import Any, NamedTuple

from mmengine.config import Config
from mmengine.dist import get_world_size

from ..runtime.config_leaves import LOADING, leaves
from ..runtime.process_agreement import digest
from ..runtime.text_formats import short_number
from .metadata import lookup, read_config, read_literals

MOST_NAMES = 1000  # file names in the digest of a dataset
# Entries that depend on the machine or the start; the seed is compared by itself.
FREE = re.compile(
    rf"{LOADING}|work_dir|load_from|resume|launcher|experiment_name|randomness\.seed|sync_bn"
    r"|(model_wrapper_cfg|auto_scale_lr)\b.*|(default|custom)_hooks\..*\.(source|allow_changes)"
)
# Entries of which the checkpoint has the values that count.
OPTIMIZER = re.compile(r"optim_wrapper\.(optimizer|paramwise_cfg)\..*")
# Entries that say where the images are.
SOURCE = re.compile(r"train_dataloader\.dataset\.(source|list_root|backend_args)\b.*")
# Entries that change the result, except those after (?!.
RESULT = re.compile(
    r"model\.(?!compile|channels_last|.*(init_cfg|with_cp)).*"
    r"|train_dataloader\.(?!batch_size).*|train_cfg\.type"
    r"|optim_wrapper\.(?!type|dtype|loss_scale|use_fsdp|accumulative_counts).*"
)


class RunChanges(NamedTuple):
    """Changes, a line each."""

    optimizer: list[str]  # without an effect: the checkpoint's values are used
    result: list[str]  # of what is trained, on which images, in which batches
    others: list[str]


def describe_run(dataset: Any) -> dict[str, Any]:
    """What a training depends on besides its config; stored in `meta.run` of its checkpoints."""
    count = len(dataset)
    names = [_file_name(dataset, i) for i in range(0, count, max(1, count // MOST_NAMES))]
    sign = digest(os.fsencode(name) for name in names)
    return dict(processes=get_world_size(), images=count, names=sign)


def _file_name(dataset: Any, index: int) -> str:
    """The name of an image's file, without its folder or archive, which can differ."""
    path = ""
    if hasattr(dataset, "paths"):  # UnlabeledImages
        path = dataset.paths[index]
    elif hasattr(dataset, "get_data_info"):  # of MMEngine
        path = str(dataset.get_data_info(index).get("img_path", ""))
    return os.path.basename(path)


def find_changes(checkpoint: dict, cfg: Config, run: dict[str, Any]) -> RunChanges:
    """Compare a checkpoint's run with the present one.

    What the checkpoint does not contain is not compared.

    Args:
        checkpoint: with the keys of MMEngine.
        cfg: the present config.
        run: of `describe_run`.
    """
    found = RunChanges([], [], [])
    before, now = read_config(checkpoint), read_literals(cfg.pretty_text)
    old, new = ({k: short_number(v) for k, v in leaves(c) if v != {}} for c in (before, now))
    is_converted = lookup(checkpoint, "meta.published") is not None  # its config is a part
    keys = old.keys() & new.keys() if is_converted else old.keys() | new.keys()
    for key in sorted(keys) if before else ():
        if old.get(key) != new.get(key) and not FREE.fullmatch(key):
            _list_of(found, key, old.get(key), new.get(key)).append(
                f"{key} was {_short(old.get(key))}, now {_short(new.get(key))}"
            )
    noted = lookup(checkpoint, "meta.run")
    noted = noted if isinstance(noted, dict) else {}
    saved = run | noted
    if saved["images"] != run["images"]:
        found.result.append(
            f"the number of images was {_short(saved['images'])}, now {run['images']}"
        )
    elif saved["names"] != run["names"]:
        found.result.append(f"the {run['images']} images have other file names")
    if saved["processes"] != run["processes"]:
        found.others.append(f"processes was {_short(saved['processes'])}, now {run['processes']}")
    batches = [_global_batch(before, noted), _global_batch(now, run)]
    if None not in batches and batches[0] != batches[1]:
        found.result.append(f"the global batch was {batches[0]}, now {batches[1]}")
    return found


def _list_of(found: RunChanges, key: str, old: object, new: object) -> list[str]:
    if OPTIMIZER.fullmatch(key):
        return found.optimizer
    is_path = key.startswith("train_dataloader.dataset.") and not key.endswith(".type")
    # The same images can be in another folder, or in an archive; their names are compared.
    if SOURCE.fullmatch(key) or (is_path and isinstance(old, str) and isinstance(new, str)):
        return found.others
    return found.result if RESULT.fullmatch(key) else found.others


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}…"


def _global_batch(config: dict, run: dict) -> int | None:
    """Images per optimizer step; None if an entry is missing or no whole number."""
    batch = lookup(config, "train_dataloader.batch_size")
    accumulated = lookup(config, "optim_wrapper.accumulative_counts") or 1
    factors = batch, run.get("processes"), accumulated
    return prod(factors) if all(type(factor) is int for factor in factors) else None
