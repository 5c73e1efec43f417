"""DeCon with a ResNet-50 (Quetin et al., WACV 2026, arXiv 2503.17526). A config adds the decoder.

decoder_head is that of the decoder's finest map; a list has one for each of the first maps, which
may differ, e.g. in the number of prototypes.
"""

_base_ = ["slotcon_r50.py"]

model = dict(
    decoder_neck=dict(
        type="PixelProjector", in_channels=256, hidden_channels=4096, out_channels=256
    ),
    decoder_head=dict(
        type="PrototypeHead",
        prototypes=dict(type="Prototypes", num_prototypes=256, channels=256),
        group_loss=dict(
            type="GroupingLoss",
            student_temperature=0.1,
            teacher_temperature=0.07,
            center_momentum=0.9,
        ),
        slot_loss=dict(type="SlotLoss", temperature=0.2),
        group_loss_weight=0.5,
        predictor=dict(type="SlotPredictor", channels=256, hidden_channels=4096),
    ),
    encoder_loss_weight=0.5,  # 0: the decoder's losses alone
    lateral_channel_dropout=0.0,
    lateral_map_dropout=0.0,
)
