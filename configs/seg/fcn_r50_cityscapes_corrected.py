"""FCN, ResNet-50, Cityscapes: the paper's transfer without the published normalization quirk.

Paper:    Wen et al., NeurIPS 2022 (arXiv 2205.15288). This variant is ours.
Command:  slotcon train fcn_r50_cityscapes_corrected --gpus 8 --backbone FILE
Data:     as fcn_r50_cityscapes.py
Cost:     as fcn_r50_cityscapes.py
Expected: not known; 76.2 mIoU is published for the configuration with the quirk.

Pixels of 0-255 are normalized as in pretraining; all else is fcn_r50_cityscapes.py.
"""

_base_ = ["fcn_r50_cityscapes.py"]

model = dict(data_preprocessor=dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375]))
