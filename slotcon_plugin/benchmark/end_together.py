"""Ends all processes of a benchmark when the process that the user started ends, in any way."""

import contextlib
import ctypes
import os
import platform
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence

import psutil

OWNER = "SLOTCON_BENCHMARK_OWNER"  # variable of the jobs: machine, Slurm's job, process
POLL = 0.5  # seconds between two looks at the owner
GRACE = 30.0  # seconds from a request to end to SIGKILL
SET_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG of Linux


def run_owned(command: Sequence[str]) -> int:
    """Run a command whose processes end with this one; returns its status.

    It has a process group of its own. Ctrl-C, SIGTERM and SIGHUP interrupt the group, and
    KeyboardInterrupt is raised when it has ended. If this process is killed, Linux interrupts the
    command, and its jobs see it (`end_with_owner`).
    """
    owner = dict(os.environ, **{OWNER: f"{_place()} {os.getpid()}"})
    options = dict(start_new_session=True, preexec_fn=end_with_parent(signal.SIGINT))
    with _termination_as_interrupt():
        process = subprocess.Popen(command, env=owner, **options)
        try:
            return process.wait()
        except KeyboardInterrupt:
            end_process(process, signal.SIGINT, group=True)
            raise


def end_process(process: subprocess.Popen, number: int, group: bool = False) -> None:
    """Send a signal to a process, or to its group; SIGKILL after GRACE or another Ctrl-C."""
    send = os.killpg if group else os.kill
    with contextlib.suppress(ProcessLookupError):
        try:
            send(process.pid, number)
            process.wait(GRACE)
        except (subprocess.TimeoutExpired, KeyboardInterrupt):
            send(process.pid, signal.SIGKILL)
            process.wait()


def end_with_parent(number: int) -> Callable[[], None] | None:
    """A `preexec_fn`: the kernel sends the signal when the parent ends. None except on Linux."""
    if sys.platform != "linux":
        return None
    set_signal = ctypes.CDLL(None).prctl
    return lambda: set_signal(SET_DEATH_SIGNAL, number)


def end_with_owner() -> None:
    """Interrupt this process, as by Ctrl-C, when the benchmark that started it has ended.

    A job that Slurm started, or on another machine, runs on: it is not the owner's child.
    """
    place, _, pid = os.environ.get(OWNER, "").rpartition(" ")
    if place != _place():
        return
    try:
        owner = psutil.Process(int(pid))
    except psutil.NoSuchProcess:
        raise KeyboardInterrupt from None

    def watch() -> None:
        with contextlib.suppress(psutil.Error):
            while owner.is_running() and owner.status() != psutil.STATUS_ZOMBIE:
                time.sleep(POLL)
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)

    threading.Thread(target=watch, daemon=True).start()


def _place() -> str:
    return f"{platform.node()} {os.environ.get('SLURM_JOB_ID', '-')}"


@contextlib.contextmanager
def _termination_as_interrupt() -> Iterator[None]:
    """SIGTERM and SIGHUP raise KeyboardInterrupt; one that is ignored (nohup) stays ignored."""
    before = {}
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) is not signal.SIG_IGN:
                before[number] = signal.signal(number, signal.default_int_handler)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
