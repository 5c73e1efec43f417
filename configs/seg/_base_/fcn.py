"""What the segmentation transfers share: FCN on ResNet-50, schedule's frame, logging; no data.

Protocol of the paper (Wen et al., NeurIPS 2022, arXiv 2205.15288), written for mmseg 1.x: a total
batch of 16, synchronized batch norm everywhere. The backbone and head here are those of VOC and
Cityscapes (stride 16, dilation 6); ADE20K's config replaces them.

The numbers that look odd:
- contract_dilation: the first block of a dilated stage has the dilation of the stage before, as in
  the published configs.
- batch_size 2: for 8 GPUs; tools/train.py divides total_batch_size among any number of processes.
"""

custom_imports = dict(imports=["slotcon_plugin"], allow_failed_imports=False)
default_scope = "mmseg"

norm_cfg = dict(type="SyncBN", requires_grad=True)
model = dict(
    type="EncoderDecoder",
    backbone=dict(
        type="ResNet",
        depth=50,
        num_stages=4,
        out_indices=(0, 1, 2, 3),
        strides=(1, 2, 2, 1),
        dilations=(1, 1, 1, 2),
        contract_dilation=True,
        norm_cfg=norm_cfg,
        norm_eval=False,
        style="pytorch",
    ),
    decode_head=dict(
        type="FCNHead",
        in_channels=2048,
        in_index=3,
        channels=256,
        num_convs=2,
        dilation=6,
        concat_input=False,
        dropout_ratio=0,
        norm_cfg=norm_cfg,
        align_corners=True,
        loss_decode=dict(type="CrossEntropyLoss", use_sigmoid=False, loss_weight=1.0),
    ),
    train_cfg=dict(),
    test_cfg=dict(mode="whole"),
)

total_batch_size = 16
auto_scale_lr = dict(enable=False, base_batch_size=16)
val_cfg = dict(type="ValLoop")
test_cfg = dict(type="TestLoop")
val_evaluator = dict(type="IoUMetric", iou_metrics=["mIoU"])
test_evaluator = val_evaluator

default_hooks = dict(
    logger=dict(type="LoggerHook", interval=50),
    checkpoint=dict(
        type="CheckpointHook",
        by_epoch=False,
        interval=3_000,
        max_keep_ckpts=3,
        backend_args=dict(backend="atomic"),
    ),
)
custom_hooks = [
    dict(type="LossGuardHook", patience=5),
    dict(type="BackboneHook", source="{{$SLOTCON_BACKBONE:unnamed}}"),
    dict(type="DiagnosticsHook"),
    dict(type="ResumeHook"),
]
log_processor = dict(by_epoch=False)
visualizer = dict(
    type="SegLocalVisualizer",
    vis_backends=[dict(type="LocalVisBackend"), dict(type="TensorboardVisBackend")],
)
env_cfg = dict(
    cudnn_benchmark=True,  # every crop has the same shape
    mp_cfg=dict(mp_start_method="fork", opencv_num_threads=0),
    dist_cfg=dict(backend="nccl"),
)
randomness = dict(seed=0)
log_level = "INFO"
load_from = None
resume = False
