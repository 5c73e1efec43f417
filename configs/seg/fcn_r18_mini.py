"""FCN with ResNet-18 on eight images: does the whole chain learn? Minutes on a CPU.

Paper:    none; a check that FCN overfits, from a backbone that tools/train.py pretrained.
Command:  SLOTCON_DATA=/data/coco_mini python tools/train.py configs/seg/fcn_r18_mini.py \
              --backbone FILE
Data:     a folder with images/, voc21/ (label maps with VOC's classes) and train2017.txt (names);
          SLOTCON_DATA names it. Eight of the first twenty names, in coco_mini those with large
          objects, are trained on and evaluated on.
Cost:     160 iterations of 4 crops of 320 x 320.
Expected: on its own training images, measured: mIoU 85.3 (docs/transfers.md).
"""

_base_ = ["_base_/fcn.py"]

data_layout = "coco_mini"
data_root = "{{$SLOTCON_DATA:data/coco_mini}}/"
crop_size = (320, 320)

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
    backbone=dict(depth=18, strides=(1, 2, 1, 1), dilations=(1, 1, 2, 4)),
    decode_head=dict(in_channels=512, channels=128, num_classes=21),
)
eight = dict(
    type="PascalVOCDataset",
    data_root=data_root,
    data_prefix=dict(img_path="images", seg_map_path="voc21"),
    ann_file="train2017.txt",
    indices=[0, 3, 4, 7, 8, 12, 13, 19],
)
total_batch_size = 4
train_dataloader = dict(
    batch_size=4,
    num_workers=0,
    sampler=dict(type="InfiniteSampler", shuffle=True),
    dataset=dict(
        **eight,
        pipeline=[
            dict(type="LoadImageFromFile"),
            dict(type="LoadAnnotations"),
            dict(type="RandomCrop", crop_size=crop_size),
            dict(type="PackSegInputs"),
        ],
    ),
)
val_dataloader = dict(
    batch_size=1,
    num_workers=0,
    sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=dict(
        **eight,
        pipeline=[
            dict(type="LoadImageFromFile"),
            dict(type="LoadAnnotations"),
            dict(type="PackSegInputs"),
        ],
    ),
)
test_dataloader = val_dataloader

train_cfg = dict(type="IterBasedTrainLoop", max_iters=160, val_interval=160)
optim_wrapper = dict(type="OptimWrapper", optimizer=dict(type="AdamW", lr=1e-3, weight_decay=0.01))
auto_scale_lr = dict(base_batch_size=4)
param_scheduler = dict(type="PolyLR", power=0.9, eta_min=1e-5, begin=0, end=160, by_epoch=False)
default_hooks = dict(logger=dict(interval=10), checkpoint=dict(interval=80))
custom_hooks = [
    dict(type="LossGuardHook", patience=5),
    dict(type="BackboneHook", source="{{$SLOTCON_BACKBONE:unnamed}}"),
    dict(type="DiagnosticsHook"),
    dict(type="PreciseBNHook", iterations=10),
    dict(type="ResumeHook"),
]
work_dir = "{{$SLOTCON_WORK_DIR:work_dirs/fcn_r18_mini}}"
