"""detectron2's Mask R-CNN with ResNet-18 on six images, by MMEngine's Runner: does it learn?

Paper:    none; a check that a detector overfits, from a pretrained ResNet-18.
Command:  SLOTCON_DATA=/data/coco_mini slotcon train \
              detectron2_mask_rcnn_r18_mini --backbone FILE
Data:     as mask_rcnn_r18_mini.py, the same six images.
Needs:    detectron2, installed as its installation page describes.
Cost:     160 iterations of all six, long side 320; heads and FPN of half the width, 128 sampled
          boxes an image.
Expected: on its own training images, measured: box AP 94.5, AP50 100; mask AP 82.1,
          AP50 100 (docs/transfers.md).
"""

_base_ = [
    "../_base_/models/detectron2_mask_rcnn_r50_fpn_syncbn.py",
    "../_base_/datasets/coco_mini_instance.py",
    "../_base_/schedules/det_adamw_160i.py",
    "../_base_/det_runtime.py",
]

model = dict(
    detector=dict(
        resnets=dict(depth=18, res2_out_channels=64),
        fpn=dict(out_channels=128),
        rpn=dict(
            pre_nms_topk_train=500,
            post_nms_topk_train=200,
            pre_nms_topk_test=500,
            post_nms_topk_test=200,
        ),
        roi_heads=dict(batch_size_per_image=128),
        roi_box_head=dict(conv_dim=128, fc_dim=512),
        roi_mask_head=dict(conv_dim=128),
    )
)
optim_wrapper = dict(
    # detectron2 initializes the last mask layer with 0.001. AdamW's steps of equal size would make
    # all its inputs alike before they distinguish pixels. With these rates the bias learns the mean
    # of each class first.
    paramwise_cfg=dict(
        custom_keys={
            "mask_head.predictor.weight": dict(lr_mult=10),
            "mask_head.predictor.bias": dict(lr_mult=100),
        },
    ),
)
default_hooks = dict(
    logger=dict(interval=10), checkpoint=dict(interval=80), precise_bn=dict(iterations=2)
)
