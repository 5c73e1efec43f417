"""FCN, ResNet-50, VOC 2012 aug, 30k iterations: the paper's transfer, exactly as published.

Paper:    Wen et al., NeurIPS 2022 (arXiv 2205.15288); Long et al., FCN (arXiv 1411.4038).
Command:  tools/dist_train.sh configs/seg/fcn_r50_voc12aug.py 8 --backbone FILE
Data:     VOC 2012 train and SBD's additional images (10,582) to val (1,449); VOC_ROOT names the
          folder VOC2012.
Cost:     30,000 iterations of 16 crops of 513 x 513: 480,000 crops, 45 epochs.
Expected: SlotCon, COCO, 800 epochs: 71.6 mIoU. Published number, not measured with this code yet;
          the paper does not say of how many runs: report mean and spread over seeds.

Quirk of the published config, kept: mean and std are those of pixels of 0-1, the pixels are 0-255.
The backbone so sees images 255 times as bright as in pretraining; its batch norms take that up.
fcn_r50_voc12aug_corrected.py is the same without it.
"""

_base_ = ["_base_/fcn.py"]

data_layout = "voc12aug"
data_root = "{{$VOC_ROOT:data/VOCdevkit/VOC2012}}/"
crop_size = (513, 513)
train_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="LoadAnnotations"),
    dict(type="RandomResize", scale=(2049, 513), ratio_range=(0.5, 2.0), keep_ratio=True),
    dict(type="RandomCrop", crop_size=crop_size),
    dict(type="RandomFlip", prob=0.5),
    dict(type="PackSegInputs"),
]
test_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="Resize", scale=(2049, 513), keep_ratio=True),
    dict(type="LoadAnnotations"),
    dict(type="PackSegInputs"),
]

model = dict(
    data_preprocessor=dict(
        type="SegDataPreProcessor",
        mean=[0.485, 0.456, 0.406],  # of 0-1, applied to pixels of 0-255: the quirk
        std=[0.229, 0.224, 0.225],
        bgr_to_rgb=True,
        pad_val=0,
        seg_pad_val=255,
        size=crop_size,
    ),
    decode_head=dict(num_classes=21),
)
labeled = dict(type="PascalVOCDataset", data_root=data_root, pipeline=train_pipeline)
train_dataloader = dict(
    batch_size=2,
    num_workers=4,
    persistent_workers=True,
    pin_memory=True,
    sampler=dict(type="InfiniteSampler", shuffle=True),
    dataset=dict(
        type="ConcatDataset",
        datasets=[
            dict(
                **labeled,
                data_prefix=dict(img_path="JPEGImages", seg_map_path="SegmentationClass"),
                ann_file="ImageSets/Segmentation/train.txt",
            ),
            dict(
                **labeled,
                data_prefix=dict(img_path="JPEGImages", seg_map_path="SegmentationClassAug"),
                ann_file="ImageSets/Segmentation/aug.txt",
            ),
        ],
    ),
)
val_dataloader = dict(
    batch_size=1,
    num_workers=4,
    persistent_workers=True,
    pin_memory=True,
    sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=dict(
        type="PascalVOCDataset",
        data_root=data_root,
        data_prefix=dict(img_path="JPEGImages", seg_map_path="SegmentationClass"),
        ann_file="ImageSets/Segmentation/val.txt",
        pipeline=test_pipeline,
    ),
)
test_dataloader = val_dataloader

train_cfg = dict(type="IterBasedTrainLoop", max_iters=30_000, val_interval=3_000)
optim_wrapper = dict(
    type="OptimWrapper",
    optimizer=dict(type="SGD", lr=0.003, momentum=0.9, weight_decay=1e-4),
)
param_scheduler = dict(type="MultiStepLR", milestones=[21_000, 27_000], gamma=0.1, by_epoch=False)
work_dir = "{{$SLOTCON_WORK_DIR:work_dirs/fcn_r50_voc12aug}}"
