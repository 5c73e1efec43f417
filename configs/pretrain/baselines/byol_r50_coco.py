"""BYOL, ResNet-50, COCO, 800 epochs, on the images, views and batch of slotcon_r50_coco.

Paper:    Grill et al., "Bootstrap Your Own Latent", NeurIPS 2020 (arXiv 2006.07733).
          The implementation is mmpretrain's.
Command:  slotcon train byol_r50_coco --gpus 8
Data:     every image of train2017 (118,287), no labels, named by COCO_ROOT.
Cost:     8 GPUs x 64 images, 184,800 steps. Hours and memory: not measured.
Expected: not run at length.

Network, momentum and LARS (lr 4.8 for a batch of 4,096, 10 epochs of warm-up, nothing of it for
norms and biases) are those of mmpretrain's byol_resnet50_16xb256-coslr-200e_in1k.
"""

_base_ = ["../slotcon_r50_coco.py"]

custom_imports = dict(imports=["slotcon_plugin", "mmpretrain.models"], allow_failed_imports=False)

norm = dict(type="BN1d")  # synchronized on several GPUs
model = dict(
    _delete_=True,
    type="mmpretrain.BYOL",
    base_momentum=0.01,
    backbone=dict(type="TorchvisionResNet", depth=50),
    neck=dict(
        type="mmpretrain.NonLinearNeck",
        in_channels=2048,
        hid_channels=4096,
        out_channels=256,
        num_layers=2,
        with_bias=True,
        with_last_bn=False,
        norm_cfg=norm,
    ),
    head=dict(
        type="mmpretrain.LatentPredictHead",
        loss=dict(type="mmpretrain.CosineSimilarityLoss"),
        predictor=dict(
            type="mmpretrain.NonLinearNeck",
            in_channels=256,
            hid_channels=4096,
            out_channels=256,
            with_avg_pool=False,
            with_last_bn=False,
            with_bias=True,
            norm_cfg=norm,
        ),
    ),
    data_preprocessor=dict(type="TwoViewPreprocessor"),
)
optim_wrapper = dict(
    optimizer=dict(_delete_=True, type="mmpretrain.LARS", lr=0.6, momentum=0.9, weight_decay=1e-6),
    paramwise_cfg=dict(
        custom_keys={
            name: dict(decay_mult=0, lars_exclude=True) for name in ("bn", "bias", "downsample.1")
        }
    ),
)
param_scheduler = dict(warmup=10, final=0)
