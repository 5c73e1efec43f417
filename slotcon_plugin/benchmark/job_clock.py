"""How long a job has been worked on, over all its starts, and whether somebody works on it now."""

import contextlib
import fcntl
import json
import os
import platform
import resource
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from ..errors import ConfigError
from ..runtime.atomic_files import write_atomically

BEAT = 5.0  # seconds between two notes of the time; what a kill -9 can lose
SILENCE = 120.0  # seconds after which a job on another machine counts as dead


def read_clock(folder: Path) -> dict:
    """The notes of a job: `seconds` in all, `starts`, `peak_mib`, and of the last start `host`,
    `pid` and `beat` (Unix time). Empty if it never started."""
    try:
        return json.loads((folder / "clock.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}


class Clock:
    """Counts the seconds of one start of a job, in a thread, into the job's `clock.json`.

    Use as a context manager. What was counted before a kill stays counted.

    Args:
        folder: the job's.
        process: gives the number of the process to measure the memory of, or None.
    """

    def __init__(self, folder: Path, process: Callable[[], int | None]) -> None:
        self.folder = folder
        self.process = process
        self.before = read_clock(folder)
        self.peak_mib = self.before.get("peak_mib", 0.0)
        self.started = time.monotonic()
        self.over = threading.Event()
        self.thread = threading.Thread(target=self._beat, daemon=True)

    def __enter__(self) -> "Clock":
        self._note()
        self.thread.start()
        return self

    def __exit__(self, *_) -> None:
        self.over.set()
        self.thread.join()
        self._note()

    def content(self) -> dict:
        """The notes as they are now."""
        return dict(
            seconds=self.before.get("seconds", 0.0) + time.monotonic() - self.started,
            starts=self.before.get("starts", 0) + 1,
            peak_mib=self.peak_mib,
            host=platform.node(),
            pid=os.getpid(),
            beat=time.time(),
        )

    def _beat(self) -> None:
        while not self.over.wait(BEAT):
            self._note()

    def _note(self) -> None:
        self.peak_mib = max(self.peak_mib, peak_memory(self.process()))
        write_atomically(json.dumps(self.content()).encode(), self.folder / "clock.json")


@contextlib.contextmanager
def hold(path: Path, busy: str) -> Iterator[int]:
    """Hold a lock on a file as long as this process, or one that it hands the open file to, lives.

    Raises:
        ConfigError: somebody else holds it; the message begins with `busy`.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle = os.open(path, os.O_RDWR | os.O_CREAT)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        raise ConfigError(
            f"{busy}. Wait for it, or end it; look with --tables meanwhile."
        ) from None
    os.set_inheritable(handle, True)
    try:
        yield handle
    finally:
        os.close(handle)


def peak_memory(pid: int | None) -> float:
    """Peak resident memory of a process so far, MiB; of the largest one below it if that is more
    (a launcher's processes). 0 where the system does not tell."""
    if pid is None:
        return 0.0
    peaks = [0.0]
    for one in [pid, *_below(pid)]:
        try:
            status = Path(f"/proc/{one}/status").read_text(encoding="utf-8")
        except OSError:
            continue
        peaks += [int(line.split()[1]) / 1024 for line in status.splitlines() if "VmHWM" in line]
    return max(peaks)


def peak_of_children() -> float:
    """Peak resident memory, MiB, of the largest process that this one started, or that those
    started, among those that have ended."""
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024


def _below(pid: int) -> list[int]:
    found = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            children = [int(word) for word in task.read_text(encoding="utf-8").split()]
        except OSError:
            continue
        for child in children:
            found += [child, *_below(child)]
    return found


def lock_job(folder: Path, say: Callable[[str], None], patience: float = 10.0) -> int:
    """Wait until nobody else works on a job, and keep others away.

    A chain that was killed can leave a training behind that still writes into the folder. The lock
    is the open file's: hand it on to the job's commands, and it is held as long as one of them
    lives, and no longer (a launcher's workers end with it). On another machine, where locks may not
    be seen, the clock tells.

    Args:
        folder: the job's.
        say: told once that, and on whom, it waits.
        patience: seconds between two looks.

    Returns:
        The open file, inheritable.
    """
    folder.mkdir(parents=True, exist_ok=True)
    handle = os.open(folder / "lock", os.O_RDWR | os.O_CREAT)
    told = False
    while True:
        clock = read_clock(folder)
        elsewhere = clock and clock["host"] != platform.node()
        alive = elsewhere and time.time() - clock["beat"] < SILENCE
        if not alive:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                pass
        if not told:
            told = True
            say(
                f"an earlier start of this job is still running (process {clock.get('pid')} on "
                f"{clock.get('host')}, or what it started); waiting for it to end"
            )
        time.sleep(patience)
    os.set_inheritable(handle, True)
    return handle
