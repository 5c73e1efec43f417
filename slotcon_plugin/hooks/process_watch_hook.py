"""Notes what a process of a training is doing, for the watch over the processes."""

from mmengine.hooks import Hook

from ..runtime.process_watch import ProcessWatch


class StepBeginHook(Hook):
    """Notes where this process is in the training; runs before the other hooks.

    Everything that is not a step or the loading of a batch may take long: the first of each,
    evaluation, checkpoints, other hooks.
    """

    priority = "HIGHEST"

    def __init__(self, watch: ProcessWatch) -> None:
        self.watch, self.taken = watch, 0

    def before_train(self, runner) -> None:
        self.watch.begin("preparing the training", 2 * runner.iter, open_ended=True)

    def before_train_epoch(self, runner) -> None:
        self.watch.begin("loading the first batch", 2 * runner.iter, open_ended=True)

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
        self.taken += 1
        self.watch.begin(f"in the hooks after step {runner.iter + 1}", open_ended=True)

    def after_train_epoch(self, runner) -> None:
        self.watch.begin("at the end of an epoch", open_ended=True)

    def before_val(self, runner) -> None:
        self.watch.begin("evaluating", open_ended=True)

    def after_train(self, runner) -> None:
        self.watch.begin("ending the training", 2 * runner.iter + 2, open_ended=True)


class StepEndHook(Hook):
    """The same, after the other hooks: their work before and after a step is no part of it."""

    priority = "LOWEST"

    def __init__(self, begin: StepBeginHook) -> None:
        self.begin = begin

    def before_train_iter(self, runner, batch_idx: int, data_batch=None) -> None:
        first = self.begin.taken == 0  # it may compile
        self.begin.watch.begin(f"in step {runner.iter + 1}", 2 * runner.iter + 1, first)

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
        doing, position = f"loading the batch of step {runner.iter + 2}", 2 * runner.iter + 2
        self.begin.watch.begin(doing, position)

    def after_val(self, runner) -> None:
        self.begin.watch.begin("loading a batch after the evaluation", open_ended=True)


def report_progress(runner, watch: ProcessWatch) -> None:
    """Register both hooks with a runner."""
    begin = StepBeginHook(watch)
    runner.register_hook(begin)
    runner.register_hook(StepEndHook(begin))
