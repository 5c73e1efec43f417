"""AdamW over 160 iterations of 6 images: a detector overfits a few images."""

train_cfg = dict(type="IterBasedTrainLoop", max_iters=160, val_interval=160)
optim_wrapper = dict(
    type="OptimWrapper",
    optimizer=dict(type="AdamW", lr=5e-4, weight_decay=0.01),
    paramwise_cfg=dict(norm_decay_mult=0.0),
)
auto_scale_lr = dict(enable=False, base_batch_size=6)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.1, by_epoch=False, begin=0, end=20),
    dict(type="MultiStepLR", milestones=[120, 145], gamma=0.2, by_epoch=False, end=160),
]
