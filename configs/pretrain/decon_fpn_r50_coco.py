"""DeCon, ResNet-50 and FPN, COCO, 800 epochs: encoder and decoder of Mask R-CNN.

Paper:    Quetin et al., WACV 2026 (arXiv 2503.17526), on SlotCon's step (arXiv 2205.15288).
Command:  slotcon train decon_fpn_r50_coco --gpus 8
Data:     every image of train2017 (118,287), no labels. The folder that holds train2017/ is named
          by COCO_ROOT or by --cfg-options train_dataloader.dataset.source=PATH.
Cost:     8 GPUs x 64 images. floor(118,287 / 512) = 231 steps an epoch, 184,800 steps,
          94.6 million images seen (two views of each).
          Hours and memory: not measured yet. The projector of the 56 x 56 map takes 0.95 TFLOP an
          image, eleven times SlotCon's encoder and projector; its memory is in docs/speed.md.
Expected: 0.37 box AP and 0.32 mask AP more than SlotCon on COCO (paper's abstract). Published
          numbers, not measured with this code yet.

mmdet's FPN, of which the finest map (stride 4) is trained; the output convolutions of the others
do not exist. Other variants of the paper: decoder_head=[...] with an entry for each of the four
maps (deep supervision), encoder_loss_weight=0, lateral_channel_dropout=0.5. The FPN enters
the FPN of mmdet's and detectron2's Mask R-CNN; its other output convolutions start anew.
"""

_base_ = [
    "../_base_/models/decon_r50.py",
    "../_base_/datasets/unlabeled_images.py",
    "../_base_/schedules/lars_cosine_800e.py",
    "../_base_/pretrain_runtime.py",
]

model = dict(
    backbone=dict(out_indices=(0, 1, 2, 3)),
    decoder=dict(
        type="mmdet.FPN",
        in_channels=[256, 512, 1024, 2048],
        out_channels=256,
        num_outs=4,
        norm_cfg=dict(type="BN"),  # synchronized by the runner on several GPUs
    ),
    decoder_neck=dict(recompute=True),  # keeps one of six hidden maps, see docs/speed.md
)
train_dataloader = dict(dataset=dict(source="{{$COCO_ROOT:data/coco}}", preset="coco"))
default_hooks = dict(iter_seed=dict(type="IterSeedHook"))  # a resumed dropout drops the same
