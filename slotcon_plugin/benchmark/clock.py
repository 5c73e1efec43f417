"""The time and memory that a job has used over all its starts."""

import contextlib
import os
import platform
import re
import time
from dataclasses import dataclass
from pathlib import Path

import psutil

from .jobs import Amount, Count, read_record, write_record

BEAT = 5.0  # seconds between two notes: the time that a kill -9 can lose


@dataclass(frozen=True)
class Notes:
    """The content of clock.json; the defaults are those of a job that never started."""

    seconds: Amount = 0.0
    starts: Count = 0
    peak_mib: Amount = 0.0
    host: str = ""  # this and the rest: of the last start
    pid: Count = 0
    beat: Amount = 0.0  # Unix time of the last note


def read_clock(folder: Path) -> Notes:
    """The notes in a job's folder."""
    return read_record(folder / "clock.json", Notes) or Notes()


class Clock:
    """Adds the time of one start of the job in `folder` to that of the earlier starts."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.started = folder, time.monotonic()
        self.before = read_clock(folder)
        self.peak_mib = self.before.peak_mib

    def note(self, pid: int | None = None) -> Notes:
        """Write the time until now, and the memory of process `pid`."""
        self.peak_mib = max(self.peak_mib, _peak_memory(pid) if pid else 0.0)
        seconds = self.before.seconds + time.monotonic() - self.started
        starts, host = self.before.starts + 1, platform.node()
        notes = Notes(seconds, starts, self.peak_mib, host, os.getpid(), time.time())
        write_record(notes, self.folder / "clock.json")
        return notes


def _peak_memory(pid: int) -> float:
    """The largest peak of resident memory, MiB, among a process and its descendants."""
    peaks = [0]  # VmHWM of Linux: psutil has no peak, and getrusage includes the parent's memory
    with contextlib.suppress(psutil.Error):  # it has ended, or is hidden
        process = psutil.Process(pid)
        for one in [process, *process.children(recursive=True)]:
            with contextlib.suppress(OSError):  # it has ended
                status = Path(f"/proc/{one.pid}/status").read_text(encoding="utf-8")
                peaks += map(int, re.findall(r"VmHWM:\s*(\d+) kB", status))
    return max(peaks) / 1024
