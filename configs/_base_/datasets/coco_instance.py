"""COCO 2017, train2017 to val2017, boxes and masks, for mmdet's Mask R-CNN and detectron2's.

- batch_size 2: for 8 GPUs; `slotcon train` divides total_batch_size among the processes.
- backend "pillow", poly2mask False: resizing and mask targets as detectron2's; mmdet's defaults
  differ (docs/transfers.md).
"""

data_layout = "coco"
data_root = "{{$COCO_ROOT:data/coco}}/"

load_image = dict(type="LoadImageFromFile", imdecode_backend="pillow")
load_labels = dict(type="LoadAnnotations", with_bbox=True, with_mask=True, poly2mask=False)
train_pipeline = [
    load_image,
    load_labels,
    dict(
        type="RandomChoiceResize",
        scales=[(1333, side) for side in range(640, 801, 32)],
        keep_ratio=True,
        backend="pillow",
    ),
    dict(type="RandomFlip", prob=0.5),
    dict(type="PackDetInputs"),
]
test_pipeline = [
    load_image,
    dict(type="Resize", scale=(1333, 800), keep_ratio=True, backend="pillow"),
    load_labels,
    dict(
        type="PackDetInputs",
        meta_keys=("img_id", "img_path", "ori_shape", "img_shape", "scale_factor"),
    ),
]

total_batch_size = 16
train_dataloader = dict(
    batch_size=2,
    num_workers=4,
    persistent_workers=True,
    pin_memory=True,
    sampler=dict(type="InfiniteSampler", shuffle=True),
    batch_sampler=dict(type="AspectRatioBatchSampler"),
    dataset=dict(
        type="CocoDataset",
        data_root=data_root,
        ann_file="annotations/instances_train2017.json",
        data_prefix=dict(img="train2017/"),
        filter_cfg=dict(filter_empty_gt=True),
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    batch_size=1,
    num_workers=4,
    persistent_workers=True,
    pin_memory=True,
    drop_last=False,
    sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=dict(
        type="CocoDataset",
        data_root=data_root,
        ann_file="annotations/instances_val2017.json",
        data_prefix=dict(img="val2017/"),
        test_mode=True,
        pipeline=test_pipeline,
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(
    type="CocoMetric",
    ann_file=data_root + "annotations/instances_val2017.json",
    metric=["bbox", "segm"],
)
test_evaluator = val_evaluator
