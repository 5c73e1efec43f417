"""SlotCon, ResNet-50, COCO+ (train2017 and unlabeled2017), 800 epochs.

Paper:    Wen et al., NeurIPS 2022 (arXiv 2205.15288).
Command:  slotcon train slotcon_r50_cocoplus --gpus 8
Data:     train2017 (118,287) and unlabeled2017 (123,403): 241,690 images, no labels. The folder
          that holds both is named by COCO_ROOT or by
          --cfg-options train_dataloader.dataset.source=PATH.
Cost:     8 GPUs x 64 images. floor(241,690 / 512) = 472 steps an epoch, 377,600 steps, 193.3
          million images seen (two views of each).
          Hours and memory: not measured yet.
Expected: Mask R-CNN R50-FPN 1x on COCO, teacher's encoder: 41.8 box AP, 37.8 mask AP (SlotCon
          README). Published numbers, not measured with this code yet.
"""

_base_ = ["slotcon_r50_coco.py"]

train_dataloader = dict(dataset=dict(preset="coco+"))
