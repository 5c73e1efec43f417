"""Prepares detectron2's own trainer: config, datasets, and a check that the backbone was filled."""

import json
import os
from functools import partial
from pathlib import Path
from urllib.parse import urlparse

import torch
from detectron2.config import CfgNode, get_cfg
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets import load_coco_json, register_coco_instances
from detectron2.engine import DefaultTrainer
from detectron2.evaluation import COCOEvaluator
from detectron2.utils import comm
from torch import nn

from ..checkpoints.encoder import ALL
from ..checkpoints.export_formats import encoder_file
from ..checkpoints.fill import check_state_dict
from ..errors import CheckpointError, ConfigError
from ..runtime.atomic_files import write_atomically
from ..runtime.config_files import find_config
from ..runtime.safe_loading import load_checkpoint_safely
from ..runtime.wrapping import unwrapped
from .coco_content import Needs
from .coco_file import check_coco_file
from .data_layout import require_paths
from .fill_backbone import RANDOM, check_source, fill_network, read_source

MINI = {"slotcon_mini_train": "train2017", "slotcon_mini_val": "val2017"}  # name -> coco_split


class Trainer(DefaultTrainer):
    """detectron2's trainer, evaluating by COCO's box and mask AP."""

    @classmethod
    def build_evaluator(cls, cfg: CfgNode, dataset_name: str) -> COCOEvaluator:
        return COCOEvaluator(dataset_name, output_dir=os.path.join(cfg.OUTPUT_DIR, "inference"))


def read_yaml(path: str | Path, options: list[str], work_dir: str | Path | None = None) -> CfgNode:
    """Read a config of detectron2 and replace entries; without a GPU, adapt it to the CPU.

    Args:
        path: a .yaml file, see `config_files.find_config`.
        options: detectron2's alternating keys and values.
        work_dir: becomes OUTPUT_DIR; by default the environment's SLOTCON_WORK_DIR, or
            work_dirs/detectron2_NAME.
    """
    path = find_config(path)
    cfg = get_cfg()
    try:
        cfg.merge_from_file(str(path))
        cfg.merge_from_list(options)
    except (KeyError, ValueError, AssertionError) as error:
        raise ConfigError(f"{path}, or an option for it, cannot be used: {error}") from error
    if not torch.cuda.is_available():
        cfg.MODEL.DEVICE = "cpu"
        for part in ("RESNETS", "FPN", "ROI_BOX_HEAD", "ROI_MASK_HEAD"):
            if cfg.MODEL[part].NORM == "SyncBN":  # needs GPUs
                cfg.MODEL[part].NORM = "BN"
    default = os.environ.get("SLOTCON_WORK_DIR", f"work_dirs/detectron2_{Path(path).stem}")
    cfg.OUTPUT_DIR = str(work_dir or default)
    return cfg


def check_batch(cfg: CfgNode, num_gpus: int) -> None:
    """Raise ConfigError if SOLVER.IMS_PER_BATCH, the total batch, does not divide by the GPUs."""
    total, workers = cfg.SOLVER.IMS_PER_BATCH, max(num_gpus, 1)
    if total % workers:
        fits = [str(n) for n in range(1, total + 1) if total % n == 0]
        raise ConfigError(
            f"A total batch of {total} cannot be divided among {workers} GPUs. Use "
            f"{', '.join(fits)} GPUs, or change the recipe: SOLVER.IMS_PER_BATCH N SOLVER.BASE_LR "
            f"{cfg.SOLVER.BASE_LR:g} x N / {total}."
        )


def register_data(cfg: CfgNode) -> None:
    """Register the datasets of COCO (in COCO_ROOT) and MINI (in SLOTCON_DATA) that cfg names."""
    for name in sorted({*cfg.DATASETS.TRAIN, *cfg.DATASETS.TEST}):
        if name in MINI:
            root = os.environ.get("SLOTCON_DATA", "data/coco_mini")
            labels, images = f"{root}/instances.json", f"{root}/images"
            require_paths([labels, images], "coco_mini")
            _check_labels(cfg, labels, MINI[name])
            if name not in DatasetCatalog.list():
                DatasetCatalog.register(name, partial(_mini, labels, images, name))
                MetadataCatalog.get(name).set(evaluator_type="coco")
        elif name in ("coco_2017_train", "coco_2017_val"):
            root, split = os.environ.get("COCO_ROOT", "data/coco"), name.rpartition("_")[2]
            images, labels = f"{root}/{split}2017", f"{root}/annotations/instances_{split}2017.json"
            require_paths([images, labels], "coco")
            _check_labels(cfg, labels, None)
            if name in DatasetCatalog.list():  # detectron2's own registration, in its own folder
                known = MetadataCatalog.get(name)
                classes = {key: known.get(key) for key in ("thing_classes", "thing_colors")}
                DatasetCatalog.remove(name)
                MetadataCatalog.remove(name)
                register_coco_instances(name, classes, labels, images)


def _check_labels(cfg: CfgNode, path: str, split: str | None) -> None:
    """Check an annotation file, in the first process only: detectron2 reads it in each one."""
    if not comm.is_main_process():
        return
    classes = ("MODEL.ROI_HEADS.NUM_CLASSES", cfg.MODEL.ROI_HEADS.NUM_CLASSES)
    rle = "" if cfg.INPUT.MASK_FORMAT == "bitmask" else "INPUT.MASK_FORMAT bitmask"
    without_masks = "MODEL.MASK_ON False" if cfg.MODEL.MASK_ON else ""
    needs = Needs(classes=None, num_classes=classes, crowd_flag=True)
    print(f"[slotcon] labels of {check_coco_file(path, needs, split, without_masks, rle)}")


def _mini(labels: str, images: str, name: str) -> list[dict]:
    """The images of one of the MINI datasets, in detectron2's format."""
    listed = json.loads(Path(labels).read_text(encoding="utf-8"))["images"]
    wanted = {image["id"] for image in listed if image["coco_split"] == MINI[name]}
    return [one for one in load_coco_json(labels, images, name) if one["image_id"] in wanted]


def use_backbone(cfg: CfgNode, source: str | None, parts: str = ALL) -> str:
    """Write the backbone, with a pretrained FPN, to the work dir in detectron2's format.

    MODEL.WEIGHTS becomes this file.
    detectron2 unpickles the files that it loads, so it is never given one from elsewhere.

    Args:
        cfg: is changed in place.
        source: see `check_source`; None means the present MODEL.WEIGHTS. It is returned.
        parts: see `read_encoder`.
    """
    source = source or cfg.MODEL.WEIGHTS
    if "://" in source:
        raise ConfigError(
            f"MODEL.WEIGHTS is {source}, which detectron2 would download and unpickle. Use "
            "--backbone FILE, --backbone supervised (torchvision's ImageNet weights) or "
            "--backbone none."
        )
    check_source(source, parts=parts)
    if source == RANDOM:
        cfg.MODEL.WEIGHTS = ""
        return source
    written = Path(cfg.OUTPUT_DIR) / "backbone.pkl"
    if comm.is_main_process():
        encoder = read_source(source, cfg.MODEL.RESNETS.DEPTH, parts=parts)
        write_atomically(encoder_file(encoder, "detectron2", ".pkl")[0], written)
    comm.synchronize()
    cfg.MODEL.WEIGHTS = str(written)
    return source


def check_trained(path: str, setting: str = "MODEL.WEIGHTS") -> None:
    """Raise CheckpointError unless `path`, given in `setting`, is a `.pth` file.

    detectron2 loads `.pth` files with `weights_only` and unpickles any other one.
    """
    # detectron2 parses it as a URL: of x.pkl?a=.pth it would unpickle x.pkl.
    is_plain = urlparse(path).path == path
    if not is_plain or Path(path).suffix != ".pth" or not os.path.isfile(path):
        raise CheckpointError(
            f"{setting} is {path or 'empty'}; expected an existing .pth file that detectron2's "
            "trainer wrote (model_final.pth), because other files would be unpickled."
        )


def check_resume(folder: str) -> str | None:
    """Check the last checkpoint of a work dir before a resume, see `check_trained`; its path."""
    last = Path(folder) / "last_checkpoint"
    if not last.is_file():
        return None
    path = os.path.join(folder, last.read_text(errors="replace").strip())
    check_trained(path, str(last))
    return path


def check_fits(model: nn.Module, path: str) -> None:
    """Raise CheckpointError unless a checkpoint of detectron2's trainer has exactly the weights of
    a built model; detectron2 only warns."""
    content = load_checkpoint_safely(path)
    check_state_dict(model, {"state_dict": content.get("model", content)}, path)


def check_backbone(model: nn.Module, source: str, depth: int, parts: str = ALL) -> str:
    """Raise CheckpointError unless detectron2, which only warns, loaded every tensor bit for bit.

    Returns lines for the log. `source`, `depth` and `parts` are those of `read_source`.
    """
    if source == RANDOM:
        return "backbone: random weights"
    backbone = unwrapped(model).backbone
    before = {name: tensor.clone() for name, tensor in backbone.state_dict().items()}
    report = fill_network(unwrapped(model), read_source(source, depth, parts=parts))
    filled = backbone.state_dict()
    changed = [name for name in filled if not torch.equal(filled[name], before[name])]
    if changed := [name for name in changed if not name.endswith("num_batches_tracked")]:
        raise CheckpointError(
            f"detectron2 did not load {len(changed)} of {len(before)} tensors of {source}, e.g. "
            f"{', '.join(changed[:5])}. Check that MODEL.RESNETS and MODEL.FPN fit the file."
        )
    return report
