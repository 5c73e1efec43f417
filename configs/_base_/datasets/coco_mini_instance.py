"""Six small COCO images with boxes and masks, trained on and evaluated on, long side 320.

SLOTCON_DATA names a folder with images/ and instances.json. The six are among the first images of
instances.json; in coco_mini they are landscapes with at most four objects.
"""

_base_ = ["coco_instance.py"]

data_layout = "coco_mini"
data_root = "{{$SLOTCON_DATA:data/coco_mini}}/"

load_image = dict(type="LoadImageFromFile", imdecode_backend="pillow")
load_labels = dict(type="LoadAnnotations", with_bbox=True, with_mask=True, poly2mask=False)
resize = dict(type="Resize", scale=(320, 320), keep_ratio=True, backend="pillow")
pack = dict(
    type="PackDetInputs",  # `instances`: the metric's ground truth
    meta_keys=("img_id", "img_path", "ori_shape", "img_shape", "scale_factor", "instances"),
)
train_pipeline = [load_image, load_labels, resize, dict(type="PackDetInputs")]
test_pipeline = [load_image, resize, load_labels, pack]

six = dict(
    data_root=data_root,
    ann_file="instances.json",
    data_prefix=dict(img="images/"),
    indices=[0, 6, 8, 9, 10, 20],  # of the images that have objects
)
total_batch_size = 6
train_dataloader = dict(
    batch_size=6,
    num_workers=0,
    persistent_workers=False,
    dataset=dict(**six, pipeline=train_pipeline),
)
val_dataloader = dict(
    num_workers=0,
    persistent_workers=False,
    dataset=dict(
        **six,
        test_mode=False,  # filtered as in training: the same six
        filter_cfg=dict(filter_empty_gt=True),
        pipeline=test_pipeline,
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(ann_file=None)
test_evaluator = val_evaluator
