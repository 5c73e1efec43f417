"""SlotCon, ResNet-50, ImageNet-1K, 100 epochs.

Paper:    Wen et al., NeurIPS 2022 (arXiv 2205.15288).
Command:  slotcon train slotcon_r50_in1k_100e --gpus 8
Data:     the training images (1,281,167), no labels. The folder that holds train/ is named by
          IMAGENET_ROOT or by --cfg-options train_dataloader.dataset.source=PATH.
Cost:     8 GPUs x 64 images. floor(1,281,167 / 512) = 2,502 steps an epoch, 250,200 steps, 128.1
          million images seen (two views of each).
          Hours and memory: not measured yet.
Expected: Mask R-CNN R50-FPN 1x on COCO, teacher's encoder: 41.4 box AP, 37.2 mask AP (SlotCon
          README). Published numbers, not measured with this code yet.

2,048 prototypes instead of the 256 for COCO: ImageNet's object-centered images of 1,000 classes
show more kinds of things.
"""

_base_ = [
    "../_base_/models/slotcon_r50.py",
    "../_base_/datasets/unlabeled_images.py",
    "../_base_/schedules/lars_cosine_800e.py",
    "../_base_/pretrain_runtime.py",
]

model = dict(head=dict(prototypes=dict(num_prototypes=2048)))
train_dataloader = dict(dataset=dict(source="{{$IMAGENET_ROOT:data/imagenet}}", preset="imagenet"))
train_cfg = dict(max_epochs=100)
