"""SGD by iterations of 16 images. A config adds the learning rate, its course and the length."""

total_batch_size = 16
train_cfg = dict(type="IterBasedTrainLoop")
optim_wrapper = dict(
    type="OptimWrapper", optimizer=dict(type="SGD", momentum=0.9, weight_decay=1e-4)
)
auto_scale_lr = dict(enable=False, base_batch_size=16)
