"""FCN, ResNet-50, Cityscapes, 90k iterations: the paper's transfer, exactly as published.

Paper:    Wen et al., NeurIPS 2022 (arXiv 2205.15288); Long et al., FCN (arXiv 1411.4038).
Command:  slotcon train fcn_r50_cityscapes --gpus 8 --backbone FILE
Data:     Cityscapes, gtFine train (2,975) to val (500); CITYSCAPES_ROOT.
Cost:     90,000 iterations of 16 crops of 769 x 769: 1.44 million crops, 484 epochs.
Expected: SlotCon, COCO, 800 epochs: 76.2 mIoU. Published number, not measured with this code yet.
          The paper does not state the number of runs: report mean and spread over seeds.

The published config has a quirk, kept here: it normalizes pixels of 0-255 by the mean and standard
deviation of pixels of 0-1. fcn_r50_cityscapes_corrected.py is the same without it. Evaluated in
windows of 769 pixels, 513 apart.
"""

_base_ = [
    "../_base_/models/fcn_r50_syncbn.py",
    "../_base_/datasets/cityscapes.py",
    "../_base_/schedules/sgd_16.py",
    "../_base_/seg_runtime.py",
]

model = dict(
    data_preprocessor=dict(mean=[0.485, 0.456, 0.406], std=[0.229, 0.224, 0.225], size=(769, 769)),
    decode_head=dict(num_classes=19),
    test_cfg=dict(mode="slide", crop_size=(769, 769), stride=(513, 513)),
)
train_cfg = dict(max_iters=90_000, val_interval=9_000)
optim_wrapper = dict(optimizer=dict(lr=0.01))
param_scheduler = dict(type="MultiStepLR", milestones=[63_000, 81_000], gamma=0.1, by_epoch=False)
default_hooks = dict(checkpoint=dict(interval=9_000))
