"""FCN, ConvNeXt-T of timm, ADE20K, 80k iterations, AdamW: our recipe, not run at length.

Paper:    none; Long et al., FCN (arXiv 1411.4038), on ConvNeXt (Liu et al., CVPR 2022,
          arXiv 2201.03545). AdamW's numbers are ours.
Command:  slotcon train fcn_convnext_tiny_ade20k --gpus 8 --backbone FILE
          FILE: a checkpoint of slotcon_convnext_tiny_coco, or timm's convnext_tiny
Data:     as fcn_r50_ade20k.py; needs timm
Cost:     80,000 iterations of 16 crops of 512 x 512: 1.28 million crops, 63 epochs.
Expected: unknown.

Heads as in fcn_r50_ade20k.py, on maps of the strides 32 and 16: unlike there nothing is dilated.
"""

_base_ = [
    "../_base_/models/fcn_r50_syncbn.py",
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
    decode_head=dict(
        in_channels=768,
        channels=512,
        dilation=1,
        concat_input=True,
        dropout_ratio=0.1,
        align_corners=False,
        num_classes=150,
    ),
    auxiliary_head=dict(
        type="FCNHead",
        in_channels=384,
        in_index=2,
        channels=256,
        num_convs=1,
        concat_input=False,
        dropout_ratio=0.1,
        num_classes=150,
        norm_cfg=_base_.norm_cfg,
        align_corners=False,
        loss_decode=dict(type="CrossEntropyLoss", use_sigmoid=False, loss_weight=0.4),
    ),
)
default_hooks = dict(checkpoint=dict(interval=8_000))
