"""SlotCon with heads without batch norm, for encoders that have none. A config adds the backbone.

Projector of 3 layers and predictor of 2, of the widths of SlotMIM's recipe (arXiv 2503.06960).
The projector's in_channels are those of the encoder's last map.
"""

model = dict(
    type="SlotCon",
    neck=dict(type="PixelProjector", hidden_channels=2048, out_channels=256, batch_norm=False),
    head=dict(
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
        predictor=dict(
            type="SlotPredictor",
            channels=256,
            hidden_channels=2048,
            num_layers=2,
            batch_norm=False,
        ),
    ),
    teacher_momentum=0.996,  # at the first step; 1 at the last
    compile=False,
    channels_last=False,
    data_preprocessor=dict(type="TwoViewPreprocessor"),
)
