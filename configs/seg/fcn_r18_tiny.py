"""FCN with ResNet-18 on eight small images, 100 iterations: do training and evaluation run?

Paper:    none; a check of the software, used by configs/benchmark/mini.yaml and by the tests.
Command:  SLOTCON_DATA=/data/coco_mini slotcon train fcn_r18_tiny \
              --backbone none
Data:     as fcn_r18_mini.py
Cost:     100 iterations of 4 crops of 160 x 160: a minute on 2 CPU cores.
Expected: low metrics on its own training images, which say nothing about a method.
"""

_base_ = ["fcn_r18_mini.py"]

crop_size = (160, 160)
train_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="LoadAnnotations"),
    dict(type="RandomCrop", crop_size=crop_size),
    dict(type="RandomFlip", prob=0.5),
    dict(type="PackSegInputs"),
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))

model = dict(
    data_preprocessor=dict(size=crop_size),
    backbone=dict(strides=(1, 2, 2, 2), dilations=(1, 1, 1, 1)),
)
train_cfg = dict(max_iters=100, val_interval=100)
default_hooks = dict(
    logger=dict(interval=5), checkpoint=dict(interval=20), precise_bn=dict(iterations=3)
)
