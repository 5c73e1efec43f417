"""VOC 2012 train with SBD's additional images (10,582) to val (1,449), crops of 513."""

_base_ = ["segmentation.py"]

data_layout = "voc12aug"
data_root = "{{$VOC_ROOT:data/VOCdevkit/VOC2012}}/"
train_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="LoadAnnotations"),
    dict(type="RandomResize", scale=(2049, 513), ratio_range=(0.5, 2.0), keep_ratio=True),
    dict(type="RandomCrop", crop_size=(513, 513)),
    dict(type="RandomFlip", prob=0.5),
    dict(type="PackSegInputs"),
]
test_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="Resize", scale=(2049, 513), keep_ratio=True),
    dict(type="LoadAnnotations"),
    dict(type="PackSegInputs"),
]

labeled = dict(type="PascalVOCDataset", data_root=data_root, pipeline=train_pipeline)
train_dataloader = dict(
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
    dataset=dict(
        type="PascalVOCDataset",
        data_root=data_root,
        data_prefix=dict(img_path="JPEGImages", seg_map_path="SegmentationClass"),
        ann_file="ImageSets/Segmentation/val.txt",
        pipeline=test_pipeline,
    ),
)
test_dataloader = val_dataloader
