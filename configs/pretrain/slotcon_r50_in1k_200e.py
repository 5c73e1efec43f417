"""SlotCon, ResNet-50, ImageNet-1K, 200 epochs.

Paper:    Wen et al., NeurIPS 2022 (arXiv 2205.15288).
Command:  slotcon train slotcon_r50_in1k_200e --gpus 8
Data:     as slotcon_r50_in1k_100e.py: 1,281,167 images.
Cost:     twice slotcon_r50_in1k_100e.py: 2,502 steps an epoch, 500,400 steps, 256.2 million images
          seen.
Expected: Mask R-CNN R50-FPN 1x on COCO, teacher's encoder: 41.8 box AP, 37.8 mask AP (SlotCon
          README). Published numbers, not measured with this code yet.
"""

_base_ = ["slotcon_r50_in1k_100e.py"]

train_cfg = dict(max_epochs=200)
