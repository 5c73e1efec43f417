"""DeCon, ResNet-50 and FCN, COCO, 800 epochs: encoder and head convolutions of the FCN transfers.

Paper:    Quetin et al., WACV 2026 (arXiv 2503.17526), on SlotCon's step (arXiv 2205.15288).
Command:  slotcon train decon_fcn_r50_coco --gpus 8
Data:     every image of train2017 (118,287), no labels. The folder that holds train2017/ is named
          by COCO_ROOT or by --cfg-options train_dataloader.dataset.source=PATH.
Cost:     8 GPUs x 64 images. floor(118,287 / 512) = 231 steps an epoch, 184,800 steps,
          94.6 million images seen (two views of each).
          Hours and memory: not measured yet.
Expected: 1.42 mIoU on VOC and 0.50 on Cityscapes more than SlotCon on COCO (paper's abstract, for
          the better decoder). Published numbers, not measured with this code yet.

The two convolutions of mmseg's FCNHead for VOC and Cityscapes: 256 channels, dilation 6, on the
encoder's last map. For ADE20K: model.decoder.channels=512 model.decoder.dilation=1
model.decoder_neck.in_channels=512. They enter the decode_head of the FCN transfers.
"""

_base_ = [
    "../_base_/models/decon_r50.py",
    "../_base_/datasets/unlabeled_images.py",
    "../_base_/schedules/lars_cosine_800e.py",
    "../_base_/pretrain_runtime.py",
]

model = dict(
    decoder=dict(
        type="FCNConvolutions",
        in_channels=2048,
        channels=256,
        num_convs=2,
        dilation=6,
        norm_cfg=dict(type="BN"),  # synchronized by the runner on several GPUs
    ),
)
train_dataloader = dict(dataset=dict(source="{{$COCO_ROOT:data/coco}}", preset="coco"))
