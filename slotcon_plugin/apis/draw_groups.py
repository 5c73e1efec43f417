"""Figures of the groups that a pretraining finds: the prototype of each pixel."""

from collections.abc import Iterable
from pathlib import Path

import torch
from PIL import Image

from ..checkpoints.containers import read_file
from ..checkpoints.fill import check_state_dict
from ..checkpoints.metadata import read_config as read_literals
from ..checkpoints.named_networks import last_of_work_dir
from ..datasets.decode import UnreadableImage
from ..datasets.sources import list_images
from ..errors import ConfigError, DataError
from ..evaluation.untrained import build_untrained
from ..runtime.config_leaves import leaves
from ..runtime.config_options import read_config
from ..runtime.config_rules import check_value, whole
from ..runtime.launch import announce
from ..runtime.recipe_rules import fill_auto
from ..runtime.work_dir import check_writable
from ..transfer.fit_transfer import is_slotcon
from ..visualization import groups
from ..visualization.figures import save_png
from ..visualization.survey import read_drawable, scaled

MAX_LONG_SIDE = 4096
SOURCE = ("source", "preset", "list_root", "backend_args")  # of the dataset: its images


def draw_groups(
    config: str | Path,
    checkpoint: str | Path,
    out: str | Path,
    images: str | None = None,
    count: int = 6,
    max_long_side: int = MAX_LONG_SIDE,
    cfg_options: list[str] | None = None,
    level: str | int | None = None,
    overwrite: bool = False,
) -> None:
    """Draw the groups of some images with random weights and after pretraining.

    Args:
        config: the pretraining's config.
        checkpoint: a checkpoint of that pretraining, its work dir, or "zoo:NAME".
        out: the figure, .png.
        images: a source of docs/images.md; None: the config's training images.
        count: number of images; the first ones that can be read are drawn.
        max_long_side: in pixels; images that would have a longer side, when their short side is
            scaled to 256 pixels for the network, are not drawn.
        cfg_options: those of the training, see `apis.train.train`.
        level: of a pretraining with a decoder, "encoder" or the number of a decoder's level; None:
            0, the finest.
        overwrite: replace `out` if it is there; otherwise this is an error.
    """
    check_value("--count", count, whole(1))
    check_writable(out, "--out", inputs=[config, checkpoint, images], overwrite=overwrite)
    check_value("--max-long-side", max_long_side, whole(groups.LARGEST_SHORT_SIDE))
    cfg = read_config(config, cfg_options)
    if not cfg.get("model") or not is_slotcon(cfg):
        raise ConfigError(f"{config} is not of a pretraining with SlotCon, whose groups are drawn.")
    dataset = (cfg.get("train_dataloader") or {}).get("dataset") or {}
    if not images and "source" not in dataset:
        raise ConfigError(f"{config} names no training images: give some with --images.")
    named = {key: dataset[key] for key in SOURCE if key in dataset}
    where = dict(source=images) if images else named
    paths = list_images(**where)
    checkpoint = last_of_work_dir(checkpoint, announce)
    state = read_file(checkpoint)
    fill_auto(cfg, dict(leaves(read_literals(state))))
    seed = state.get("meta", {}).get("seed")
    model = build_untrained(cfg, seed if isinstance(seed, int) and 0 <= seed < 2**32 else 0)
    num_prototypes = model.levels[model.position(level)].head.num_prototypes
    tensors = state.get("state_dict", {})
    if tensors and all(str(name).startswith("teacher.") for name in tensors):  # of `teacher_folder`
        state["state_dict"] = {**model.state_dict(), **tensors}
    weights = check_state_dict(model, state, str(checkpoint))
    model = model.to("cuda" if torch.cuda.is_available() else "cpu")
    photographs = read_first(paths, count, max_long_side, where.get("backend_args"))
    rows = {"random weights": groups.group_photographs(model, photographs, level=level)}
    model.load_state_dict(weights)
    rows["after pretraining"] = groups.group_photographs(model, photographs, level=level)
    save_png(groups.draw_groups(rows, num_prototypes, count), out)
    announce(f"written: {out}")


def read_first(
    paths: Iterable[str],
    count: int,
    max_long_side: int = MAX_LONG_SIDE,
    backend_args: dict | None = None,
) -> list[Image.Image]:
    """The first `count` images that can be drawn, or all if there are fewer; RGB, scaled down."""
    found, reason = [], None
    for path in paths:
        if len(found) == count:
            break
        try:
            image = read_drawable(path, groups.LARGEST_SHORT_SIDE, max_long_side, backend_args)
            most = min(min(image.size), 2 * groups.LARGEST_SHORT_SIDE)  # several are kept in memory
            found.append(scaled(image, most, Image.Resampling.BICUBIC))
        except UnreadableImage as error:
            reason = str(error)
            announce(reason)
    if not found:
        raise DataError(f"None of the images can be read; the last error: {reason}")
    return found
