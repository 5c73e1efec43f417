"""Checks of a resumed training, and random numbers that are the same after a resume."""

from collections.abc import Iterator

from mmengine.hooks import Hook
from mmengine.runner import EpochBasedTrainLoop, find_latest_checkpoint

from ..checkpoints.run_changes import describe_run, find_changes
from ..datasets.seeding import draw_seeds, seed_everything
from ..errors import ConfigError
from ..functional.collectives import rank
from .weights_hook import WeightsHook

# A scheduler's progress, as opposed to the schedule that it follows.
PROGRESS = {"last_step", "_global_step", "_last_value", "verbose"}


class ResumeCheckHook(WeightsHook):
    """Refuses checkpoints of other models, and to resume another training than the first.

    MMEngine takes epoch, iteration, optimizer and the schedulers' ends from the checkpoint without
    comparing them. A resume under another schedule or optimizer is refused, and one with other
    images, another global batch or other settings of model and training data unless
    `allow_changes`. Other changes are logged, a line each: number of processes, precision, seed,
    evaluation, hooks. The empty loss scale of bfloat16 is not given to float16.

    Args:
        allow_changes: log changes of images, global batch and settings instead of refusing them.
    """

    def __init__(self, allow_changes: bool = False) -> None:
        if not isinstance(allow_changes, bool):
            raise ValueError(f"allow_changes is {allow_changes!r}, expected True or False")
        self.allow_changes = allow_changes

    def after_load_checkpoint(self, runner, checkpoint: dict) -> None:
        """Compare the checkpoint's weights, schedule and run with the runner's."""
        path = runner._load_from or find_latest_checkpoint(runner.work_dir) or "the file"
        super().after_load_checkpoint(runner, checkpoint)
        if not runner._resume or "optimizer" not in checkpoint:
            return
        if not checkpoint["optimizer"].get("loss_scaler", True):
            del checkpoint["optimizer"]["loss_scaler"]
        run = describe_run(runner.train_dataloader.dataset)
        changes = find_changes(checkpoint, runner.cfg, run)
        same = "data, global batch (processes x batch x accumulation)"
        anew = (
            "or start a new training from its weights: --cfg-options "
            f"load_from={path} in another --work-dir."
        )
        if schedule := [*_schedule_changes(runner, checkpoint), *changes.optimizer]:
            raise ConfigError(
                f"{path} was trained under another schedule: {'; '.join(schedule)}. Resume with "
                f"the same {same}, optimizer, learning rate and max_epochs; {anew}"
            )
        if changes.result and not self.allow_changes:
            raise ConfigError(
                f"{path} is of another training: {'; '.join(changes.result)}. Resume with the same "
                f"{same} and settings; or continue with the changes: --cfg-options "
                f"+default_hooks.resume_check.allow_changes=True; {anew}"
            )
        for line in (*changes.result, *changes.others):
            runner.logger.warning(f"resumed with a change: {line}")
        if (seed := checkpoint["meta"].get("seed", runner.seed)) != runner.seed:
            runner.logger.warning(f"resumed with a change: seed was {seed}, now {runner.seed}")

    def before_save_checkpoint(self, runner, checkpoint: dict) -> None:
        """Note in the checkpoint what its training depends on besides the config."""
        super().before_save_checkpoint(runner, checkpoint)
        checkpoint["meta"]["run"] = describe_run(runner.train_dataloader.dataset)


class IterSeedHook(Hook):
    """Seeds every training iteration by the run's seed, the iteration and the rank.

    Sampled boxes and dropout are then the same after a resume as without the interruption.
    """

    priority = "VERY_HIGH"

    def before_train_iter(self, runner, batch_idx: int, data_batch=None) -> None:
        seed_everything(int(draw_seeds(runner.seed + 1, runner.iter, [rank()])[0]))


def _schedule_changes(runner, checkpoint: dict) -> Iterator[str]:
    """How the checkpoint's schedule differs from the runner's."""
    if isinstance(runner.train_loop, EpochBasedTrainLoop):
        epoch, iteration = checkpoint["meta"]["epoch"], checkpoint["meta"]["iter"]
        length = len(runner.train_dataloader)
        if not epoch * length <= iteration < (epoch + 1) * length:
            yield f"{epoch} epochs were {iteration} iterations, now they are {epoch * length}"
    saved, schedulers = checkpoint.get("param_schedulers"), runner.param_schedulers
    if not isinstance(saved, list) or not isinstance(schedulers, list):
        return
    if len(saved) != len(schedulers):
        yield f"{len(saved)} schedulers, now {len(schedulers)}"
        return
    for before, scheduler in zip(saved, schedulers):
        now = scheduler.state_dict()
        for name in sorted((before.keys() & now.keys()) - PROGRESS):
            if before[name] != now[name]:
                yield f"{type(scheduler).__name__}'s {name} was {before[name]}, now {now[name]}"
