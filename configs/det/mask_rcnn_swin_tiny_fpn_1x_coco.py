"""Mask R-CNN, Swin-T of timm with FPN, COCO, 1x, AdamW: our recipe, not run at length.

Paper:    none; He et al., "Mask R-CNN" (arXiv 1703.06870), on Swin (Liu et al., ICCV 2021,
          arXiv 2103.14030). AdamW's numbers are ours; those of mmdet's Swin-T have equal rates in
          all layers.
Command:  slotcon train mask_rcnn_swin_tiny_fpn_1x_coco --gpus 8 --backbone FILE
          FILE: a pretraining with the same encoder, or timm's swin_tiny_patch4_window7_224
Data:     as mask_rcnn_convnext_tiny_fpn_1x_coco.py
Cost:     as mask_rcnn_convnext_tiny_fpn_1x_coco.py
Expected: unknown.

All but the encoder is mask_rcnn_convnext_tiny_fpn_1x_coco.py, whose channels are the same.
"""

_base_ = ["mask_rcnn_convnext_tiny_fpn_1x_coco.py"]

model = dict(backbone=dict(name="swin_tiny_patch4_window7_224"))
