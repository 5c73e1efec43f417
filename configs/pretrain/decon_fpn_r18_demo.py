"""DeCon, ResNet-18 and FPN, small images: your own folder, a CPU, a first look.

Paper:    Quetin et al., WACV 2026 (arXiv 2503.17526), on SlotCon's step (arXiv 2205.15288); this
          recipe is ours.
Command:  DATA_ROOT=/my/images slotcon train decon_fpn_r18_demo
Data:     as slotcon_r18_demo.py: any folder of images.
Cost:     twice slotcon_r18_demo.py: 1.8 s of one core a step instead of 0.9, without data loader.
Expected: groups of the encoder's map (4 x 4) and of the decoder's (32 x 32); no long training was
          run.

As slotcon_r18_demo.py, with all four stages, so that the ResNet can be transferred, and an FPN of
64 channels, of which the finest map is trained.
"""

_base_ = ["slotcon_r18_demo.py"]

model = dict(
    backbone=dict(num_stages=4, out_indices=(0, 1, 2, 3)),
    neck=dict(in_channels=512),
    decoder=dict(
        type="mmdet.FPN",
        in_channels=[64, 128, 256, 512],
        out_channels=64,
        num_outs=4,
        norm_cfg=dict(type="BN"),
    ),
    decoder_neck=dict(
        type="PixelProjector",
        in_channels=64,
        hidden_channels=256,
        out_channels=64,
        recompute=True,
    ),
    decoder_head=dict(
        type="PrototypeHead",
        prototypes=dict(type="Prototypes", num_prototypes=32, channels=64),
        group_loss=dict(type="GroupingLoss"),
        slot_loss=dict(type="SlotLoss"),
        predictor=dict(type="SlotPredictor", channels=64, hidden_channels=256),
    ),
    encoder_loss_weight=0.5,  # 0: the decoder's losses alone
    lateral_channel_dropout=0.0,
    lateral_map_dropout=0.0,
)
default_hooks = dict(iter_seed=dict(type="IterSeedHook"))  # a resumed dropout drops the same
