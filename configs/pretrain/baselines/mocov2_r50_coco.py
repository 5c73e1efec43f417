"""MoCo v2, ResNet-50, COCO, 800 epochs, on the images, views and batch of slotcon_r50_coco.

Paper:    Chen et al., "Improved Baselines with Momentum Contrastive Learning" (arXiv 2003.04297).
          The implementation is mmpretrain's.
Command:  slotcon train mocov2_r50_coco --gpus 8
Data:     every image of train2017 (118,287), no labels, named by COCO_ROOT.
Cost:     8 GPUs x 64 images, 184,800 steps. Hours and memory: not measured.
Expected: not run at length.

Network, queue, momentum and SGD (lr 0.03 for a batch of 256, no warm-up) are those of mmpretrain's
mocov2_resnet50_8xb32-coslr-200e_in1k. Batch norms are not synchronized: keys are shuffled over
the processes instead, which in one process does nothing.
"""

_base_ = ["../slotcon_r50_coco.py"]

custom_imports = dict(imports=["slotcon_plugin", "mmpretrain.models"], allow_failed_imports=False)

model = dict(
    _delete_=True,
    type="mmpretrain.MoCo",
    queue_len=65536,
    feat_dim=128,
    momentum=0.001,
    backbone=dict(type="TorchvisionResNet", depth=50),
    neck=dict(type="mmpretrain.MoCoV2Neck", in_channels=2048, hid_channels=2048, out_channels=128),
    head=dict(
        type="mmpretrain.ContrastiveHead",
        loss=dict(type="mmpretrain.CrossEntropyLoss"),
        temperature=0.2,
    ),
    data_preprocessor=dict(type="TwoViewPreprocessor"),
)
optim_wrapper = dict(
    optimizer=dict(_delete_=True, type="SGD", lr=0.06, momentum=0.9, weight_decay=1e-4)
)
param_scheduler = dict(warmup=0, final=0)
sync_bn = None
