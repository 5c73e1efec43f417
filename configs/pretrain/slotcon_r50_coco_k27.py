"""SlotCon, ResNet-50, COCO, 800 epochs, 27 prototypes: for unsupervised segmentation.

Paper:    Wen et al., NeurIPS 2022 (arXiv 2205.15288).
Command:  slotcon train slotcon_r50_coco_k27 --gpus 8
Data:     as slotcon_r50_coco.py: 118,287 images.
Cost:     as slotcon_r50_coco.py: 231 steps an epoch, 184,800 steps, 94.6 million images seen.
Expected: unsupervised COCO-Stuff 27: 18.26 mIoU, 42.36 pixel accuracy (paper's summary), measured
          by slotcon evaluate unsupervised. Published numbers, not measured with this code yet.

27 prototypes, one for each coarse class of COCO-Stuff: the protocol matches prototypes with classes
one to one, and the pixels of every further prototype count as errors. Everything else is the
paper's pretraining on COCO; the authors' own recipe for this table was not published.
"""

_base_ = ["slotcon_r50_coco.py"]

model = dict(head=dict(prototypes=dict(num_prototypes=27)))
