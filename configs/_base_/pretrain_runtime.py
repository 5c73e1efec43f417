"""Runtime settings of the pretraining configs.

Interval 50 of LoggerHook: OutputsWindowHook averages losses over the same 50 iterations, so
window_size is 1 here, except for the times, which the log processor averages.
"""

_base_ = ["default_runtime.py"]

default_scope = "mmengine"

default_hooks = dict(
    checkpoint=dict(interval=1),
    outputs_window=dict(type="OutputsWindowHook"),
    teacher=dict(type="TeacherHook"),
    image_report=dict(type="ImageReportHook", max_unreadable=0.01),
    resume=dict(type="ResumeHook"),
)
log_processor = dict(
    window_size=1,
    custom_cfg=[
        dict(data_src="time", method_name="mean", window_size=50),
        dict(data_src="data_time", method_name="mean", window_size=50),
    ],
)
