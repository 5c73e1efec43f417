"""BYOL, ResNet-18 at stride 16, on the images, views and batch of slotcon_r18_small.

Paper:    Grill et al., "Bootstrap Your Own Latent", NeurIPS 2020 (arXiv 2006.07733);
          this recipe is ours. The implementation is mmpretrain's.
Command:  slotcon train byol_r18_small --data /my/images --epochs 30
Data:     some hundred images or more, named by --data or DATA_ROOT; at least 32.
Cost:     30 epochs of 701 images are 630 steps; minutes: not measured.
Expected: not run at length.

As byol_r50_coco.py, with narrow layers, 5 epochs of warm-up and lr 2.0 for a batch of 32, which
follows the batch.
"""

_base_ = ["../slotcon_r18_demo.py"]

custom_imports = dict(imports=["slotcon_plugin", "mmpretrain.models"], allow_failed_imports=False)

norm = dict(type="BN1d")  # synchronized on several GPUs
model = dict(
    _delete_=True,
    type="mmpretrain.BYOL",
    base_momentum=0.01,
    backbone=dict(type="TorchvisionResNet", depth=18, num_stages=3),
    neck=dict(
        type="mmpretrain.NonLinearNeck",
        in_channels=256,
        hid_channels=512,
        out_channels=128,
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
            in_channels=128,
            hid_channels=512,
            out_channels=128,
            with_avg_pool=False,
            with_last_bn=False,
            with_bias=True,
            norm_cfg=norm,
        ),
    ),
    data_preprocessor=dict(type="TwoViewPreprocessor"),
)
optim_wrapper = dict(
    optimizer=dict(_delete_=True, type="mmpretrain.LARS", lr=2.0, momentum=0.9, weight_decay=1e-6),
    paramwise_cfg=dict(
        custom_keys={
            name: dict(decay_mult=0, lars_exclude=True) for name in ("bn", "bias", "downsample.1")
        }
    ),
)
train_dataloader = dict(batch_size=32, dataset=dict(views=dict(size=96, scale=(0.08, 1.0))))
auto_scale_lr = dict(base_batch_size=32)
train_cfg = dict(max_epochs=30)
