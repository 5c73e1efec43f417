"""SimSiam, ResNet-50, COCO, 800 epochs, on the images, views and batch of slotcon_r50_coco.

Paper:    Chen and He, "Exploring Simple Siamese Representation Learning" (arXiv 2011.10566).
          The implementation is mmpretrain's.
Command:  slotcon train simsiam_r50_coco --gpus 8
Data:     every image of train2017 (118,287), no labels, named by COCO_ROOT.
Cost:     8 GPUs x 64 images, 184,800 steps. Hours and memory: not measured.
Expected: not run at length.

Network and SGD (lr 0.05 for a batch of 256, no warm-up, constant for the predictor) are those of
mmpretrain's simsiam_resnet50_8xb32-coslr-100e_in1k.
"""

_base_ = ["../slotcon_r50_coco.py"]

custom_imports = dict(imports=["slotcon_plugin", "mmpretrain.models"], allow_failed_imports=False)

norm = dict(type="BN1d")  # synchronized on several GPUs
model = dict(
    _delete_=True,
    type="mmpretrain.SimSiam",
    backbone=dict(type="TorchvisionResNet", depth=50),
    neck=dict(
        type="mmpretrain.NonLinearNeck",
        in_channels=2048,
        hid_channels=2048,
        out_channels=2048,
        num_layers=3,
        with_last_bn_affine=False,
        norm_cfg=norm,
    ),
    head=dict(
        type="mmpretrain.LatentPredictHead",
        loss=dict(type="mmpretrain.CosineSimilarityLoss"),
        predictor=dict(
            type="mmpretrain.NonLinearNeck",
            in_channels=2048,
            hid_channels=512,
            out_channels=2048,
            with_avg_pool=False,
            with_last_bn=False,
            with_last_bias=True,
            norm_cfg=norm,
        ),
    ),
    data_preprocessor=dict(type="TwoViewPreprocessor"),
)
optim_wrapper = dict(
    optimizer=dict(_delete_=True, type="SGD", lr=0.1, momentum=0.9, weight_decay=1e-4),
    paramwise_cfg=dict(custom_keys=dict(predictor=dict(fix_lr=True))),
)
param_scheduler = dict(warmup=0, final=0)
default_hooks = dict(fixed_rate=dict(type="FixedRateHook"))
