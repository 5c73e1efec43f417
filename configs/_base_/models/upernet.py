"""UPerNet (Xiao et al., ECCV 2018, arXiv 1807.10221) on four maps, synchronized batch norm.

Channels are those of ConvNeXt-T and Swin-T; an auxiliary FCN on the third map. A config adds the
encoder.
"""

_base_ = ["fcn_r50_syncbn.py"]

shared = dict(dropout_ratio=0.1, norm_cfg=_base_.norm_cfg, align_corners=False)
model = dict(
    decode_head=dict(
        _delete_=True,
        type="UPerHead",
        in_channels=[96, 192, 384, 768],
        in_index=[0, 1, 2, 3],
        pool_scales=(1, 2, 3, 6),
        channels=512,
        **shared,
        loss_decode=dict(type="CrossEntropyLoss", use_sigmoid=False, loss_weight=1.0),
    ),
    auxiliary_head=dict(
        type="FCNHead",
        in_channels=384,
        in_index=2,
        channels=256,
        num_convs=1,
        concat_input=False,
        **shared,
        loss_decode=dict(type="CrossEntropyLoss", use_sigmoid=False, loss_weight=0.4),
    ),
)
