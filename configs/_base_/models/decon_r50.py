"""DeCon with a ResNet-50 (Quetin et al., WACV 2026, arXiv 2503.17526). A config adds the decoder.

decoder_head is that of the decoder's finest map; a list has one for each of the first maps, which
may differ, e.g. in the number of prototypes. By default it is like the encoder's.
"""

_base_ = ["slotcon_r50.py"]

model = dict(
    decoder_neck=dict(
        type="PixelProjector", in_channels=256, hidden_channels=4096, out_channels=256
    ),
    decoder_head=_base_.model.head,
    encoder_loss_weight=0.5,  # 0: the decoder's losses alone
    lateral_channel_dropout=0.0,
    lateral_map_dropout=0.0,
)
