"""AdamW over 80,000 iterations of 16 crops: warm-up of 1,500, then linearly to 0."""

_base_ = ["adamw_layer_decay.py"]

total_batch_size = 16
train_cfg = dict(type="IterBasedTrainLoop", max_iters=80_000, val_interval=8_000)
param_scheduler = [
    dict(type="LinearLR", start_factor=1e-6, by_epoch=False, begin=0, end=1_500),
    dict(type="PolyLR", power=1.0, eta_min=0.0, by_epoch=False, begin=1_500, end=80_000),
]
