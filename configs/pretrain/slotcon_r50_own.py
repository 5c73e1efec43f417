"""SlotCon, ResNet-50, your own images, on GPUs: all values follow from the images.

Paper:    Wen et al., NeurIPS 2022 (arXiv 2205.15288); of COCO's images this is its recipe.
Command:  slotcon train slotcon_r50_own --gpus 8 --data /my/images --budget 12h
Data:     any images, from one on, named by --data or DATA_ROOT.
Cost:     the budget: a time, or a number of epochs (--budget 200epochs). By default 800 epochs as
          in the paper, fewer for more than 320,000 images.
Expected: an encoder with all four stages, for mmdet, mmseg and detectron2. Not run at length.

Entries "auto" are as in slotcon_r18_own.py.
"""

_base_ = ["slotcon_r50_coco.py"]

budget = "paper"
model = dict(head=dict(prototypes=dict(num_prototypes="auto")), teacher_momentum="auto")
train_dataloader = dict(
    batch_size="auto",
    sampler=dict(rounds="auto"),
    dataset=dict(
        source="{{$DATA_ROOT:data/images}}",
        preset=None,  # all images in the source, not those of COCO's folders as in the base
    ),
)
optim_wrapper = dict(optimizer=dict(lr="auto"))
auto_scale_lr = dict(enable=False, base_batch_size="auto")
param_scheduler = dict(warmup="auto")
train_cfg = dict(max_epochs="auto")
default_hooks = dict(checkpoint=dict(interval="auto"))
