"""LARS and a cosine over 800 epochs: the paper's pretraining schedule on COCO.

lr 2.0 = 1.0 x 512 / 256 for a global batch of 512 = 8 processes x 64. auto_scale_lr rescales it for
another batch: one GPU with 64 images trains with 0.25.
"""

optim_wrapper = dict(
    type="AmpOptimWrapper",
    dtype="float16",
    loss_scale="dynamic",
    optimizer=dict(
        type="SlotConLARS", lr=2.0, momentum=0.9, weight_decay=1e-5, trust_coefficient=0.001
    ),
)
auto_scale_lr = dict(enable=True, base_batch_size=512)
param_scheduler = dict(  # from lr / 100 to lr in 5 epochs, then a cosine to 1e-6, per iteration
    type="WarmupCosineLR", warmup=5, final=1e-6, by_epoch=True, convert_to_iter_based=True
)
train_cfg = dict(type="EpochBasedTrainLoop", max_epochs=800)
