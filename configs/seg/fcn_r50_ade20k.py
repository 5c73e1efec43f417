"""FCN, ResNet-50, ADE20K, 80k iterations: the paper's transfer, exactly as published.

Paper:    Wen et al., NeurIPS 2022 (arXiv 2205.15288); Long et al., FCN (arXiv 1411.4038).
Command:  tools/dist_train.sh configs/seg/fcn_r50_ade20k.py 8 --backbone FILE
Data:     ADE20K's scene parsing benchmark, training (20,210) to validation (2,000); ADE_ROOT names
          the folder ADEChallengeData2016. 150 classes; label 0 is none and ignored.
Cost:     80,000 iterations of 16 crops of 512 x 512: 1.28 million crops, 63 epochs.
Expected: SlotCon, COCO, 800 epochs: 39.0 mIoU. Published number, not measured with this code yet;
          the paper does not say of how many runs: report mean and spread over seeds.

Stride 8, a wider head and an auxiliary one: mmseg's usual FCN, unlike the other two data sets.
"""

_base_ = ["_base_/fcn.py"]

data_layout = "ade20k"
data_root = "{{$ADE_ROOT:data/ade/ADEChallengeData2016}}/"
crop_size = (512, 512)
train_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="LoadAnnotations", reduce_zero_label=True),
    dict(type="RandomResize", scale=(2048, 512), ratio_range=(0.5, 2.0), keep_ratio=True),
    dict(type="RandomCrop", crop_size=crop_size, cat_max_ratio=0.75),
    dict(type="RandomFlip", prob=0.5),
    dict(type="PhotoMetricDistortion"),
    dict(type="PackSegInputs"),
]
test_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="Resize", scale=(2048, 512), keep_ratio=True),
    dict(type="LoadAnnotations", reduce_zero_label=True),
    dict(type="PackSegInputs"),
]

model = dict(
    data_preprocessor=dict(
        type="SegDataPreProcessor",
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True,
        pad_val=0,
        seg_pad_val=255,
        size=crop_size,
    ),
    backbone=dict(strides=(1, 2, 1, 1), dilations=(1, 1, 2, 4)),
    decode_head=dict(
        channels=512,
        dilation=1,
        concat_input=True,
        dropout_ratio=0.1,
        align_corners=False,
        num_classes=150,
    ),
    auxiliary_head=dict(
        type="FCNHead",
        in_channels=1024,
        in_index=2,
        channels=256,
        num_convs=1,
        concat_input=False,
        dropout_ratio=0.1,
        num_classes=150,
        norm_cfg=dict(type="SyncBN", requires_grad=True),
        align_corners=False,
        loss_decode=dict(type="CrossEntropyLoss", use_sigmoid=False, loss_weight=0.4),
    ),
)
train_dataloader = dict(
    batch_size=2,
    num_workers=4,
    persistent_workers=True,
    pin_memory=True,
    sampler=dict(type="InfiniteSampler", shuffle=True),
    dataset=dict(
        type="ADE20KDataset",
        data_root=data_root,
        data_prefix=dict(img_path="images/training", seg_map_path="annotations/training"),
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
        type="ADE20KDataset",
        data_root=data_root,
        data_prefix=dict(img_path="images/validation", seg_map_path="annotations/validation"),
        pipeline=test_pipeline,
    ),
)
test_dataloader = val_dataloader

train_cfg = dict(type="IterBasedTrainLoop", max_iters=80_000, val_interval=8_000)
optim_wrapper = dict(
    type="OptimWrapper",
    optimizer=dict(type="SGD", lr=0.01, momentum=0.9, weight_decay=5e-4),
)
param_scheduler = dict(type="PolyLR", power=0.9, eta_min=1e-4, begin=0, end=80_000, by_epoch=False)
default_hooks = dict(checkpoint=dict(interval=8_000))
work_dir = "{{$SLOTCON_WORK_DIR:work_dirs/fcn_r50_ade20k}}"
