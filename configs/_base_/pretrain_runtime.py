"""Runtime settings of the pretraining configs.

Interval 50 of LoggerHook: AverageOutputsHook averages losses over the same 50 iterations, so
window_size is 1 here, except for the times, which the log processor averages.
"""

_base_ = ["default_runtime.py"]

default_scope = "mmengine"

default_hooks = dict(
    checkpoint=dict(interval=1),
    average_outputs=dict(type="AverageOutputsHook"),
    teacher=dict(type="TeacherHook"),
    unreadable_images=dict(type="UnreadableImagesHook", max_unreadable=0.01),
    resume_check=dict(type="ResumeCheckHook"),
    group_images=dict(type="GroupImagesHook"),
    feature_rank=dict(type="FeatureRankHook"),
)
log_processor = dict(
    window_size=1,
    custom_cfg=[
        dict(data_src="time", method_name="mean", window_size=50),
        dict(data_src="data_time", method_name="mean", window_size=50),
    ],
)
