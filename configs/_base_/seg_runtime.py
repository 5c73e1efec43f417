"""Runtime settings of the segmentation configs: logging, hooks, evaluation loops and metric."""

_base_ = ["default_runtime.py"]

default_scope = "mmseg"

val_cfg = dict(type="ValLoop")
test_cfg = dict(type="TestLoop")
val_evaluator = dict(type="IoUMetric", iou_metrics=["mIoU"])
test_evaluator = val_evaluator

default_hooks = dict(
    checkpoint=dict(by_epoch=False, interval=3_000),
    backbone=dict(type="BackboneHook", source="{{$SLOTCON_BACKBONE:unnamed}}"),
    resume_check=dict(type="ResumeCheckHook"),
)
log_processor = dict(by_epoch=False)
visualizer = dict(type="SegLocalVisualizer")
