"""Mask R-CNN with ResNet-18 on six small images, 12 iterations: do training and evaluation run?

Paper:    none; a check of the software, used by configs/benchmark/mini.yaml and by the tests.
Command:  SLOTCON_DATA=/data/coco_mini slotcon train mask_rcnn_r18_tiny \
              --backbone none
Data:     as mask_rcnn_r18_mini.py
Cost:     12 iterations of six images of at most 240 x 160 pixels: a minute on 2 CPU cores.
Expected: low metrics on its own training images, which say nothing about a method.
"""

_base_ = ["mask_rcnn_r18_mini.py"]

resize = dict(type="Resize", scale=(240, 160), keep_ratio=True, backend="pillow")
train_pipeline = [_base_.load_image, _base_.load_labels, resize, dict(type="PackDetInputs")]
test_pipeline = [_base_.load_image, resize, _base_.load_labels, _base_.pack]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader

model = dict(
    train_cfg=dict(rcnn=dict(sampler=dict(num=32)), rpn_proposal=dict(max_per_img=50)),
    test_cfg=dict(
        rpn=dict(max_per_img=50),
        rcnn=dict(score_thr=0.0, max_per_img=20),  # a network of a few steps has low scores
    ),
)
train_cfg = dict(max_iters=12, val_interval=12)
default_hooks = dict(
    logger=dict(interval=1), checkpoint=dict(interval=3), precise_bn=dict(iterations=3)
)
