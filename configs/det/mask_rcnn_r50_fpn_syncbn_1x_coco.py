"""Mask R-CNN, ResNet-50-FPN, COCO, 1x, by mmdet: the paper's detection transfer.

Paper:    Wen et al., NeurIPS 2022 (arXiv 2205.15288); He et al., "Mask R-CNN" (arXiv 1703.06870).
Command:  slotcon train mask_rcnn_r50_fpn_syncbn_1x_coco --gpus 8 --backbone FILE
Data:     COCO 2017 with annotations; COCO_ROOT.
Cost:     90,000 iterations of 16 images: 1.44 million images, 12.2 epochs of the 117,266 that
          have objects.
Expected: SlotCon, COCO, 800 epochs: 41.0 box AP, 37.0 mask AP; random weights 32.8 and 29.9;
          supervised 39.7 and 35.9. Published numbers of detectron2's Mask R-CNN with this
          protocol, not measured with this code yet. docs/transfers.md lists how mmdet's differs.

The model file in _base_ lists what is not mmdet's usual Mask R-CNN. Before each evaluation the
batch-norm statistics are measured over 200 batches (default_hooks.precise_bn).
"""

_base_ = [
    "../_base_/models/mask_rcnn_r50_fpn_syncbn.py",
    "../_base_/datasets/coco_instance.py",
    "../_base_/schedules/detectron2_1x.py",
    "../_base_/det_runtime.py",
]
