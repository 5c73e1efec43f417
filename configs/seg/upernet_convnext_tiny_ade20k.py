"""UPerNet, ConvNeXt-T of timm, ADE20K, 80k iterations, AdamW: our recipe, not run at length.

Paper:    none; Xiao et al., UPerNet (arXiv 1807.10221), on ConvNeXt (Liu et al., CVPR 2022,
          arXiv 2201.03545). AdamW's numbers are ours.
Command:  slotcon train upernet_convnext_tiny_ade20k --gpus 8 --backbone FILE
          FILE: a checkpoint of slotcon_convnext_tiny_coco, or timm's convnext_tiny
Data:     as fcn_r50_ade20k.py; needs timm
Cost:     80,000 iterations of 16 crops of 512 x 512: 1.28 million crops, 63 epochs.
Expected: unknown.
"""

_base_ = [
    "../_base_/models/upernet.py",
    "../_base_/datasets/ade20k.py",
    "../_base_/schedules/adamw_80k.py",
    "../_base_/seg_runtime.py",
]

model = dict(
    data_preprocessor=dict(size=(512, 512), test_cfg=dict(size_divisor=32)),
    backbone=dict(
        _delete_=True,
        type="TimmEncoder",
        name="convnext_tiny",
        out_indices=(0, 1, 2, 3),
        drop_path_rate=0.3,
    ),
    decode_head=dict(num_classes=150),
    auxiliary_head=dict(num_classes=150),
)
default_hooks = dict(checkpoint=dict(interval=8_000))
