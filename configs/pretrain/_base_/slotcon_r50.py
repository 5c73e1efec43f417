"""What all of the paper's pretrainings share: model, optimizer, schedule, logging.

Wen et al., "Self-Supervised Visual Representation Learning with Semantic Grouping", NeurIPS 2022
(arXiv 2205.15288). A config that builds on this one adds the images, the number of epochs and, on
ImageNet, the number of prototypes.

The numbers that look odd:
- lr 2.0 = 1.0 x 512 / 256 for a global batch of 512 = 8 processes x 64. Another batch rescales it
  (auto_scale_lr): one GPU with 64 images trains with 0.25.
- interval 50 of LoggerHook: OutputsWindowHook averages over the same 50, so window_size is 1 here,
  except for the times, which are averaged by the log processor.
- max_keep_ckpts 3: MMEngine removes the oldest before it writes the newest.
"""

custom_imports = dict(imports=["slotcon_plugin"], allow_failed_imports=False)
default_scope = "mmengine"

model = dict(
    type="SlotCon",
    backbone=dict(type="TorchvisionResNet", depth=50),
    neck=dict(type="PixelProjector", in_channels=2048, hidden_channels=4096, out_channels=256),
    head=dict(
        type="PrototypeHead",
        prototypes=dict(type="Prototypes", num_prototypes=256, channels=256),
        group_loss=dict(
            type="GroupingLoss",
            student_temperature=0.1,
            teacher_temperature=0.07,
            center_momentum=0.9,
        ),
        slot_loss=dict(type="SlotLoss", temperature=0.2),
        group_loss_weight=0.5,
        predictor=dict(type="SlotPredictor", channels=256, hidden_channels=4096),
    ),
    teacher_momentum=0.99,  # at the first step; 1 at the last
    compile=False,
    channels_last=False,
    data_preprocessor=dict(type="TwoViewPreprocessor"),
)

train_dataloader = dict(
    batch_size=64,  # on each of 8 processes
    num_workers=8,
    persistent_workers=True,
    pin_memory=True,
    drop_last=True,
    sampler=dict(type="ImageSampler", shuffle=True),
    collate_fn=dict(type="default_collate"),
)

optim_wrapper = dict(
    type="AmpOptimWrapper",
    dtype="float16",
    loss_scale="dynamic",
    optimizer=dict(
        type="SlotConLARS", lr=2.0, momentum=0.9, weight_decay=1e-5, trust_coefficient=0.001
    ),
)
auto_scale_lr = dict(enable=True, base_batch_size=512)
param_scheduler = dict(  # from lr / 100 to lr in 5 epochs, then a cosine to 1e-6, per iteration
    type="WarmupCosineLR", warmup=5, final=1e-6, by_epoch=True, convert_to_iter_based=True
)

default_hooks = dict(
    logger=dict(type="LoggerHook", interval=50),
    checkpoint=dict(
        type="CheckpointHook", interval=1, max_keep_ckpts=3, backend_args=dict(backend="atomic")
    ),
)
custom_hooks = [
    dict(type="LossGuardHook", patience=5),  # first: it wants every loss
    dict(type="OutputsWindowHook"),
    dict(type="TeacherHook"),
    dict(type="DiagnosticsHook"),
    dict(type="ImageReportHook", max_unreadable=0.01),
    dict(type="ResumeHook"),
]
log_processor = dict(
    window_size=1,
    custom_cfg=[
        dict(data_src="time", method_name="mean", window_size=50),
        dict(data_src="data_time", method_name="mean", window_size=50),
    ],
)
visualizer = dict(
    type="Visualizer",
    vis_backends=[dict(type="LocalVisBackend"), dict(type="TensorboardVisBackend")],
)

env_cfg = dict(
    cudnn_benchmark=True,  # the encoder's batches all have the same shape
    mp_cfg=dict(mp_start_method="fork", opencv_num_threads=0),
    dist_cfg=dict(backend="nccl"),
)
randomness = dict(seed=0)
log_level = "INFO"
load_from = None
resume = False
