"""UPerNet, ViT-S/16 of timm with a simple pyramid, ADE20K, 80k iterations: ours, not run at length.

Paper:    none; Xiao et al., UPerNet (arXiv 1807.10221), on a ViT, whose pyramid is that of ViTDet
          (Li et al., ECCV 2022, arXiv 2203.16527). AdamW's numbers are ours.
Command:  slotcon train upernet_vit_small_ade20k --gpus 8 --backbone FILE
          FILE: a checkpoint of slotcon_vit_small_coco, or timm's vit_small_patch16_224
Data:     as fcn_r50_ade20k.py; needs timm
Cost:     as upernet_convnext_tiny_ade20k.py
Expected: unknown.
"""

_base_ = ["upernet_convnext_tiny_ade20k.py"]

model = dict(
    backbone=dict(name="vit_small_patch16_224", out_indices=(-1,), drop_path_rate=0.1),
    neck=dict(type="SimplePyramid", in_channels=384, out_channels=256),
    decode_head=dict(in_channels=[256] * 4),
    auxiliary_head=dict(in_channels=256),
)
optim_wrapper = dict(paramwise_cfg=dict(layer_decay=0.7))
