"""SlotCon with a ResNet-50, as in Wen et al., NeurIPS 2022 (arXiv 2205.15288)."""

model = dict(
    type="SlotCon",
    backbone=dict(type="TorchvisionResNet", depth=50),
    neck=dict(type="PixelProjector", in_channels=2048, hidden_channels=4096, out_channels=256),
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
        predictor=dict(type="SlotPredictor", channels=256, hidden_channels=4096),
    ),
    teacher_momentum=0.99,  # at the first step; 1 at the last
    compile=False,
    channels_last=False,
    data_preprocessor=dict(type="TwoViewPreprocessor"),
)
