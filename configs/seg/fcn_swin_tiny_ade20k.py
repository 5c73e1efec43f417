"""FCN, Swin-T of timm, ADE20K, 80k iterations, AdamW: our recipe, not run at length.

Paper:    none; Long et al., FCN (arXiv 1411.4038), on Swin (Liu et al., ICCV 2021,
          arXiv 2103.14030). AdamW's numbers are ours.
Command:  slotcon train fcn_swin_tiny_ade20k --gpus 8 --backbone FILE
          FILE: a pretraining with the same encoder, or timm's swin_tiny_patch4_window7_224
Data:     as fcn_r50_ade20k.py; needs timm
Cost:     as fcn_convnext_tiny_ade20k.py
Expected: unknown.

All but the encoder is fcn_convnext_tiny_ade20k.py, whose channels are the same.
"""

_base_ = ["fcn_convnext_tiny_ade20k.py"]

model = dict(backbone=dict(name="swin_tiny_patch4_window7_224"))
