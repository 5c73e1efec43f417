"""AdamW and cosines over 800 epochs, for encoders whose norms do not depend on the batch.

The numbers are those that SlotMIM's recipe has for ViTs (Wen et al., CVPR 2025, arXiv 2503.06960):
lr 1.5e-4 per 256 images, weight decay from 0.04 to 0.4, warm-up of 10 epochs, gradients clipped to
a norm of 0.3. lr 3e-4 is for a global batch of 512 = 8 processes x 64; auto_scale_lr rescales it.
Norms, biases and position embeddings are not decayed.
"""

optim_wrapper = dict(
    type="AmpOptimWrapper",
    dtype="float16",
    loss_scale="dynamic",
    optimizer=dict(type="AdamW", lr=3e-4, betas=(0.9, 0.999), weight_decay=0.04),
    paramwise_cfg=dict(
        norm_decay_mult=0.0,
        bias_decay_mult=0.0,
        flat_decay_mult=0.0,  # of all parameters with one axis
        custom_keys={
            "pos_embed": dict(decay_mult=0.0),
            "cls_token": dict(decay_mult=0.0),
            "relative_position_bias_table": dict(decay_mult=0.0),
        },
    ),
    clip_grad=dict(max_norm=0.3),
)
auto_scale_lr = dict(enable=True, base_batch_size=512)
param_scheduler = [
    dict(type="WarmupCosineLR", warmup=10, final=1e-6, by_epoch=True, convert_to_iter_based=True),
    dict(
        type="CosineAnnealingParamScheduler",
        param_name="weight_decay",
        eta_min_ratio=10.0,  # of the initial value: 0.04 -> 0.4
        by_epoch=True,
        convert_to_iter_based=True,
    ),
]
train_cfg = dict(type="EpochBasedTrainLoop", max_epochs=800)
