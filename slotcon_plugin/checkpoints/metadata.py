"""The metadata of exported weights: architecture, normalization of the images, training."""

import argparse
import ast
import json
from contextlib import suppress
from typing import Any

from ..datasets.data_preprocessor import check_statistics
from ..datasets.photometric import IMAGENET_MEAN, IMAGENET_STD
from ..errors import CheckpointError
from ..runtime.environment import collect_versions
from ..runtime.text_formats import short_number
from .architecture import CONTRACTED, STAGES, Architecture
from .left_out import describe as describe_left_out
from .left_out import read_record

MEASURED = "encoder"  # in a checkpoint's meta: strides and dilations, or the `problem`
PARTS = ("architecture", "pixels", "origin", "training", "versions")
NORMALIZATION = [f"pixels.{name}_{scale}" for name in ("mean", "std") for scale in ("0_1", "0_255")]

# Key of the training metadata -> path in a config of this package.
CONFIG_PATHS = {
    "optimizer": "optim_wrapper.optimizer.type",
    "lr": "optim_wrapper.optimizer.lr",
    "weight_decay": "optim_wrapper.optimizer.weight_decay",
    "precision": "optim_wrapper.dtype",
    "epochs_planned": "train_cfg.max_epochs",
    "batch_per_process": "train_dataloader.batch_size",
    "accumulation": "optim_wrapper.accumulative_counts",
    "images": "train_dataloader.dataset.preset",
    "view_size": "train_dataloader.dataset.views.size",
    "prototypes": "model.head.prototypes.num_prototypes",
}

# Key of the training metadata -> option in the command line that published checkpoints contain.
PUBLISHED_OPTIONS = {
    "optimizer": "optimizer",
    "base_lr_per_256": "base_lr",
    "weight_decay": "weight_decay",
    "epochs_planned": "epochs",
    "batch_per_process": "batch_size",
    "processes": "world_size",
    "images": "dataset",
    "view_size": "image_size",
    "prototypes": "num_prototypes",
    "seed": "seed",
}


class _DictCalls(ast.NodeTransformer):
    """Replaces `dict(a=1)`, as MMEngine writes it, by `{'a': 1}`."""

    def visit_Call(self, node: ast.Call) -> ast.AST:
        self.generic_visit(node)
        names = [ast.Constant(item.arg) for item in node.keywords]
        is_dict = isinstance(node.func, ast.Name) and node.func.id == "dict" and not node.args
        if is_dict and all(item.arg for item in node.keywords):
            return ast.Dict(names, [item.value for item in node.keywords])
        return node


def read_literals(program: str) -> dict[str, Any]:
    """Read a config without running it: the assignments whose values are literals or `dict(...)`.

    MMEngine stores a config as the text of a Python program, and a checkpoint from elsewhere can
    contain any program there. The result is empty for a text that is not Python or longer than a
    million characters.
    """
    if len(program) > 1_000_000:
        return {}
    try:
        statements = ast.parse(program).body
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        return {}
    found = {}
    for statement in statements:
        if isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Name):
            with suppress(ValueError, TypeError, RecursionError):  # not a literal
                value = ast.literal_eval(_DictCalls().visit(statement.value))
                found[statement.targets[0].id] = value
    return found


def lookup(values: Any, path: str) -> Any:
    """`lookup(cfg, "model.backbone.depth")`, or None if there is no such entry."""
    for part in path.split("."):
        if not isinstance(values, dict) or part not in values:
            return None
        values = values[part]
    return values


def read_config(content: dict) -> dict:
    """The literals of the config in a checkpoint of this package."""
    text = lookup(content, "meta.cfg")
    return read_literals(text) if isinstance(text, str) else {}


def read_options(content: dict) -> dict:
    """The command line in a published checkpoint, or in one converted from it; {} if none."""
    args = lookup(content, "meta.published.args") or content.get("args")
    options = vars(args) if isinstance(args, argparse.Namespace) else args or {}
    if not isinstance(options, dict) or not all(isinstance(name, str) for name in options):
        raise CheckpointError(
            f"The checkpoint's `args` are a {type(args).__name__}, expected the options by name."
        )
    return options


def describe_training(content: dict) -> dict[str, Any]:
    """How the weights of a full checkpoint, ours or a published one, were trained."""
    options, config = read_options(content), read_config(content)
    found = {key: options.get(name) for key, name in PUBLISHED_OPTIONS.items()}
    found |= {key: value for key, path in CONFIG_PATHS.items() if (value := lookup(config, path))}
    meta = content.get("meta") or content
    found |= {key: meta.get(key) for key in ("epoch", "iter", "seed") if meta.get(key)}
    if isinstance(experiment := meta.get("experiment_name"), str):
        found["config"] = experiment.rsplit("_", 2)[0]  # MMEngine appends date and time
    if left_out := read_record(meta, "the checkpoint"):
        found["not_loaded"] = "; ".join(describe_left_out(left_out))
    plain = {k: short_number(v) for k, v in found.items() if isinstance(v, str | int | float)}
    method = lookup(config, "model.type")
    return {"method": method.rpartition(".")[2] if isinstance(method, str) else "SlotCon", **plain}


def in_unit_range(config: dict) -> dict:
    """A config, with mean and std of a detector's preprocessor, for 0-255, divided by 255."""
    pixels = lookup(config, "model.data_preprocessor")
    mean, std = (lookup(pixels, name) for name in ("mean", "std"))
    if not (_are_three_numbers(mean) and _are_three_numbers(std)) or max(mean) <= 1:
        return config
    scaled = {"mean": [v / 255 for v in mean], "std": [v / 255 for v in std]}
    return {**config, "model": {**config["model"], "data_preprocessor": {**pixels, **scaled}}}


def describe_pixels(config: dict) -> dict[str, Any]:
    """Channel order, mean and std of the encoder's input, for pixels of 0-1 and of 0-255."""
    mean = lookup(config, "model.data_preprocessor.mean") or IMAGENET_MEAN
    std = lookup(config, "model.data_preprocessor.std") or IMAGENET_STD
    try:
        check_statistics(mean, std)
    except ValueError as error:
        raise CheckpointError(
            f"In the config in the checkpoint, model.data_preprocessor's {error}."
        ) from error
    return {
        "channel_order": "RGB",
        "mean_0_1": list(mean),
        "std_0_1": list(std),
        "mean_0_255": [round(255 * value, 6) for value in mean],
        "std_0_255": [round(255 * value, 6) for value in std],
    }


def describe(architecture: Architecture, config: dict, origin: dict, training: dict) -> dict:
    """The metadata that are stored with exported weights, as plain values for JSON."""
    network = architecture.describe()
    values = (network, describe_pixels(config), origin, training, collect_versions())
    metadata = dict(zip(PARTS, values, strict=True))
    return json.loads(json.dumps(metadata))  # a copy, with lists for tuples


def check_metadata(metadata: dict, source: str) -> None:
    """Raise CheckpointError for metadata that are not as `describe` writes them."""
    wrong = [name for name in PARTS if not isinstance(metadata.get(name), dict)]
    wrong = wrong or [
        *(name for name in NORMALIZATION if not _are_three_numbers(lookup(metadata, name))),
        *(n for n in ("origin.file", "origin.part") if not isinstance(lookup(metadata, n), str)),
    ]
    try:
        if not wrong:
            check_statistics(*(lookup(metadata, f"pixels.{name}_0_1") for name in ("mean", "std")))
    except ValueError as error:
        wrong = [f"pixels: {error}"]
    if wrong:
        raise CheckpointError(
            f"The metadata in {source} are damaged: {', '.join(wrong)}. Export the encoder again."
        )


def _are_three_numbers(values: Any) -> bool:
    is_triple = isinstance(values, list | tuple) and len(values) == 3
    return is_triple and all(isinstance(value, int | float) for value in values)


def read_stages(content: dict, config: dict, source: str) -> tuple[Any, Any, Any]:
    """The STAGES of a full checkpoint's encoder; None where nothing is stated.

    TeacherHook measures them (`meta.encoder`). Other checkpoints have the arguments of mmdet's and
    mmseg's ResNets in their config. Raises CheckpointError for an encoder with the weights of a
    ResNet that computes something else with them.
    """
    measured = lookup(content, f"meta.{MEASURED}")
    if measured is not None:
        problem = measured.get("problem") if isinstance(measured, dict) else "damaged metadata"
        if problem is not None:
            raise CheckpointError(f"{source}: its encoder cannot be used apart: {problem}")
        return tuple(measured.get(name) for name in STAGES)
    backbone = lookup(config, "model.backbone") or {}
    if lookup(backbone, "style") == "caffe":
        raise CheckpointError(
            f"{source} was trained with a backbone of style='caffe', which has its stride in the "
            "1x1 convolutions. Every format expects it in the 3x3 ones (STRIDE_IN_1X1: False), so "
            "the weights would load but compute something else."
        )
    strides, dilations, contract = (lookup(backbone, name) for name in STAGES)
    if lookup(backbone, "multi_grid"):
        raise CheckpointError(
            f"{source} was trained with a backbone of multi_grid={backbone['multi_grid']}, which "
            "no other library has: the weights would load but compute something else."
        )
    if contract and lookup(backbone, "type") != "TorchvisionResNet" and not _halves(dilations):
        raise CheckpointError(
            f"{source} was trained with a backbone of contract_dilation=True and dilations="
            f"{dilations}. Other libraries compute the same only {CONTRACTED}, as with "
            "(1, 1, 1, 2) and (1, 1, 2, 4)."
        )
    return strides, dilations, contract


def _halves(dilations: Any) -> bool:
    """Whether mmseg's contract_dilation, half of a stage's dilation in its first block, is that of
    the stage before, as in torchvision."""
    values = dilations if isinstance(dilations, list | tuple) else []
    pairs = zip([1, *values], values)
    return all(isinstance(n, int) and (n // 2 if n > 1 else n) == before for before, n in pairs)
