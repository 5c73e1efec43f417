"""FCN, ViT-S/16 of timm, ADE20K, 80k iterations, AdamW: our recipe, not run at length.

Paper:    none; Long et al., FCN (arXiv 1411.4038), on a ViT. AdamW's numbers are ours.
Command:  slotcon train fcn_vit_small_ade20k --gpus 8 --backbone FILE
          FILE: a checkpoint of slotcon_vit_small_coco, or timm's vit_small_patch16_224
Data:     as fcn_r50_ade20k.py; needs timm
Cost:     as fcn_convnext_tiny_ade20k.py
Expected: unknown.

The head is on the encoder's only map, of stride 16; the auxiliary head on the map after the eighth
of the twelve blocks.
"""

_base_ = ["fcn_convnext_tiny_ade20k.py"]

model = dict(
    backbone=dict(name="vit_small_patch16_224", out_indices=(7, 11), drop_path_rate=0.1),
    decode_head=dict(in_channels=384, in_index=1),
    auxiliary_head=dict(in_channels=384, in_index=0),
)
optim_wrapper = dict(paramwise_cfg=dict(layer_decay=0.7))
