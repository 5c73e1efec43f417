"""Checks the weights that a training starts from."""

from mmengine.hooks import Hook
from mmengine.runner import find_latest_checkpoint

from ..checkpoints.fill import check_state_dict
from ..checkpoints.left_out import RECORD, LeftOut, check_initial_weights


class WeightsHook(Hook):
    """Refuses weights that do not fit the model, which MMEngine would load in part.

    These are a checkpoint to resume or `load_from`, and files in `init_cfg`. Tensors that the
    config's `allow_missing` names may be left out, see `LeftOut`; they are listed in the log and in
    `meta` of each checkpoint. `slotcon train` adds this hook; in other scripts `BackboneHook`,
    `TeacherHook` and `ResumeCheckHook` do the same.
    """

    def after_load_checkpoint(self, runner, checkpoint: dict) -> None:
        """Compare a checkpoint with the model before MMEngine loads it; a resume needs all."""
        if not self._is_first(runner):
            return
        path = runner._load_from or find_latest_checkpoint(runner.work_dir) or "the file"
        left_out = None if runner._resume else left_out_of(runner)
        check_state_dict(runner.model, checkpoint, path, left_out)
        if runner._resume:
            left_out_of(runner).resume(checkpoint.get("meta", {}), str(path))

    def before_train(self, runner) -> None:
        """Check the files in `init_cfg` and that each pattern was needed; log what is left out."""
        if not self._is_first(runner):
            return
        left_out = left_out_of(runner)
        if not runner._resume:
            check_initial_weights(runner.model, left_out)
            left_out.check_used()
        for line in left_out.lines():
            runner.logger.warning(line)

    def _is_first(self, runner) -> bool:
        """Whether this hook checks for all hooks of its kind, of which the first fills weights."""
        return self is next(hook for hook in runner.hooks if isinstance(hook, WeightsHook))

    def before_save_checkpoint(self, runner, checkpoint: dict) -> None:
        """Record what was left out."""
        if names := left_out_of(runner).names:
            checkpoint["meta"][RECORD] = names


def left_out_of(runner) -> LeftOut:
    """The tensors that a runner leaves out; the same object for all of its hooks."""
    if not hasattr(runner, RECORD):
        setattr(runner, RECORD, LeftOut(runner.cfg.get("allow_missing")))
    return getattr(runner, RECORD)
