"""SlotCon, ViT-S/16 of timm, COCO, 800 epochs: our recipe, not validated at length.

Paper:    Wen et al., NeurIPS 2022 (arXiv 2205.15288), for ResNets; encoder, heads and schedule here
          are ours, with the numbers of SlotMIM's recipe for ViTs (arXiv 2503.06960).
Command:  slotcon train slotcon_vit_small_coco --gpus 8
          from timm's weights: the same with --backbone FILE (docs/encoders.md)
Data:     every image of train2017 (118,287), no labels. The folder that holds train2017/ is named
          by COCO_ROOT or by --cfg-options train_dataloader.dataset.source=PATH. Needs timm.
Cost:     8 GPUs x 64 images. floor(118,287 / 512) = 231 steps an epoch, 184,800 steps,
          94.6 million images seen (two views of each).
          Hours and memory: not measured yet.
Expected: unknown: only short trainings were run, to see that everything works.

What differs from the paper's recipe: AdamW instead of LARS, weight decay from 0.04 to 0.4, warm-up
of 10 epochs, gradients clipped to 0.3, teacher momentum from 0.996, stochastic depth 0.1 in the
student, heads without batch norm, projector of width 2048, predictor of 2 layers. The map
has stride 16: 14 x 14 positions of a view of 224 pixels.
"""

_base_ = [
    "../_base_/models/slotcon_adamw.py",
    "../_base_/datasets/unlabeled_images.py",
    "../_base_/schedules/adamw_cosine_800e.py",
    "../_base_/pretrain_runtime.py",
]

model = dict(
    backbone=dict(
        _delete_=True, type="TimmEncoder", name="vit_small_patch16_224", drop_path_rate=0.1
    )
)
train_dataloader = dict(dataset=dict(source="{{$COCO_ROOT:data/coco}}", preset="coco"))
default_hooks = dict(iter_seed=dict(type="IterSeedHook"))  # a resumed training drops the same paths
