"""detectron2's Mask R-CNN with ResNet-18 on six images, by MMEngine's Runner: does it learn?

Paper:    none; a check that a detector overfits, from a backbone that tools/train.py pretrained.
Command:  SLOTCON_DATA=/data/coco_mini python tools/train.py \
              configs/det/detectron2_mask_rcnn_r18_mini.py --backbone FILE
Data:     as mask_rcnn_r18_mini.py, the same six images.
Needs:    detectron2, found by mmdet's Detectron2Wrapper.
Cost:     160 iterations of all six, long side 320; heads and FPN of half the width, 128 sampled
          boxes an image.
Expected: on its own training images, measured: box AP 94.5, AP50 100; mask AP 82.1,
          AP50 100 (docs/transfers.md).
"""

_base_ = ["detectron2_mask_rcnn_r50_fpn_syncbn_1x_coco.py"]

data_layout = "coco_mini"
data_root = "{{$SLOTCON_DATA:data/coco_mini}}/"
load = dict(type="LoadImageFromFile", imdecode_backend="pillow")
labels = dict(type="LoadAnnotations", with_bbox=True, with_mask=True, poly2mask=False)
resize = dict(type="Resize", scale=(320, 320), keep_ratio=True, backend="pillow")
meta = ("img_id", "img_path", "ori_shape", "img_shape", "scale_factor")

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
    # detectron2 starts the last mask layer at 0.001. AdamW's steps of equal size would make all its
    # inputs alike before they tell pixels apart; so the bias takes over the classes' means first.
    paramwise_cfg=dict(
        norm_decay_mult=0.0,
        custom_keys={
            "mask_head.predictor.weight": dict(lr_mult=10),
            "mask_head.predictor.bias": dict(lr_mult=100),
        },
    ),
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
work_dir = "{{$SLOTCON_WORK_DIR:work_dirs/detectron2_mask_rcnn_r18_mini}}"
