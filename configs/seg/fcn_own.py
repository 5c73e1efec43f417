"""FCN on your own label maps: classes, sizes and schedule follow from them.

Paper:    Long et al., FCN (arXiv 1411.4038), with the head of SlotCon's transfers (Wen et al.,
          NeurIPS 2022, arXiv 2205.15288); the schedule is ours.
Command:  slotcon train fcn_own --data DIR --backbone FILE
          slotcon test work_dirs/fcn_own/fcn_own.py work_dirs/fcn_own/iter_N.pth
Data:     DIR/images/{train,val}/ and DIR/labels/{train,val}/: maps with the number of a class in
          each pixel, 255 for none, named as the images; DIR/classes.txt: the classes' names, a line
          each. Or images/ and labels/ with the lists train.txt and val.txt of names without suffix.
          DIR is --data or DATA_ROOT; other names of folders and lists are entries of own_data.
Cost:     1,300 iterations for 20 images, 30,000 for 10,582 as on VOC.
Expected: mIoU on DIR's val images; no published results.

Entries "auto" follow from the data by rules, which the module slotcon_plugin.transfer.own_data
lists, and are printed at the start. A value instead of "auto", here or by --cfg-options, is kept.
"""

_base_ = [
    "../_base_/models/fcn_r50_syncbn.py",
    "../_base_/datasets/segmentation.py",
    "../_base_/schedules/sgd_16.py",
    "../_base_/seg_runtime.py",
]

data_layout = "own_seg"
own_data = dict(
    root="{{$DATA_ROOT:data/own}}",
    images="images",
    labels="labels",
    classes="classes.txt",
    train="train",
    val="val",
)
model = dict(
    data_preprocessor=dict(size="auto"),
    backbone=dict(depth="auto", contract_dilation="auto"),
    decode_head=dict(in_channels="auto", num_classes="auto", dilation="auto"),
)
labeled = dict(
    type="BaseSegDataset",
    data_root="auto",
    data_prefix="auto",
    ann_file="auto",
    img_suffix="auto",
    seg_map_suffix="auto",
    metainfo="auto",
)
train_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="LoadAnnotations"),
    dict(type="RandomResize", scale="auto", ratio_range=(0.5, 2.0), keep_ratio=True),
    dict(type="RandomCrop", crop_size="auto"),
    dict(type="RandomFlip", prob=0.5),
    dict(type="PackSegInputs"),
]
test_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="LoadAnnotations"),
    dict(type="PackSegInputs"),
]
total_batch_size = "auto"
train_dataloader = dict(batch_size="auto", dataset=dict(**labeled, pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(**labeled, pipeline=test_pipeline))
test_dataloader = val_dataloader

train_cfg = dict(max_iters="auto", val_interval="auto")
optim_wrapper = dict(optimizer=dict(lr="auto"))
auto_scale_lr = dict(base_batch_size="auto")
param_scheduler = dict(type="MultiStepLR", milestones="auto", gamma=0.1, by_epoch=False)
default_hooks = dict(
    logger=dict(interval=10),
    checkpoint=dict(interval="auto"),
    precise_bn=dict(type="PreciseBNHook", iterations="auto"),
)
