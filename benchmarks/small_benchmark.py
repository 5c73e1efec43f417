"""A benchmark that takes a minute: images drawn here, networks and schedules made small."""

import json
from pathlib import Path

import numpy as np
import yaml
from PIL import Image

from benchmarks.processes import DEMO, ROOT

TOOL = ROOT / "tools" / "benchmark.sh"
DET = ROOT / "configs" / "det" / "mask_rcnn_r18_tiny.py"
SEG = ROOT / "configs" / "seg" / "fcn_r18_tiny.py"
COCO_NAMES = ("person", "bicycle", "car")
SIZE = 96  # of the images, pixels
EPOCHS, ITERATIONS = 2, 2


def write_mini(root: Path, count: int = 4) -> Path:
    """A folder in the layout of coco_mini: squares of two colors, with boxes, masks and labels."""
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


def pretraining_options(images: Path, work_dir: Path, epochs: int = EPOCHS) -> list[str]:
    """--cfg-options that shorten the demo config to seconds: 32-pixel views, batch size 4."""
    return [
        f"train_dataloader.dataset.source={images}",
        "train_dataloader.dataset.views.size=32",
        "train_dataloader.batch_size=4",
        "optim_wrapper.optimizer.lr=1.0",
        "auto_scale_lr.base_batch_size=32",
        "train_dataloader.num_workers=0",
        "model.backbone.num_stages=2",
        "model.teacher_momentum=0.99",
        "model.neck.in_channels=128",
        "model.neck.hidden_channels=16",
        "model.neck.out_channels=16",
        "model.head.prototypes.num_prototypes=8",
        "model.head.prototypes.channels=16",
        "model.head.predictor.channels=16",
        "model.head.predictor.hidden_channels=16",
        f"train_cfg.max_epochs={epochs}",
        "param_scheduler.warmup=1",
        "default_hooks.logger.interval=1",
        "default_hooks.checkpoint.interval=1",
        f"+work_dir={work_dir}",
    ]


def decoder_options(images: Path, work_dir: Path, epochs: int = EPOCHS) -> list[str]:
    """The same for the demo config with a decoder: three stages, 64-pixel views, dropout."""
    changed = [
        "train_dataloader.dataset.views.size=64",
        "model.backbone.num_stages=3",
        "model.backbone.out_indices=(0,1,2)",
        "model.neck.in_channels=256",
        "model.decoder.in_channels=[64,128,256]",
        "model.decoder.num_outs=3",
        "model.decoder.out_channels=16",
        "model.decoder_neck.in_channels=16",
        "model.decoder_neck.hidden_channels=16",
        "model.decoder_neck.out_channels=16",
        "model.decoder_head.prototypes.channels=16",
        "model.decoder_head.predictor.channels=16",
        "model.decoder_head.prototypes.num_prototypes=8",
        "model.decoder_head.predictor.hidden_channels=16",
        "model.lateral_channel_dropout=0.2",
        "optim_wrapper.optimizer.lr=0.3",  # rounding grows at 1.0, in training this small
    ]
    return [*pretraining_options(images, work_dir, epochs), *changed]


def transfer_options(config: Path, root: Path, iterations: int = ITERATIONS) -> list[str]:
    """--cfg-options that shorten DET or SEG to seconds, on the images of `write_mini`."""
    shared = [
        f"train_dataloader.dataset.data_root={root}/",
        f"val_dataloader.dataset.data_root={root}/",
        f"test_dataloader.dataset.data_root={root}/",
        *(f"{side}_dataloader.dataset.indices=[0,1,2,3]" for side in ("train", "val", "test")),
        f"train_cfg.max_iters={iterations}",
        f"train_cfg.val_interval={iterations}",
        "default_hooks.precise_bn.iterations=1",
        "default_hooks.logger.interval=1",
        f"default_hooks.checkpoint.interval={iterations}",
        "total_batch_size=2",
    ]
    if config == SEG:
        return shared
    return [
        *shared,
        "model.train_cfg.rcnn.sampler.num=16",
        "model.train_cfg.rpn_proposal.max_per_img=20",
        "model.test_cfg.rpn.max_per_img=10",
        "model.test_cfg.rcnn.max_per_img=10",
    ]


def small_benchmark(root: Path, work_dir: Path, interval: int | None = None) -> dict:
    """A benchmark of one pretraining and of random weights, with Mask R-CNN and FCN.

    Args:
        root: the folder that `write_mini` wrote.
        work_dir: where its results are written.
        interval: iterations between two checkpoints of a transfer, which then has three of them.
    """
    length = 3 * interval if interval else ITERATIONS
    # Four stages: the transfers need the whole ResNet-18.
    stages = {"model.backbone.num_stages": 4, "model.neck.in_channels": 512}
    pretraining = overrides(pretraining_options(root / "images", work_dir)) | stages
    transfers = {}
    for name, config, column in (("coco", DET, "coco"), ("voc", SEG, "voc")):
        changed = overrides(transfer_options(config, root, length))
        changed["default_hooks.checkpoint.interval"] = interval or ITERATIONS
        transfers[name] = dict(config=str(config), column=column, overrides=changed)
    return dict(
        title="tiny",
        work_dir=str(work_dir),
        references=False,
        pretrainings=dict(tiny=dict(config=str(DEMO), overrides=pretraining), random="random"),
        transfers=transfers,
    )


def overrides(options: list[str]) -> dict:
    """--cfg-options in the form that a benchmark file has."""
    pairs = dict(option.split("=", 1) for option in options)
    return {key: yaml.safe_load(value) for key, value in pairs.items() if key != "+work_dir"}


def write_benchmark(path: Path, content: dict) -> Path:
    """Write the benchmark file."""
    path.write_text(yaml.safe_dump(json.loads(json.dumps(content)), sort_keys=False))
    return path
