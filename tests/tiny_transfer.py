"""Detection and segmentation small enough for tests: data drawn here, configs shrunk."""

import json
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from tiny_training import ROOT

from slotcon_plugin.models.backbones import TorchvisionResNet

DET = ROOT / "configs" / "det" / "mask_rcnn_r18_mini.py"
SEG = ROOT / "configs" / "seg" / "fcn_r18_mini.py"

COCO_NAMES = ("person", "bicycle", "car")
SIZE = 96  # pixels


def write_mini(root: Path, count: int = 4) -> Path:
    """A folder laid out as coco_mini: squares of two colors, their boxes, masks and labels."""
    (root / "images").mkdir(parents=True)
    (root / "voc21").mkdir()
    rng = np.random.default_rng(0)
    images, annotations = [], []
    for i in range(count):
        image = rng.integers(0, 60, (SIZE, SIZE, 3), dtype=np.uint8)
        labels = np.zeros((SIZE, SIZE), np.uint8)
        for category in (1, 2):
            x, y = (int(v) for v in rng.integers(4, 44, 2))
            w = 40
            color = (250, 60, 0) if category == 1 else (0, 80, 250)
            image[y : y + w, x : x + w] = color
            labels[y : y + w, x : x + w] = category
            annotations.append(
                dict(
                    id=len(annotations) + 1,
                    image_id=i + 1,
                    category_id=category,
                    bbox=[x, y, w, w],
                    area=w * w,
                    iscrowd=0,
                    segmentation=[[x, y, x + w, y, x + w, y + w, x, y + w]],
                )
            )
        Image.fromarray(image).save(root / "images" / f"{i:03}.jpg", quality=95)
        Image.fromarray(labels).save(root / "voc21" / f"{i:03}.png")
        split = "val2017" if i % 4 == 3 else "train2017"
        images.append(
            dict(id=i + 1, file_name=f"{i:03}.jpg", width=SIZE, height=SIZE, coco_split=split)
        )
    categories = [dict(id=i, name=name) for i, name in enumerate(COCO_NAMES, start=1)]
    content = dict(images=images, annotations=annotations, categories=categories)
    (root / "instances.json").write_text(json.dumps(content))
    (root / "train2017.txt").write_text("".join(f"{i:03}\n" for i in range(count)))
    return root


def write_encoder(path: Path, depth: int = 18) -> TorchvisionResNet:
    """The weights of a ResNet under torchvision's names, in a file."""
    torch.manual_seed(3)
    encoder = TorchvisionResNet(depth)
    torch.save({"state_dict": encoder.state_dict()}, path)
    return encoder


def tiny_options(config: Path, root: Path, iterations: int = 2) -> list[str]:
    """--cfg-options that make a mini config a training of seconds on `write_mini`'s images."""
    shared = [
        f"train_dataloader.dataset.data_root={root}/",
        f"val_dataloader.dataset.data_root={root}/",
        f"test_dataloader.dataset.data_root={root}/",
        *(f"{side}_dataloader.dataset.indices=[0,1,2,3]" for side in ("train", "val", "test")),
        f"train_cfg.max_iters={iterations}",
        f"train_cfg.val_interval={iterations}",
        "custom_hooks.3.iterations=1",
        "default_hooks.logger.interval=1",
        f"default_hooks.checkpoint.interval={iterations}",
        "total_batch_size=2",
    ]
    if config == SEG:
        return [*shared, "train_dataloader.dataset.pipeline.2.crop_size=(64,64)"]
    return [
        *shared,
        "model.train_cfg.rcnn.sampler.num=16",
        "model.train_cfg.rpn_proposal.max_per_img=20",
        "model.test_cfg.rpn.max_per_img=10",
        "model.test_cfg.rcnn.score_thr=0.0",  # after two steps nothing is found with a threshold
        "model.test_cfg.rcnn.max_per_img=10",
        "train_dataloader.dataset.pipeline.2.scale=(96,96)",
        "val_dataloader.dataset.pipeline.1.scale=(96,96)",
        "test_dataloader.dataset.pipeline.1.scale=(96,96)",
    ]
