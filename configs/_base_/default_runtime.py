"""Runtime settings of every config.

All hooks have names in default_hooks, MMEngine's own and ours, so that one entry of one hook can be
changed by name: --cfg-options default_hooks.loss_guard.patience=10. MMEngine runs hooks by their
priority, then in the order in which they are listed. custom_hooks is left to the user.
"""

custom_imports = dict(imports=["slotcon_plugin"], allow_failed_imports=False)

default_hooks = dict(
    logger=dict(type="LoggerHook", interval=50),
    checkpoint=dict(  # "atomic" removes the oldest after it has written the newest
        type="CheckpointHook", max_keep_ckpts=3, backend_args=dict(backend="atomic")
    ),
    loss_guard=dict(type="LossGuardHook", patience=5),
    diagnostics=dict(type="DiagnosticsHook"),
)
vis_backends = [dict(type="LocalVisBackend"), dict(type="TensorboardVisBackend")]
visualizer = dict(type="Visualizer", vis_backends=vis_backends, name="visualizer")

env_cfg = dict(
    cudnn_benchmark=True,  # every batch has the same shape
    mp_cfg=dict(mp_start_method="fork", opencv_num_threads=0),
    dist_cfg=dict(backend="nccl"),
)
randomness = dict(seed=0)
log_level = "INFO"
load_from = None
resume = False
