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
from detectron2.utils import comm
from torch import nn

from ..checkpoints.export_formats import encoder_file
from ..errors import CheckpointError, ConfigError, DataError
from ..runtime.atomic_files import write_atomically
from .data_layout import LAYOUTS
from .fill_backbone import RANDOM, check_source, fill_module, read_source

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
        images, labels = root / f"{split}2017", root / f"annotations/instances_{split}2017.json"
        _require([images, labels], "coco")
        if name in DatasetCatalog.list():
            known = MetadataCatalog.get(name)
            classes = {key: known.get(key) for key in ("thing_classes", "thing_colors")}
            DatasetCatalog.remove(name)
            MetadataCatalog.remove(name)
            register_coco_instances(name, classes, str(labels), str(images))


def _require(paths: list[Path], layout: str) -> None:
    missing = [str(path) for path in paths if not path.exists()]
    if missing:
        raise DataError(
            "The data of this config are not complete. Missing:\n  "
            + "\n  ".join(missing)
            + f"\nExpected: {LAYOUTS[layout]}"
        )


def _mini(root: Path, split: str, name: str) -> list[dict]:
    """The images of one split of the small folder, in detectron2's format."""
    everything = load_coco_json(str(root / "instances.json"), str(root / "images"), name)
    listed = json.loads((root / "instances.json").read_text(encoding="utf-8"))["images"]
    wanted = {image["id"] for image in listed if image["coco_split"] == split}
    return [record for record in everything if record["image_id"] in wanted]


def use_backbone(cfg: CfgNode, source: str | None) -> str:
    """Write the backbone in detectron2's format into the work dir, for the trainer to load.

    detectron2 unpickles what it loads; so it gets this file, and none that came from elsewhere.

    Args:
        cfg: its MODEL.WEIGHTS is set; it stands in for `source` where that is None.
        source: an export, a checkpoint of ours, 'supervised' or 'none'.

    Returns:
        The source, for `check_backbone`.

    Raises:
        ConfigError: nothing is named.
        CheckpointError: the file cannot be used.
    """
    source = source or cfg.MODEL.WEIGHTS or None
    if source is not None and "://" in source:
        raise ConfigError(
            f"MODEL.WEIGHTS is {source}, which detectron2 would fetch and unpickle. Use --backbone "
            "FILE, --backbone supervised (torchvision's ImageNet weights) or --backbone none."
        )
    check_source(source)
    if source == RANDOM:
        cfg.MODEL.WEIGHTS = ""
        return source
    written = Path(cfg.OUTPUT_DIR) / "backbone.pkl"
    if comm.is_main_process():
        data, _ = encoder_file(read_source(source, cfg.MODEL.RESNETS.DEPTH), "detectron2", ".pkl")
        write_atomically(data, written)
    comm.synchronize()
    cfg.MODEL.WEIGHTS = str(written)
    return source


def check_resume(folder: str) -> None:
    """Before a resume: the work dir's last checkpoint is as `check_weights` wants it."""
    note = Path(folder) / "last_checkpoint"
    if note.is_file():
        check_weights(str(note.with_name(note.read_text().strip())), str(note))


def check_weights(path: str, name: str = "MODEL.WEIGHTS") -> None:
    """Before an evaluation: what detectron2 would unpickle is refused.

    Args:
        path: what is to be loaded.
        name: what names it, for the message.

    Raises:
        CheckpointError: not a `.pth` file; torch reads those as data, with `weights_only`.
    """
    if "://" in path or Path(path).suffix != ".pth" or not Path(path).is_file():
        raise CheckpointError(
            f"{name} is {path or 'empty'}; expected a .pth file that is there, as "
            "detectron2's trainer writes it (model_final.pth). Others would be unpickled."
        )


def check_backbone(model: nn.Module, source: str, depth: int) -> str:
    """After detectron2 has loaded: every tensor of the source is in the backbone, bit for bit.

    detectron2 itself only warns about what it could not use. `source` and `depth` as in
    `fill_module`.

    Raises:
        CheckpointError: the backbone holds something else.
    """
    if source == RANDOM:
        return "backbone: random weights, as asked for"
    backbone = model.backbone.bottom_up
    before = {name: tensor.clone() for name, tensor in backbone.state_dict().items()}
    report = fill_module(backbone, source, depth)
    changed = [
        name
        for name, tensor in backbone.state_dict().items()
        if not name.endswith("num_batches_tracked") and not torch.equal(tensor, before[name])
    ]
    if changed:
        raise CheckpointError(
            f"detectron2 did not load {len(changed)} of {len(before)} tensors of {source}, e.g. "
            f"{', '.join(changed[:5])}. Do MODEL.RESNETS and the file's architecture agree?"
        )
    return report
