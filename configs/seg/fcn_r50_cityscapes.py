"""FCN, ResNet-50, Cityscapes, 90k iterations: the paper's transfer, exactly as published.

Paper:    Wen et al., NeurIPS 2022 (arXiv 2205.15288); Long et al., FCN (arXiv 1411.4038).
Command:  tools/dist_train.sh configs/seg/fcn_r50_cityscapes.py 8 --backbone FILE
Data:     Cityscapes, gtFine train (2,975) to val (500); CITYSCAPES_ROOT.
Cost:     90,000 iterations of 16 crops of 769 x 769: 1.44 million crops, 484 epochs.
Expected: SlotCon, COCO, 800 epochs: 76.2 mIoU. Published number, not measured with this code yet;
          the paper does not say of how many runs: report mean and spread over seeds.

Quirk of the published config, kept: mean and std are those of pixels of 0-1, the pixels are 0-255.
fcn_r50_cityscapes_corrected.py is the same without it. Evaluated in windows of 769, 513 apart.
"""

_base_ = ["_base_/fcn.py"]

data_layout = "cityscapes"
data_root = "{{$CITYSCAPES_ROOT:data/cityscapes}}/"
crop_size = (769, 769)
train_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="LoadAnnotations"),
    dict(type="RandomResize", scale=(2049, 1025), ratio_range=(0.5, 2.0), keep_ratio=True),
    dict(type="RandomCrop", crop_size=crop_size),
    dict(type="RandomFlip", prob=0.5),
    dict(type="PackSegInputs"),
]
test_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="Resize", scale=(2049, 1025), keep_ratio=True),
    dict(type="LoadAnnotations"),
    dict(type="PackSegInputs"),
]

model = dict(
    data_preprocessor=dict(
        type="SegDataPreProcessor",
        mean=[0.485, 0.456, 0.406],  # of 0-1, applied to pixels of 0-255: the quirk
        std=[0.229, 0.224, 0.225],
        bgr_to_rgb=True,
        pad_val=0,
        seg_pad_val=255,
        size=crop_size,
    ),
    decode_head=dict(num_classes=19),
    test_cfg=dict(mode="slide", crop_size=(769, 769), stride=(513, 513)),
)
train_dataloader = dict(
    batch_size=2,
    num_workers=4,
    persistent_workers=True,
    pin_memory=True,
    sampler=dict(type="InfiniteSampler", shuffle=True),
    dataset=dict(
        type="CityscapesDataset",
        data_root=data_root,
        data_prefix=dict(img_path="leftImg8bit/train", seg_map_path="gtFine/train"),
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    batch_size=1,
    num_workers=4,
    persistent_workers=True,
    pin_memory=True,
    sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=dict(
        type="CityscapesDataset",
        data_root=data_root,
        data_prefix=dict(img_path="leftImg8bit/val", seg_map_path="gtFine/val"),
        pipeline=test_pipeline,
    ),
)
test_dataloader = val_dataloader

train_cfg = dict(type="IterBasedTrainLoop", max_iters=90_000, val_interval=9_000)
optim_wrapper = dict(
    type="OptimWrapper",
    optimizer=dict(type="SGD", lr=0.01, momentum=0.9, weight_decay=1e-4),
)
param_scheduler = dict(type="MultiStepLR", milestones=[63_000, 81_000], gamma=0.1, by_epoch=False)
default_hooks = dict(checkpoint=dict(interval=9_000))
work_dir = "{{$SLOTCON_WORK_DIR:work_dirs/fcn_r50_cityscapes}}"
