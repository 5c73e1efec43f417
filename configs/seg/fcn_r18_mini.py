"""FCN with ResNet-18 on eight images: does the training learn? Minutes on a CPU.

Paper:    none; a check that FCN overfits, from a pretrained ResNet-18.
Command:  SLOTCON_DATA=/data/coco_mini slotcon train fcn_r18_mini \
              --backbone FILE
Data:     a folder with images/, voc21/ (label maps with VOC's classes) and train2017.txt (names);
          SLOTCON_DATA names it. Eight of the first twenty names, in coco_mini those with large
          objects, are used for training and evaluation.
Cost:     160 iterations of 4 crops of 320 x 320.
Expected: on its own training images, measured: mIoU 85.3 (docs/transfers.md).
"""

_base_ = ["../_base_/models/fcn_r50_syncbn.py", "../_base_/seg_runtime.py"]

data_layout = "coco_mini"
data_root = "{{$SLOTCON_DATA:data/coco_mini}}/"
model = dict(
    data_preprocessor=dict(size=(320, 320)),
    backbone=dict(depth=18, strides=(1, 2, 1, 1), dilations=(1, 1, 2, 4)),
    decode_head=dict(in_channels=512, channels=128, num_classes=21),
)
train_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="LoadAnnotations"),
    dict(type="RandomCrop", crop_size=(320, 320)),
    dict(type="PackSegInputs"),
]
test_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="LoadAnnotations"),
    dict(type="PackSegInputs"),
]
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
    dataset=dict(**eight, pipeline=train_pipeline),
)
val_dataloader = dict(
    batch_size=1,
    num_workers=0,
    sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=dict(**eight, pipeline=test_pipeline),
)
test_dataloader = val_dataloader

train_cfg = dict(type="IterBasedTrainLoop", max_iters=160, val_interval=160)
optim_wrapper = dict(type="OptimWrapper", optimizer=dict(type="AdamW", lr=1e-3, weight_decay=0.01))
auto_scale_lr = dict(enable=False, base_batch_size=4)
param_scheduler = dict(type="PolyLR", power=0.9, eta_min=1e-5, begin=0, end=160, by_epoch=False)
default_hooks = dict(
    logger=dict(interval=10),
    checkpoint=dict(interval=80),
    precise_bn=dict(type="PreciseBNHook", iterations=10),
)
