"""AdamW with layer-wise learning rates, for transfers of transformers and ConvNeXts.

A layer that is n-th from the top of the encoder has lr x layer_decay**n, everything else lr. Norms,
biases, position embeddings and tables of relative positions are not decayed. A config adds the
course of the learning rate and the length; layer_decay 0.9 is for 12 to 18 blocks in four stages.
"""

optim_wrapper = dict(
    type="OptimWrapper",
    constructor="LayerDecayConstructor",
    optimizer=dict(type="AdamW", lr=1e-4, betas=(0.9, 0.999), weight_decay=0.05),
    paramwise_cfg=dict(
        layer_decay=0.9,
        norm_decay_mult=0.0,
        bias_decay_mult=0.0,
        flat_decay_mult=0.0,  # of all parameters with one axis
        custom_keys={
            "pos_embed": dict(decay_mult=0.0),
            "cls_token": dict(decay_mult=0.0),
            "relative_position_bias_table": dict(decay_mult=0.0),
        },
    ),
)
auto_scale_lr = dict(enable=False, base_batch_size=16)
