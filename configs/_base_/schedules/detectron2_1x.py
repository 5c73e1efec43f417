"""detectron2's 1x schedule: 90,000 iterations of 16 images, SGD, steps at 60,000 and 80,000.

start_factor 0.001 over 1,000 iterations is detectron2's warm-up, norm_decay_mult 0 its
WEIGHT_DECAY_NORM.
"""

train_cfg = dict(type="IterBasedTrainLoop", max_iters=90_000, val_interval=10_000)
optim_wrapper = dict(
    type="OptimWrapper",
    optimizer=dict(type="SGD", lr=0.02, momentum=0.9, weight_decay=1e-4),
    paramwise_cfg=dict(norm_decay_mult=0.0),
)
auto_scale_lr = dict(enable=False, base_batch_size=16)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.001, by_epoch=False, begin=0, end=1000),
    dict(type="MultiStepLR", milestones=[60_000, 80_000], gamma=0.1, by_epoch=False),
]
