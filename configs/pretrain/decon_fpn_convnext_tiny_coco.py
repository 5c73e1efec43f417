"""DeCon, ConvNeXt-T of timm and FPN, COCO: continued from public weights, decoder first.

Paper:    Quetin et al., WACV 2026 (arXiv 2503.17526), on SlotCon's step (arXiv 2205.15288). This
          recipe follows the winning entry of the GWFSS wheat challenge (CVPPA at ICCV 2025),
          which has a ConvNeXt-L and wheat images.
Command:  slotcon train decon_fpn_convnext_tiny_coco --gpus 8 --backbone FILE
          FILE: timm's weights of convnext_tiny (docs/encoders.md); without them it stops.
Data:     every image of train2017 (118,287), no labels. The folder that holds train2017/ is named
          by COCO_ROOT or by --cfg-options train_dataloader.dataset.source=PATH. Needs timm, mmdet.
Cost:     8 GPUs x 28 images. floor(118,287 / 224) = 528 steps an epoch, 158,400 steps,
          35.5 million images seen (two views of each).
          Hours and memory: not measured yet.
Expected: unknown: only single steps were run, to see that everything works.

What differs from decon_fpn_r50_coco.py: all four maps of the FPN are trained, each with a head of
its own; the encoder has no head (encoder_loss_weight=0) and is frozen during the first 50 of 300
epochs; channels of the lateral maps are dropped with probability 0.5; AdamW with lr 2e-4 for a
batch of 224, weight decay 0.05 but for norms and biases; warm-up of 10 epochs, gradients clipped to
0.3 and teacher momentum from 0.996 as in slotcon_convnext_tiny_coco.py.
"""

_base_ = [
    "../_base_/models/decon_r50.py",
    "../_base_/datasets/unlabeled_images.py",
    "../_base_/schedules/adamw_cosine_800e.py",
    "../_base_/pretrain_runtime.py",
]

model = dict(
    backbone=dict(
        _delete_=True,
        type="TimmEncoder",
        name="convnext_tiny",
        out_indices=(0, 1, 2, 3),
        drop_path_rate=0.1,
    ),
    neck=None,
    head=None,
    decoder=dict(
        type="mmdet.FPN",
        in_channels=[96, 192, 384, 768],
        out_channels=256,
        num_outs=4,
        norm_cfg=dict(type="BN"),  # synchronized by the runner on several GPUs
    ),
    decoder_neck=dict(recompute=True),
    decoder_head=[_base_.model.decoder_head] * 4,
    encoder_loss_weight=0,
    lateral_channel_dropout=0.5,
    teacher_momentum=0.996,
)
train_dataloader = dict(
    batch_size=28,  # on each of 8 processes
    dataset=dict(source="{{$COCO_ROOT:data/coco}}", preset="coco"),
)
optim_wrapper = dict(optimizer=dict(lr=2e-4, weight_decay=0.05))
auto_scale_lr = dict(base_batch_size=224)
param_scheduler = [
    dict(type="WarmupCosineLR", warmup=10, final=1e-6, by_epoch=True, convert_to_iter_based=True)
]
train_cfg = dict(max_epochs=300)
default_hooks = dict(
    backbone=dict(type="BackboneHook", source="{{$SLOTCON_BACKBONE:unnamed}}"),
    freeze=dict(type="FreezeHook", epochs=50),
    iter_seed=dict(type="IterSeedHook"),  # a resumed training drops the same
)
