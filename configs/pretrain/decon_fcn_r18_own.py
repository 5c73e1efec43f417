"""DeCon, ResNet-18 and FCN, your own images: encoder and head convolutions of fcn_own.

Paper:    Quetin et al., WACV 2026 (arXiv 2503.17526), on SlotCon's step (arXiv 2205.15288); this
          recipe is ours.
Command:  slotcon train decon_fcn_r18_own --data /my/images --budget 45min
Data:     as slotcon_r18_own.py.
Cost:     the budget, as slotcon_r18_own.py.
Expected: an encoder and the two convolutions of an FCN head of 256 channels.

As slotcon_r18_own.py, with a decoder, whose head has as many prototypes as the encoder's.
"""

_base_ = ["slotcon_r18_own.py"]

model = dict(
    decoder=dict(
        type="FCNConvolutions",
        in_channels=512,
        channels=256,
        num_convs=2,
        dilation=1,
        norm_cfg=dict(type="BN"),
    ),
    decoder_neck=dict(
        type="PixelProjector", in_channels=256, hidden_channels=512, out_channels=128
    ),
    decoder_head=dict(
        type="PrototypeHead",
        prototypes=dict(type="Prototypes", num_prototypes="auto", channels=128),
        group_loss=dict(type="GroupingLoss"),
        slot_loss=dict(type="SlotLoss"),
        predictor=dict(type="SlotPredictor", channels=128, hidden_channels=512),
    ),
    encoder_loss_weight=0.5,
    lateral_channel_dropout=0.0,
    lateral_map_dropout=0.0,
)
