"""Calls that may take for ever, such as reading from a network file system that hangs."""

import os
import threading
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import TypeVar

Result = TypeVar("Result")
GRACE = 1.0  # seconds more, for a process that was suspended for longer than its limit

_own = threading.local()


def call_within(seconds: float, function: Callable[[], Result]) -> Result:
    """Call a function in a helper thread; a TimeoutError if it takes longer than `seconds`.

    A call that takes longer cannot be ended: it goes on in its thread, which does not keep the
    process from exiting, and the next call gets a new thread. A function that keeps Python's
    interpreter lock for ever, or a system call that Linux cannot interrupt, is not bounded.
    """
    helper = getattr(_own, "helper", None)
    if helper is None or helper.process != os.getpid():  # a fork has no threads of its parent
        helper = _own.helper = _Helper()
    try:
        helper.calls.put(function)
        try:
            result, error = helper.results.get(timeout=seconds)
        except Empty:
            result, error = helper.results.get(timeout=GRACE)
    except BaseException as error:  # also Ctrl-C: the result would be taken for the next call's
        _own.helper = None
        if isinstance(error, Empty):
            raise TimeoutError(f"it takes longer than {seconds:g} s") from None
        raise
    if error is not None:
        raise error
    return result


class _Helper:
    """A thread that calls functions until nothing refers to this object any more."""

    def __init__(self):
        self.process, self.calls, self.results = os.getpid(), SimpleQueue(), SimpleQueue()
        options = dict(args=(self.calls, self.results), name="time limit", daemon=True)
        threading.Thread(target=_serve, **options).start()

    def __del__(self):
        self.calls.put(None)


def _serve(calls: SimpleQueue, results: SimpleQueue) -> None:
    while (call := calls.get()) is not None:
        results.put(_outcome(call))
        del call  # what it refers to is not kept until the next call


def _outcome(call: Callable) -> tuple[object, BaseException | None]:
    try:
        return call(), None
    except BaseException as error:
        return None, error
