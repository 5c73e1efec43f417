"""SlotCon with heads without batch norm, for encoders that have none. A config sets the encoder.

Projector of 3 layers and predictor of 2, of the widths of SlotMIM's recipe (arXiv 2503.06960).
The projector's in_channels are those of the encoder's last map.
"""

_base_ = ["slotcon_r50.py"]

model = dict(
    neck=dict(
        _delete_=True,
        type="PixelProjector",
        hidden_channels=2048,
        out_channels=256,
        batch_norm=False,
    ),
    head=dict(predictor=dict(hidden_channels=2048, num_layers=2, batch_norm=False)),
    teacher_momentum=0.996,  # at the first step; 1 at the last
)
