"""SlotCon, ResNet-50, COCO, 800 epochs, 27 prototypes: for unsupervised segmentation.

Paper:    Wen et al., NeurIPS 2022 (arXiv 2205.15288).
Command:  tools/dist_train.sh configs/pretrain/slotcon_r50_coco_k27.py 8
Data:     every image of train2017 (118,287), no labels. COCO_ROOT, or
          --cfg-options train_dataloader.dataset.source=PATH, names the folder of train2017/.
Cost:     8 GPUs x 64 images. floor(118,287 / 512) = 231 steps an epoch, 184,800 steps,
          94.6 million images seen (two views of each).
          Hours and memory: not measured yet.
Expected: unsupervised COCO-Stuff 27: 18.26 mIoU, 42.36 pixel accuracy (paper's summary).
          tools/evaluate.py unsupervised. Published numbers, not measured with this code yet.

27 prototypes, one for each coarse class of COCO-Stuff: the one-to-one matching of the protocol
leaves every further prototype without a class, and its pixels are errors. All else is the paper's
pretraining on COCO; the authors' own recipe for this table was not published.
"""

_base_ = ["_base_/slotcon_r50.py"]

model = dict(head=dict(prototypes=dict(num_prototypes=27)))
train_dataloader = dict(
    dataset=dict(type="UnlabeledImages", source="{{$COCO_ROOT:data/coco}}", preset="coco")
)
train_cfg = dict(type="EpochBasedTrainLoop", max_epochs=800)
work_dir = "{{$SLOTCON_WORK_DIR:work_dirs/slotcon_r50_coco_k27}}"
