"""Runtime settings of the detection configs: logging, hooks, evaluation loops."""

_base_ = ["default_runtime.py"]

default_scope = "mmdet"

val_cfg = dict(type="ValLoop")
test_cfg = dict(type="TestLoop")

default_hooks = dict(
    checkpoint=dict(by_epoch=False, interval=5_000),
    backbone=dict(type="BackboneHook", source="{{$SLOTCON_BACKBONE:unnamed}}"),
    precise_bn=dict(type="PreciseBNHook", iterations=200),  # as TEST.PRECISE_BN of detectron2
    resume_check=dict(type="ResumeCheckHook"),
)
log_processor = dict(by_epoch=False)
visualizer = dict(type="DetLocalVisualizer")
env_cfg = dict(cudnn_benchmark=False)  # batches differ in shape
