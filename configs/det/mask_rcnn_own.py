"""Mask R-CNN on your own COCO files, from a pretrained ResNet: classes, sizes and schedule follow.

Paper:    He et al., "Mask R-CNN" (arXiv 1703.06870), as SlotCon's transfer (Wen et al., NeurIPS
          2022, arXiv 2205.15288); the schedule is ours.
Command:  slotcon train mask_rcnn_own --data DIR --backbone FILE
          slotcon test work_dirs/mask_rcnn_own/mask_rcnn_own.py \
              work_dirs/mask_rcnn_own/iter_N.pth
Data:     DIR/images/{train,val}/, or all in images/, and DIR/labels/{train,val}.json: COCO
          instances (also in annotations/). Or one COCO file, own_data.labels=instances.json, and
          the lists train.txt and val.txt of its images' names. DIR is --data or DATA_ROOT; own_data
          has the names.
Cost:     1,200 iterations for 20 images, 90,000 for COCO's 117,266.
Expected: box AP and mask AP on DIR's val images; no published results.

Entries "auto" follow from the data by rules, which the module slotcon_plugin.transfer.own_data
lists, and are printed at the start. A value instead of "auto", here or by --cfg-options, is kept.
"""

_base_ = [
    "../_base_/models/mask_rcnn_r50_fpn_syncbn.py",
    "../_base_/datasets/coco_instance.py",
    "../_base_/schedules/detectron2_1x.py",
    "../_base_/det_runtime.py",
]

data_layout = "own_det"
own_data = dict(
    root="{{$DATA_ROOT:data/own}}", images="images", labels="labels", train="train", val="val"
)
model = dict(
    backbone=dict(depth="auto"),
    neck=dict(in_channels="auto"),
    roi_head=dict(bbox_head=dict(num_classes="auto"), mask_head=dict(num_classes="auto")),
)
load_labels = dict(type="LoadAnnotations", with_bbox=True, with_mask=True, poly2mask="auto")
train_pipeline = [
    _base_.load_image,
    load_labels,
    dict(type="RandomChoiceResize", scales="auto", keep_ratio=True, backend="pillow"),
    dict(type="RandomFlip", prob=0.5),
    dict(type="PackDetInputs"),
]
test_pipeline = [
    _base_.load_image,
    dict(type="Resize", scale="auto", keep_ratio=True, backend="pillow"),
    load_labels,
    dict(
        type="PackDetInputs",
        meta_keys=("img_id", "img_path", "ori_shape", "img_shape", "scale_factor"),
    ),
]
labeled = dict(
    data_root="auto",
    ann_file="auto",
    backend_args="auto",
    data_prefix="auto",
    metainfo="auto",
)
total_batch_size = "auto"
train_dataloader = dict(batch_size="auto", dataset=dict(**labeled, pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(**labeled, pipeline=test_pipeline))
test_dataloader = val_dataloader
val_evaluator = dict(ann_file="auto", backend_args="auto")
test_evaluator = val_evaluator

train_cfg = dict(max_iters="auto", val_interval="auto")
optim_wrapper = dict(optimizer=dict(lr="auto"))
auto_scale_lr = dict(base_batch_size="auto")
param_scheduler = [
    dict(type="LinearLR", start_factor=0.001, by_epoch=False, begin=0, end="auto"),
    dict(type="MultiStepLR", milestones="auto", gamma=0.1, by_epoch=False),
]
default_hooks = dict(
    logger=dict(interval=10), checkpoint=dict(interval="auto"), precise_bn=dict(iterations="auto")
)
