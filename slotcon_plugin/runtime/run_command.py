"""The one place where the errors of a command become messages and an exit status."""

import os
import sys
from collections.abc import Callable

from ..errors import DataError, SlotConError, TrainingStopped, UnreadableFileError
from .launch import process_number


def run_command(
    function: Callable[[], object], launcher: str = "none", stopped: str = "stopped"
) -> int:
    """Run a command and return its exit status: 1 after a `SlotConError`, 130 after Ctrl-C.

    Errors of the user are printed as one message without a traceback.

    Args:
        function: an integer that it returns is the exit status, anything else means 0.
        launcher: how the processes were started, see `launch.processes`.
        stopped: what to print after Ctrl-C.
    """
    try:
        status = function()
        return status if isinstance(status, int) else 0
    except SlotConError as error:
        process = process_number(launcher)
        number = int(os.environ.get("LOCAL_RANK", 0)) if isinstance(error, DataError) else process
        # All processes meet the same error (with data, all of one machine): the first reports it.
        # Errors that only one process may meet are reported by every process.
        if number == 0 or isinstance(error, UnreadableFileError | TrainingStopped):
            # An error of a data loading worker arrives with the worker's traceback before it.
            message = str(error).rpartition(f"{type(error).__name__}: ")[2].strip()
            prefix = f"[process {process}] " if process else ""
            print(f"\n{prefix}error: {message}", file=sys.stderr, flush=True)
        return 1
    except KeyboardInterrupt:
        print(f"\n{stopped}", file=sys.stderr, flush=True)
        return 130
