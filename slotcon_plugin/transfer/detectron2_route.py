"""detectron2's own trainer, with our data folders and a check that the backbone was filled."""

import json
import os
from pathlib import Path

import torch
from detectron2.config import CfgNode, get_cfg
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets import load_coco_json, register_coco_instances
from detectron2.engine import DefaultTrainer
from detectron2.evaluation import COCOEvaluator
from torch import nn

from ..errors import CheckpointError, ConfigError, DataError
from .backbone import RANDOM, SUPERVISED, check_source, fill_module
from .layout import LAYOUTS

MINI = {"slotcon_mini_train": "train2017", "slotcon_mini_val": "val2017"}  # name -> coco_split


class Trainer(DefaultTrainer):
    """detectron2's trainer, evaluating by COCO's metrics."""

    @classmethod
    def build_evaluator(cls, cfg: CfgNode, dataset_name: str) -> COCOEvaluator:
        """COCO's box and mask AP."""
        return COCOEvaluator(dataset_name, output_dir=os.path.join(cfg.OUTPUT_DIR, "inference"))


def read_yaml(path: str, options: list[str], work_dir: str | None = None) -> CfgNode:
    """A config of detectron2 from a file, with `KEY VALUE` pairs put in.

    Raises:
        ConfigError: the file or an option cannot be used.
    """
    if not Path(path).is_file():
        raise ConfigError(f"There is no config {path}; those for detectron2 end in .yaml.")
    cfg = get_cfg()
    try:
        cfg.merge_from_file(path)
        cfg.merge_from_list(options)
    except (KeyError, ValueError, AssertionError) as error:
        raise ConfigError(f"{path}, or an option given to it, cannot be used: {error}") from error
    if not torch.cuda.is_available():
        cfg.MODEL.DEVICE = "cpu"
        for part in (cfg.MODEL.RESNETS, cfg.MODEL.FPN):
            part.NORM = _plain(part.NORM)
        for part in (cfg.MODEL.ROI_BOX_HEAD, cfg.MODEL.ROI_MASK_HEAD):
            part.NORM = _plain(part.NORM)
    cfg.OUTPUT_DIR = work_dir or os.environ.get(
        "SLOTCON_WORK_DIR", f"work_dirs/detectron2_{Path(path).stem}"
    )
    return cfg


def _plain(norm: str) -> str:
    return "BN" if norm == "SyncBN" else norm


def check_batch(cfg: CfgNode, num_gpus: int) -> None:
    """SOLVER.IMS_PER_BATCH is the total batch at any number of GPUs; it has to divide.

    Raises:
        ConfigError: it does not.
    """
    total, workers = cfg.SOLVER.IMS_PER_BATCH, max(num_gpus, 1)
    if total % workers:
        fits = [str(n) for n in range(1, total + 1) if total % n == 0]
        raise ConfigError(
            f"A total batch of {total} cannot be divided among {workers} GPUs. Use "
            f"{', '.join(fits)} GPUs, or scale by hand: SOLVER.IMS_PER_BATCH N SOLVER.BASE_LR "
            f"{cfg.SOLVER.BASE_LR:g} x N / {total}."
        )


def register_data(cfg: CfgNode) -> None:
    """Make the data sets that a config names known to detectron2, from COCO_ROOT or SLOTCON_DATA.

    Raises:
        DataError: files are missing; all are named.
    """
    names = {*cfg.DATASETS.TRAIN, *cfg.DATASETS.TEST}
    if names & MINI.keys():
        root = Path(os.environ.get("SLOTCON_DATA", "data/coco_mini"))
        _require([root / "instances.json", root / "images"], "coco_mini")
        for name, split in MINI.items():
            if name not in DatasetCatalog.list():
                DatasetCatalog.register(
                    name, lambda split=split, name=name: _mini(root, split, name)
                )
                MetadataCatalog.get(name).set(evaluator_type="coco")
        return
    root = Path(os.environ.get("COCO_ROOT", "data/coco"))
    for name in sorted(names):
        split = name.removeprefix("coco_2017_")
        if split not in ("train", "val"):
            continue  # the user's own, registered elsewhere
        pictures, labels = root / f"{split}2017", root / f"annotations/instances_{split}2017.json"
        _require([pictures, labels], "coco")
        if name in DatasetCatalog.list():
            known = MetadataCatalog.get(name)
            classes = {key: known.get(key) for key in ("thing_classes", "thing_colors")}
            DatasetCatalog.remove(name)
            MetadataCatalog.remove(name)
            register_coco_instances(name, classes, str(labels), str(pictures))


def _require(paths: list[Path], layout: str) -> None:
    missing = [str(path) for path in paths if not path.exists()]
    if missing:
        raise DataError(
            "The data of this config are not complete. Missing:\n  "
            + "\n  ".join(missing)
            + f"\nExpected: {LAYOUTS[layout]}"
        )


def _mini(root: Path, split: str, name: str) -> list[dict]:
    """The pictures of one split of the small folder, in detectron2's format."""
    everything = load_coco_json(str(root / "instances.json"), str(root / "images"), name)
    listed = json.loads((root / "instances.json").read_text(encoding="utf-8"))["images"]
    wanted = {image["id"] for image in listed if image["coco_split"] == split}
    return [record for record in everything if record["image_id"] in wanted]


def use_backbone(cfg: CfgNode, source: str | None) -> str:
    """Let detectron2 load the backbone when the trainer starts; what `--backbone` means.

    Raises:
        ConfigError: nothing is named.
        CheckpointError: the file cannot be used.
    """
    if source is None and cfg.MODEL.WEIGHTS:
        source = cfg.MODEL.WEIGHTS
    if source == SUPERVISED:
        raise ConfigError(
            "--backbone supervised is tools/train.py's. Here leave --backbone away and name "
            "detectron2's file: MODEL.WEIGHTS detectron2://ImageNetPretrained/torchvision/R-50.pkl"
        )
    check_source(source)
    cfg.MODEL.WEIGHTS = "" if source == RANDOM else str(source)
    return source


def check_backbone(model: nn.Module, source: str | None) -> str:
    """After detectron2 has loaded: every tensor of the file must be in the backbone, bit for bit.

    detectron2 itself only warns about what it could not use.

    Raises:
        CheckpointError: the backbone holds something else than the file.
    """
    if source == RANDOM:
        return "backbone: random weights, as asked for"
    backbone = model.backbone.bottom_up
    before = {name: tensor.clone() for name, tensor in backbone.state_dict().items()}
    report = fill_module(backbone, source)
    changed = [
        name
        for name, tensor in backbone.state_dict().items()
        if not name.endswith("num_batches_tracked") and not torch.equal(tensor, before[name])
    ]
    if changed:
        raise CheckpointError(
            f"detectron2 did not load {len(changed)} of {len(before)} tensors of {source}, e.g. "
            f"{', '.join(changed[:5])}. Is it written by tools/export.py --to detectron2?"
        )
    return report
