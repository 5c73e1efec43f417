"""What a resume takes over, when it is refused, and what makes it exact."""

from mmengine.hooks import Hook
from mmengine.runner import EpochBasedTrainLoop

from ..datasets.seeding import draw_seeds, seed_everything
from ..errors import ConfigError
from ..functional.collectives import rank

# How far a scheduler has come, as opposed to the curve it follows.
PROGRESS = {"last_step", "_global_step", "_last_value", "verbose"}


class ResumeHook(Hook):
    """Refuses to go on with a training under another schedule than it began with.

    MMEngine takes epoch, iteration and the schedulers' ends from the checkpoint without a word:
    with another batch, number of processes or `max_epochs` the curve would no longer be that of
    either config. It also lets a run change its precision: the empty loss scale of bfloat16 is not
    handed to float16.
    """

    def after_load_checkpoint(self, runner, checkpoint: dict) -> None:
        """Compare the checkpoint's schedule with the runner's.

        Raises:
            ConfigError: they differ.
        """
        if not runner._resume or "optimizer" not in checkpoint:
            return
        if not checkpoint["optimizer"].get("loss_scaler", True):
            del checkpoint["optimizer"]["loss_scaler"]
        changes = [*_epoch_changes(runner, checkpoint["meta"])]
        saved = checkpoint.get("param_schedulers")
        fresh = runner.param_schedulers
        if isinstance(saved, list) and isinstance(fresh, list):
            changes += _curve_changes(saved, fresh)
        if changes:
            raise ConfigError(
                f"{runner._load_from} was trained under another schedule: {'; '.join(changes)}. "
                "Resume with the same images, global batch (processes x batch x accumulation), "
                "learning rate and max_epochs; or begin a new training from its weights: "
                f"--cfg-options load_from={runner._load_from} in another --work-dir."
            )


class StepSeedHook(Hook):
    """Begins every training iteration with random numbers of its own, of the run's seed, the
    iteration and the process: what a detector samples or a head drops out is the same after a
    resume as without the interruption."""

    priority = "VERY_HIGH"

    def before_train_iter(self, runner, batch_idx: int, data_batch=None) -> None:
        """Seed."""
        seed_everything(int(draw_seeds(runner.seed + 1, runner.iter, [rank()])[0]))


def _epoch_changes(runner, meta: dict) -> list[str]:
    if not isinstance(runner.train_loop, EpochBasedTrainLoop):
        return []
    epoch, iteration, length = meta["epoch"], meta["iter"], len(runner.train_dataloader)
    if epoch * length <= iteration < (epoch + 1) * length:
        return []
    return [f"{epoch} epochs were {iteration} iterations, now they are {epoch * length}"]


def _curve_changes(saved: list[dict], fresh: list) -> list[str]:
    if len(saved) != len(fresh):
        return [f"{len(saved)} schedulers, now {len(fresh)}"]
    changes = []
    for before, scheduler in zip(saved, fresh, strict=True):
        now = scheduler.state_dict()
        changes += [
            f"{type(scheduler).__name__}'s {name} was {before[name]}, now {now[name]}"
            for name in sorted((before.keys() & now.keys()) - PROGRESS)
            if before[name] != now[name]
        ]
    return changes
