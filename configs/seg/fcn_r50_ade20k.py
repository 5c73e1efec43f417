"""FCN, ResNet-50, ADE20K, 80k iterations: the paper's transfer, exactly as published.

Paper:    Wen et al., NeurIPS 2022 (arXiv 2205.15288); Long et al., FCN (arXiv 1411.4038).
Command:  slotcon train fcn_r50_ade20k --gpus 8 --backbone FILE
Data:     ADE20K's scene parsing benchmark, training (20,210) to validation (2,000); ADE_ROOT names
          the folder ADEChallengeData2016.
Cost:     80,000 iterations of 16 crops of 512 x 512: 1.28 million crops, 63 epochs.
Expected: SlotCon, COCO, 800 epochs: 39.0 mIoU. Published number, not measured with this code yet.
          The paper does not state the number of runs: report mean and spread over seeds.

Stride 8, a wider head and an auxiliary head: mmseg's usual FCN, unlike VOC and Cityscapes.
"""

_base_ = [
    "../_base_/models/fcn_r50_syncbn.py",
    "../_base_/datasets/ade20k.py",
    "../_base_/schedules/sgd_16.py",
    "../_base_/seg_runtime.py",
]

model = dict(
    data_preprocessor=dict(size=(512, 512)),
    backbone=dict(strides=(1, 2, 1, 1), dilations=(1, 1, 2, 4)),
    decode_head=dict(
        channels=512,
        dilation=1,
        concat_input=True,
        dropout_ratio=0.1,
        align_corners=False,
        num_classes=150,
    ),
    auxiliary_head=dict(
        type="FCNHead",
        in_channels=1024,
        in_index=2,
        channels=256,
        num_convs=1,
        concat_input=False,
        dropout_ratio=0.1,
        num_classes=150,
        norm_cfg=dict(type="SyncBN", requires_grad=True),
        align_corners=False,
        loss_decode=dict(type="CrossEntropyLoss", use_sigmoid=False, loss_weight=0.4),
    ),
)
train_cfg = dict(max_iters=80_000, val_interval=8_000)
optim_wrapper = dict(optimizer=dict(lr=0.01, weight_decay=5e-4))
param_scheduler = dict(type="PolyLR", power=0.9, eta_min=1e-4, begin=0, end=80_000, by_epoch=False)
default_hooks = dict(checkpoint=dict(interval=8_000))
