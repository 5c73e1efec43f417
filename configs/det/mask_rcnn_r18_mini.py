"""Mask R-CNN with ResNet-18 on six images: does the training learn? Minutes on a CPU.

Paper:    none; a check that a detector overfits, from a pretrained ResNet-18.
Command:  SLOTCON_DATA=/data/coco_mini slotcon train mask_rcnn_r18_mini \
              --backbone FILE
Data:     six images of the folder that SLOTCON_DATA names, with images/ and instances.json
          (COCO's format), for training and evaluation.
Cost:     160 iterations of all six, long side 320; heads and FPN of half the width, 128 sampled
          boxes an image. With all six in every batch, batch norm sees the same data in training
          and in evaluation.
Expected: on its own training images, measured: box AP 96.4, AP50 100; mask AP 88.0, AP50 100
          (docs/transfers.md).
"""

_base_ = [
    "../_base_/models/mask_rcnn_r50_fpn_syncbn.py",
    "../_base_/datasets/coco_mini_instance.py",
    "../_base_/schedules/det_adamw_160i.py",
    "../_base_/det_runtime.py",
]

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
default_hooks = dict(
    logger=dict(interval=10), checkpoint=dict(interval=80), precise_bn=dict(iterations=2)
)
