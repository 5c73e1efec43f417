"""Mask R-CNN, ConvNeXt-T of timm with FPN, COCO, 1x, AdamW: our recipe, not run at length.

Paper:    none; He et al., "Mask R-CNN" (arXiv 1703.06870), on ConvNeXt (Liu et al., CVPR 2022,
          arXiv 2201.03545). AdamW's numbers are ours.
Command:  slotcon train mask_rcnn_convnext_tiny_fpn_1x_coco --gpus 8 --backbone FILE
          FILE: a checkpoint of slotcon_convnext_tiny_coco, or timm's convnext_tiny
Data:     COCO 2017 with annotations; COCO_ROOT. Needs timm.
Cost:     90,000 iterations of 16 images: 1.44 million images, 12.2 epochs of the 117,266 that
          have objects.
Expected: unknown.

All but encoder and optimizer is mask_rcnn_r50_fpn_syncbn_1x_coco.py: no row of the paper is of this
protocol.
"""

_base_ = [
    "../_base_/models/mask_rcnn_r50_fpn_syncbn.py",
    "../_base_/datasets/coco_instance.py",
    "../_base_/schedules/adamw_1x.py",
    "../_base_/det_runtime.py",
]

model = dict(
    backbone=dict(
        _delete_=True,
        type="TimmEncoder",
        name="convnext_tiny",
        out_indices=(0, 1, 2, 3),
        drop_path_rate=0.2,
    ),
    neck=dict(in_channels=[96, 192, 384, 768]),
)
