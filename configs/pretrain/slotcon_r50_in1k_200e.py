"""SlotCon, ResNet-50, ImageNet-1K, 200 epochs.

Paper:    Wen et al., NeurIPS 2022 (arXiv 2205.15288).
Command:  tools/dist_train.sh configs/pretrain/slotcon_r50_in1k_200e.py 8
Data:     the training images (1,281,167), no labels. IMAGENET_ROOT, or
          --cfg-options train_dataloader.dataset.source=PATH, names the folder that holds train/.
Cost:     8 GPUs x 64 images. floor(1,281,167 / 512) = 2,502 steps an epoch, 500,400 steps, 256.2
          million images seen (two views of each).
          Hours and memory: not measured yet.
Expected: Mask R-CNN R50-FPN 1x on COCO, teacher's encoder: 41.8 box AP, 37.8 mask AP (SlotCon
          README). Published numbers, not measured with this code yet.

2,048 prototypes instead of COCO's 256: object-centered images of 1,000 classes hold more kinds.
"""

_base_ = ["_base_/slotcon_r50.py"]

model = dict(head=dict(prototypes=dict(num_prototypes=2048)))
train_dataloader = dict(
    dataset=dict(
        type="UnlabeledImages", source="{{$IMAGENET_ROOT:data/imagenet}}", preset="imagenet"
    )
)
train_cfg = dict(type="EpochBasedTrainLoop", max_epochs=200)
work_dir = "{{$SLOTCON_WORK_DIR:work_dirs/slotcon_r50_in1k_200e}}"
