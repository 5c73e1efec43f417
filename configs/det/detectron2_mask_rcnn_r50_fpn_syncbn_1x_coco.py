"""detectron2's own Mask R-CNN, ResNet-50-FPN, COCO, 1x, trained by MMEngine's Runner.

Paper:    Wen et al., NeurIPS 2022 (arXiv 2205.15288); He et al., "Mask R-CNN" (arXiv 1703.06870).
Command:  slotcon train detectron2_mask_rcnn_r50_fpn_syncbn_1x_coco --gpus 8 \
              --backbone FILE
Data:     COCO 2017 with annotations; COCO_ROOT.
Needs:    detectron2, installed as its installation page describes.
Cost:     90,000 iterations of 16 images: 1.44 million images.
Expected: SlotCon, COCO, 800 epochs: 41.0 box AP, 37.0 mask AP (published, by detectron2's own
          trainer; not measured with this code yet).

Every layer is detectron2's; data pipeline, optimizer and schedule are those of
mask_rcnn_r50_fpn_syncbn_1x_coco.py.
"""

_base_ = [
    "../_base_/models/detectron2_mask_rcnn_r50_fpn_syncbn.py",
    "../_base_/datasets/coco_instance.py",
    "../_base_/schedules/detectron2_1x.py",
    "../_base_/det_runtime.py",
]
