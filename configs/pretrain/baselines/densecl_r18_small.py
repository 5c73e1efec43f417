"""DenseCL, ResNet-18 at stride 16, on the images, views and batch of slotcon_r18_small.

Paper:    Wang et al., "Dense Contrastive Learning", CVPR 2021 (arXiv 2011.09157);
          this recipe is ours. The implementation is mmpretrain's.
Command:  slotcon train densecl_r18_small --data /my/images --epochs 30
Data:     some hundred images or more, named by --data or DATA_ROOT; at least 32.
Cost:     30 epochs of 701 images are 630 steps, 8 to 14 minutes of a core in bfloat16 with four
          stages, as configs/benchmark/small.yaml runs it.
Expected: docs/results.md.

As densecl_r50_coco.py, with queues of 512 keys, a momentum of 0.99 (mmpretrain writes 1 -
momentum), the dense loss from step 20 on, and lr 0.03 for a batch of 32, which follows the batch:
the best of 0.01, 0.03 and 0.1 on CamVid's validation frames (docs/results.md).
"""

_base_ = ["../slotcon_r18_demo.py"]

custom_imports = dict(imports=["slotcon_plugin", "mmpretrain.models"], allow_failed_imports=False)

model = dict(
    _delete_=True,
    type="mmpretrain.DenseCL",
    queue_len=512,
    feat_dim=128,
    momentum=0.01,
    loss_lambda=0.5,
    backbone=dict(type="TorchvisionResNet", depth=18, num_stages=3),
    neck=dict(type="mmpretrain.DenseCLNeck", in_channels=256, hid_channels=512, out_channels=128),
    head=dict(
        type="mmpretrain.ContrastiveHead",
        loss=dict(type="mmpretrain.CrossEntropyLoss"),
        temperature=0.2,
    ),
    data_preprocessor=dict(type="TwoViewPreprocessor"),
)
optim_wrapper = dict(
    optimizer=dict(_delete_=True, type="SGD", lr=0.03, momentum=0.9, weight_decay=1e-4)
)
param_scheduler = dict(warmup=0, final=0)
default_hooks = dict(densecl=dict(type="mmpretrain.DenseCLHook", start_iters=20))
sync_bn = None
train_dataloader = dict(batch_size=32, dataset=dict(views=dict(size=96, scale=(0.08, 1.0))))
auto_scale_lr = dict(base_batch_size=32)
train_cfg = dict(max_epochs=30)
