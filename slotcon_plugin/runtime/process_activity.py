"""What this process is doing, as another of its threads sees it."""

import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import psutil

BUSY = 0.05  # of one core: a process that uses more is not idle
WAITS = 5  # a second: so is one that waits more often, as for a slow network disk


def place_of_main_thread() -> str:
    """The line of code that the main thread executes: 'file:line function', or ''."""
    frame = sys._current_frames().get(threading.main_thread().ident)
    if frame is None:
        return ""
    return f"{Path(frame.f_code.co_filename).name}:{frame.f_lineno} {frame.f_code.co_name}"


class Activity:
    """Whether this process and its children compute, or read or write files."""

    def __init__(self) -> None:
        self.own, self.before = psutil.Process(), {}

    def goes_on(self, seconds: float) -> bool:
        """Whether they did in the last `seconds`, since the call before."""
        now = {}
        for process in (self.own, *self.own.children(recursive=True)):
            with suppress(psutil.Error):  # ended meanwhile
                times, waits = process.cpu_times(), process.num_ctx_switches().voluntary
                moved = 0
                with suppress(AttributeError):  # macOS has no such counters
                    counters = process.io_counters()
                    moved = counters.read_bytes + counters.write_bytes
                cpu = times.user + times.system
                if process is self.own:
                    cpu -= time.thread_time()  # this thread's
                now[process.pid] = cpu, moved, waits
        before, self.before = self.before, now
        for pid, (cpu, moved, waits) in now.items():
            old_cpu, old_moved, old_waits = before.get(pid, (-seconds, 0, 0))
            busy = cpu - old_cpu > BUSY * seconds or waits - old_waits > WAITS * seconds
            if busy or moved != old_moved:
                return True
        return False
