"""AdamW over detectron2's 1x: 90,000 iterations of 16 images, steps at 60,000 and 80,000."""

_base_ = ["adamw_layer_decay.py"]

train_cfg = dict(type="IterBasedTrainLoop", max_iters=90_000, val_interval=10_000)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.001, by_epoch=False, begin=0, end=1000),
    dict(type="MultiStepLR", milestones=[60_000, 80_000], gamma=0.1, by_epoch=False),
]
