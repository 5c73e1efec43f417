"""SimSiam, ResNet-18 at stride 16, on the images, views and batch of slotcon_r18_small.

Paper:    Chen and He, "Exploring Simple Siamese Representation Learning" (arXiv 2011.10566);
          this recipe is ours. The implementation is mmpretrain's.
Command:  slotcon train simsiam_r18_small --data /my/images --epochs 30
Data:     some hundred images or more, named by --data or DATA_ROOT; at least 32.
Cost:     30 epochs of 701 images are 630 steps; minutes: not measured.
Expected: not run at length.

As simsiam_r50_coco.py, with narrow layers and lr 0.05 for a batch of 32, which follows the batch.
"""

_base_ = ["../slotcon_r18_demo.py"]

custom_imports = dict(imports=["slotcon_plugin", "mmpretrain.models"], allow_failed_imports=False)

norm = dict(type="BN1d")  # synchronized on several GPUs
model = dict(
    _delete_=True,
    type="mmpretrain.SimSiam",
    backbone=dict(type="TorchvisionResNet", depth=18, num_stages=3),
    neck=dict(
        type="mmpretrain.NonLinearNeck",
        in_channels=256,
        hid_channels=512,
        out_channels=512,
        num_layers=3,
        with_last_bn_affine=False,
        norm_cfg=norm,
    ),
    head=dict(
        type="mmpretrain.LatentPredictHead",
        loss=dict(type="mmpretrain.CosineSimilarityLoss"),
        predictor=dict(
            type="mmpretrain.NonLinearNeck",
            in_channels=512,
            hid_channels=128,
            out_channels=512,
            with_avg_pool=False,
            with_last_bn=False,
            with_last_bias=True,
            norm_cfg=norm,
        ),
    ),
    data_preprocessor=dict(type="TwoViewPreprocessor"),
)
optim_wrapper = dict(
    optimizer=dict(_delete_=True, type="SGD", lr=0.05, momentum=0.9, weight_decay=1e-4),
    paramwise_cfg=dict(custom_keys=dict(predictor=dict(fix_lr=True))),
)
param_scheduler = dict(warmup=0, final=0)
default_hooks = dict(fixed_rate=dict(type="FixedRateHook"))
train_dataloader = dict(batch_size=32, dataset=dict(views=dict(size=96, scale=(0.08, 1.0))))
auto_scale_lr = dict(base_batch_size=32)
train_cfg = dict(max_epochs=30)
