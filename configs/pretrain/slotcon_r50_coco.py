"""SlotCon, ResNet-50, COCO, 800 epochs: the paper's main pretraining.

Paper:    Wen et al., NeurIPS 2022 (arXiv 2205.15288).
Command:  slotcon train slotcon_r50_coco --gpus 8
Fastest:  slotcon train slotcon_r50_coco --amp bf16 --compile
          --cfg-options model.channels_last=True (one GPU; docs/speed.md).
Data:     every image of train2017 (118,287), no labels. The folder that holds train2017/ is named
          by COCO_ROOT or by --cfg-options train_dataloader.dataset.source=PATH.
Cost:     8 GPUs x 64 images. floor(118,287 / 512) = 231 steps an epoch, 184,800 steps,
          94.6 million images seen (two views of each).
          Hours and memory: not measured yet.
Expected: Mask R-CNN R50-FPN 1x on COCO, teacher's encoder: 41.0 box AP, 37.0 mask AP; Cityscapes
          76.2, VOC 71.6, ADE20K 39.0 mIoU (paper's summary; AP also in its README). Published
          numbers, not measured with this code yet.
"""

_base_ = [
    "../_base_/models/slotcon_r50.py",
    "../_base_/datasets/unlabeled_images.py",
    "../_base_/schedules/lars_cosine_800e.py",
    "../_base_/pretrain_runtime.py",
]

train_dataloader = dict(dataset=dict(source="{{$COCO_ROOT:data/coco}}", preset="coco"))
