"""Mask R-CNN with ResNet-18 on six images: does the whole chain learn? Minutes on a CPU.

Paper:    none; a check that a detector overfits, from a backbone that tools/train.py pretrained.
Command:  SLOTCON_DATA=/data/coco_mini python tools/train.py configs/det/mask_rcnn_r18_mini.py \
              --backbone FILE
Data:     a folder with images/ and instances.json (COCO's format); SLOTCON_DATA names it. Six of
          the first images of instances.json, in coco_mini landscapes with at most four objects,
          are trained on and evaluated on.
Cost:     160 iterations of all six, long side 320; heads and FPN of half the width, 128 sampled
          boxes an image. With all of them in every batch, batch norm sees the same in training
          and in evaluation.
Expected: on its own training images, measured: box AP 96.4, AP50 100; mask AP 88.0, AP50 100
          (docs/transfers.md).
"""

_base_ = ["mask_rcnn_r50_fpn_syncbn_1x_coco.py"]

data_layout = "coco_mini"
data_root = "{{$SLOTCON_DATA:data/coco_mini}}/"
load = dict(type="LoadImageFromFile", imdecode_backend="pillow")
labels = dict(type="LoadAnnotations", with_bbox=True, with_mask=True, poly2mask=False)
resize = dict(type="Resize", scale=(320, 320), keep_ratio=True, backend="pillow")
meta = ("img_id", "img_path", "ori_shape", "img_shape", "scale_factor")

few = dict(nms_pre=500, max_per_img=200)
model = dict(
    backbone=dict(depth=18),
    neck=dict(in_channels=[64, 128, 256, 512], out_channels=128),
    rpn_head=dict(in_channels=128, feat_channels=128),
    roi_head=dict(
        bbox_roi_extractor=dict(out_channels=128),
        bbox_head=dict(in_channels=128, conv_out_channels=128, fc_out_channels=512),
        mask_roi_extractor=dict(out_channels=128),
        mask_head=dict(in_channels=128, conv_out_channels=128),
    ),
    train_cfg=dict(rpn_proposal=few, rcnn=dict(sampler=dict(num=128))),
    test_cfg=dict(rpn=few),
)
six = dict(
    data_root=data_root,
    ann_file="instances.json",
    data_prefix=dict(img="images/"),
    indices=[0, 6, 8, 9, 10, 20],  # of the images that have objects
)
total_batch_size = 6
train_dataloader = dict(
    batch_size=6,
    num_workers=0,
    persistent_workers=False,
    dataset=dict(**six, pipeline=[load, labels, resize, dict(type="PackDetInputs")]),
)
pack = dict(type="PackDetInputs", meta_keys=(*meta, "instances"))  # the metric's ground truth
val_dataloader = dict(
    num_workers=0,
    persistent_workers=False,
    dataset=dict(
        **six,
        test_mode=False,  # filtered as in training: the same six
        filter_cfg=dict(filter_empty_gt=True),
        pipeline=[load, resize, labels, pack],
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(ann_file=None)
test_evaluator = val_evaluator

train_cfg = dict(max_iters=160, val_interval=160)
optim_wrapper = dict(
    optimizer=dict(_delete_=True, type="AdamW", lr=5e-4, weight_decay=0.01),
    paramwise_cfg=dict(norm_decay_mult=0.0),
)
auto_scale_lr = dict(base_batch_size=6)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.1, by_epoch=False, begin=0, end=20),
    dict(type="MultiStepLR", milestones=[120, 145], gamma=0.2, by_epoch=False, end=160),
]
default_hooks = dict(logger=dict(interval=10), checkpoint=dict(interval=80))
custom_hooks = [
    dict(type="LossGuardHook", patience=5),
    dict(type="BackboneHook", source="{{$SLOTCON_BACKBONE:unnamed}}"),
    dict(type="DiagnosticsHook"),
    dict(type="PreciseBNHook", iterations=2),
    dict(type="ResumeHook"),
]
work_dir = "{{$SLOTCON_WORK_DIR:work_dirs/mask_rcnn_r18_mini}}"
