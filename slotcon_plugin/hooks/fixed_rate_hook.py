"""Keeps some learning rates as they are while a schedule changes the others."""

from mmengine.hooks import Hook


class FixedRateHook(Hook):
    """Gives parameter groups with `fix_lr` the peak learning rate in every iteration.

    SimSiam's predictor is trained so. In the config: `optim_wrapper = dict(paramwise_cfg=dict(
    custom_keys=dict(predictor=dict(fix_lr=True))))`. Unlike mmpretrain's SimSiamHook it has no
    rate of its own: the peak follows the batch.
    """

    def before_train_iter(self, runner, batch_idx: int, data_batch=None) -> None:
        for group in runner.optim_wrapper.optimizer.param_groups:
            if group.get("fix_lr"):
                group["lr"] = group.get("initial_lr", group["lr"])  # without a schedule: as it is
