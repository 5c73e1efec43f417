"""The one place where the errors of a command become messages and an exit status."""

import os
import sys
import traceback as tracebacks
from collections.abc import Callable, Iterator

from ..errors import DataError, SlotConError, TrainingStopped, UnreadableFileError
from .explain_errors import describe
from .launch import process_number


def run_command(
    function: Callable[[], object],
    launcher: str = "none",
    stopped: str = "stopped",
    traceback: bool = False,
) -> int:
    """Run a command and return its exit status: 1 after an error, 130 after Ctrl-C.

    An error is printed as one message, see `explain_errors.describe`.

    Args:
        function: an integer that it returns is the exit status, anything else means 0.
        launcher: how the processes were started, see `launch.processes`.
        stopped: what to print after Ctrl-C.
        traceback: print the traceback before the message; the environment variable
            SLOTCON_TRACEBACK=1 does so too.
    """
    try:
        status = function()
        return status if isinstance(status, int) else 0
    except KeyboardInterrupt:
        return _say_stopped(stopped)
    except Exception as error:
        if any(isinstance(cause, KeyboardInterrupt) for cause in _causes(error)):
            return _say_stopped(stopped)  # MMEngine's `except:` caught it
        if traceback or os.environ.get("SLOTCON_TRACEBACK", "0") not in ("", "0"):
            tracebacks.print_exception(error)
        process = process_number(launcher)
        number = int(os.environ.get("LOCAL_RANK", 0)) if isinstance(error, DataError) else process
        # All processes meet the same error (with data, all of one machine): the first reports it.
        # Errors that only one process may meet are reported by every process.
        is_common = isinstance(error, SlotConError)
        is_common = is_common and not isinstance(error, UnreadableFileError | TrainingStopped)
        if number == 0 or not is_common:
            prefix = f"[process {process}] " if process else ""
            print(f"\n{prefix}error: {describe(error)}", file=sys.stderr, flush=True)
        return 1


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """An exception, and those during whose handling it was raised."""
    while error is not None:
        yield error
        error = error.__context__


def _say_stopped(stopped: str) -> int:
    print(f"\n{stopped}", file=sys.stderr, flush=True)
    return 130
