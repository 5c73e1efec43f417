"""Checks of a resumed training, and random numbers that are the same after a resume."""

from collections.abc import Iterator

from mmengine.hooks import Hook
from mmengine.runner import EpochBasedTrainLoop, find_latest_checkpoint

from ..checkpoints.fill import check_state_dict
from ..datasets.seeding import draw_seeds, seed_everything
from ..errors import ConfigError
from ..functional.collectives import rank

# A scheduler's progress, as opposed to the schedule that it follows.
PROGRESS = {"last_step", "_global_step", "_last_value", "verbose"}


class ResumeCheckHook(Hook):
    """Refuses checkpoints of other models, and to resume under another schedule than at first.

    MMEngine takes epoch, iteration and the schedulers' ends from the checkpoint without comparing
    them. The precision may change: the empty loss scale of bfloat16 is not given to float16.
    """

    def after_load_checkpoint(self, runner, checkpoint: dict) -> None:
        """Compare the checkpoint's weights with the model, and its schedule with the runner's."""
        path = runner._load_from or find_latest_checkpoint(runner.work_dir) or "the file"
        check_state_dict(runner.model, checkpoint, path)
        if not runner._resume or "optimizer" not in checkpoint:
            return
        if not checkpoint["optimizer"].get("loss_scaler", True):
            del checkpoint["optimizer"]["loss_scaler"]
        changes = list(_schedule_changes(runner, checkpoint))
        if changes:
            raise ConfigError(
                f"{path} was trained under another schedule: {'; '.join(changes)}. Resume with the "
                "same images, global batch (processes x batch x accumulation), learning rate and "
                "max_epochs; or start a new training from its weights: "
                f"--cfg-options load_from={path} in another --work-dir."
            )


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
