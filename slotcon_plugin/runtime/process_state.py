"""What MMEngine keeps, sets and prints for a whole process, in bounds.

One process, such as a notebook's, can so train several times, and load and evaluate in between.
"""

import logging
import multiprocessing
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from mmengine.logging import MMLogger
from mmengine.runner import Runner
from mmengine.utils import ManagerMixin


class _LoggedRunner(Runner):
    """A Runner whose log has a folder of its own, and whose config is written where it starts.

    MMEngine names the folder by the second, and writes the config when a Runner is built: over
    that of the run before, though the start may be refused, and over a training's for a test.
    """

    at_start: Callable[[], object] | None = None  # called where a training has passed all checks

    def setup_env(self, env_cfg: dict) -> None:
        """MMEngine's, in a second that names no folder of the work dir."""
        while (Path(self._work_dir) / time.strftime("%Y%m%d_%H%M%S")).exists():
            time.sleep(0.05)
        super().setup_env(env_cfg)

    def dump_config(self) -> None:
        """Wait for the start of a training."""

    def call_hook(self, fn_name: str, **kwargs: object) -> None:
        """MMEngine's. Hooks check the start, too."""
        super().call_hook(fn_name, **kwargs)
        if fn_name == "before_train":
            if self.at_start is not None:
                self.at_start()
            super().dump_config()


class QuietRunner(_LoggedRunner):
    """A Runner that prints only warnings; all else is in its log file."""

    def build_logger(self, *args, **options) -> MMLogger:
        """MMEngine's, with another level on the console."""
        logger = super().build_logger(*args, **options)
        for handler in logger.handlers:
            if not isinstance(handler, logging.FileHandler):
                handler.setLevel(max(handler.level, logging.WARNING))
                handler.addFilter(_is_for_users)
        return logger


class CheckedRunner(_LoggedRunner):
    """A Runner that prints its environment, config and hooks when `show_log` is called.

    An error in what is checked before then stands alone, not behind hundreds of lines. Warnings are
    printed at once, and all is in the log file.
    """

    def build_logger(self, *args, **options) -> MMLogger:
        """MMEngine's, with a console that waits."""
        logger = super().build_logger(*args, **options)
        logger.handlers[:] = [
            one if isinstance(one, logging.FileHandler) else _Waiting(one)
            for one in logger.handlers
        ]
        return logger

    def show_log(self) -> None:
        """Print what waited; what is logged from now on is printed at once."""
        for handler in self.logger.handlers:
            if isinstance(handler, _Waiting):
                handler.show()


class _Waiting(logging.Handler):
    """Keeps records below a warning for another handler until `show`."""

    def __init__(self, target: logging.Handler) -> None:
        super().__init__(target.level)
        self.target, self.shown, self.records = target, False, []

    def emit(self, record: logging.LogRecord) -> None:
        if self.shown or record.levelno >= logging.WARNING:
            self.target.handle(record)
        else:
            self.records.append(record)

    def show(self) -> None:
        self.shown = True
        while self.records:
            self.target.handle(self.records.pop(0))


def _is_for_users(record: logging.LogRecord) -> bool:
    """Whether it is none of MMEngine's warnings about its own code."""
    return "will be deprecated in future" not in record.getMessage()


@contextmanager
def process_state_kept() -> Iterator[None]:
    """Forget, in the end, MMEngine's current logger, message hub, visualizer and scope of a run.

    Without it, what is logged later would go into the last run's file, at its level. The log
    file is closed. The start method of processes and torch's choice of kernels are put back.
    """
    before = {kind: dict(kind._instance_dict) for kind in _kinds()}
    method = multiprocessing.get_start_method(allow_none=True)
    deterministic = torch.are_deterministic_algorithms_enabled()
    cudnn = torch.backends.cudnn
    flags = cudnn.benchmark, cudnn.deterministic
    try:
        yield
    finally:
        for kind in _kinds():
            kept = before.get(kind, {})
            for name in kind._instance_dict.keys() - kept.keys():
                for handler in getattr(kind._instance_dict[name], "handlers", ()):  # of a logger
                    handler.close()
            kind._instance_dict.clear()
            kind._instance_dict.update(kept)
        multiprocessing.set_start_method(method, force=True)
        torch.use_deterministic_algorithms(deterministic)
        cudnn.benchmark, cudnn.deterministic = flags


@contextmanager
def only_warnings() -> Iterator[None]:
    """What MMEngine logs for information is dropped, such as a line for each initialized weight."""
    with process_state_kept():
        MMLogger.get_instance("only warnings", log_level="WARNING")
        yield


def _kinds(kind: type = ManagerMixin) -> Iterator[type]:
    """The classes of which MMEngine has a current object."""
    for one in kind.__subclasses__():
        yield one
        yield from _kinds(one)
