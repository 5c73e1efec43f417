"""SlotCon, ResNet-18, your own images, on a CPU or a small GPU: all values follow from the images.

Paper:    Wen et al., NeurIPS 2022 (arXiv 2205.15288); this recipe is ours.
Command:  slotcon train slotcon_r18_own --data /my/images --budget 45min
Data:     any images, from one on, named by --data or DATA_ROOT.
Cost:     the budget, an hour by default: a time, or a number of epochs (--budget 200epochs).
Expected: an encoder with all four stages. mmdet and mmseg compute the same with these strides and
          dilations (fcn_own has them), as do --to onnx and --to zoo; with a ResNet's usual strides
          (Mask R-CNN, detectron2) or the paper's contract_dilation (fcn_r50_voc12aug), the weights
          fit and the features differ.

Entries "auto" follow from the number of images, the processes and the budget by rules, which the
module slotcon_plugin.runtime.recipe_rules lists, and are printed at the start. A number instead of
"auto", here or by --cfg-options, is used as it is; the other values then follow from it.

Found by a search on CamVid (docs/results.md): views of 96 pixels, of which many are seen in a
given time, and a last stage that is dilated instead of strided, as in the segmentation networks of
fcn_own, so that they have 6 x 6 positions. Layers are narrow as in slotcon_r18_small.py. On a
CPU with bfloat16 instructions, bfloat16 and channels_last halve the time of a step.
"""

_base_ = [
    "../_base_/models/slotcon_r50.py",
    "../_base_/datasets/unlabeled_images.py",
    "../_base_/schedules/lars_cosine_800e.py",
    "../_base_/pretrain_runtime.py",
]

budget = "1h"
bf16_on_cpu = True
model = dict(
    backbone=dict(depth=18, strides=(1, 2, 2, 1), dilations=(1, 1, 1, 2)),
    neck=dict(in_channels=512, hidden_channels=512, out_channels=128),
    head=dict(
        prototypes=dict(num_prototypes="auto", channels=128),
        predictor=dict(channels=128, hidden_channels=512),
    ),
    teacher_momentum="auto",
    channels_last=True,
)
train_dataloader = dict(
    batch_size="auto",
    num_workers=2,
    sampler=dict(rounds="auto"),
    dataset=dict(source="{{$DATA_ROOT:data/images}}", views=dict(type="TwoViews", size=96)),
)
optim_wrapper = dict(optimizer=dict(lr="auto"))
auto_scale_lr = dict(enable=False, base_batch_size="auto")
param_scheduler = dict(warmup="auto")
train_cfg = dict(max_epochs="auto")
default_hooks = dict(logger=dict(interval=10), checkpoint=dict(interval="auto"))
log_processor = dict(
    custom_cfg=[
        dict(data_src="time", method_name="mean", window_size=10),
        dict(data_src="data_time", method_name="mean", window_size=10),
    ]
)
