"""Mask R-CNN, ViT-S/16 of timm with a simple pyramid, COCO, 1x, AdamW: ours, not run at length.

Paper:    none; Li et al., ViTDet (ECCV 2022, arXiv 2203.16527), for the pyramid; AdamW's numbers
          are ours, with ViTDet's rates of layers (0.7, of ViT-B) and stochastic depth.
Command:  slotcon train mask_rcnn_vit_small_fpn_1x_coco --gpus 8 --backbone FILE
          FILE: a checkpoint of slotcon_vit_small_coco, or timm's vit_small_patch16_224
Data:     as mask_rcnn_convnext_tiny_fpn_1x_coco.py
Cost:     as mask_rcnn_convnext_tiny_fpn_1x_coco.py
Expected: unknown.

All blocks have global attention: 4,200 positions of an image of 800 x 1333 pixels. ViTDet has
windows in most blocks, larger batches and longer schedules.
"""

_base_ = ["mask_rcnn_convnext_tiny_fpn_1x_coco.py"]

model = dict(
    backbone=dict(name="vit_small_patch16_224", out_indices=(-1,), drop_path_rate=0.1),
    neck=dict(_delete_=True, type="SimplePyramid", in_channels=384, out_channels=256, num_outs=5),
)
optim_wrapper = dict(paramwise_cfg=dict(layer_decay=0.7))
