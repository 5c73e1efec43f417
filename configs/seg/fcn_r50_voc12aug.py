"""FCN, ResNet-50, VOC 2012 aug, 30k iterations: the paper's transfer, exactly as published.

Paper:    Wen et al., NeurIPS 2022 (arXiv 2205.15288); Long et al., FCN (arXiv 1411.4038).
Command:  slotcon train fcn_r50_voc12aug --gpus 8 --backbone FILE
Data:     VOC 2012 train and SBD's additional images (10,582) to val (1,449); VOC_ROOT names the
          folder VOC2012.
Cost:     30,000 iterations of 16 crops of 513 x 513: 480,000 crops, 45 epochs.
Expected: SlotCon, COCO, 800 epochs: 71.6 mIoU. Published number, not measured with this code yet.
          The paper does not state the number of runs: report mean and spread over seeds.

The published config has a quirk, kept here: it normalizes pixels of 0-255 by the mean and standard
deviation of pixels of 0-1. So the backbone sees values about 255 times as large as in pretraining;
its batch norms adapt to that. fcn_r50_voc12aug_corrected.py is the same without the quirk.
"""

_base_ = [
    "../_base_/models/fcn_r50_syncbn.py",
    "../_base_/datasets/voc12aug.py",
    "../_base_/schedules/sgd_16.py",
    "../_base_/seg_runtime.py",
]

model = dict(
    data_preprocessor=dict(mean=[0.485, 0.456, 0.406], std=[0.229, 0.224, 0.225], size=(513, 513)),
    decode_head=dict(num_classes=21),
)
train_cfg = dict(max_iters=30_000, val_interval=3_000)
optim_wrapper = dict(optimizer=dict(lr=0.003))
param_scheduler = dict(type="MultiStepLR", milestones=[21_000, 27_000], gamma=0.1, by_epoch=False)
