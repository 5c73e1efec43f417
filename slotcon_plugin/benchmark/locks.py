"""Locks on jobs and GPUs, which the commands of a job inherit and hold as long as they live."""

import fcntl
import os
import platform
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import torch

from ..errors import ConfigError
from ..runtime.file_locks import describe_holder, try_lock
from .clock import read_clock

SILENCE = 120.0  # seconds without a note of the clock: a job on another machine counts as dead
Locked = TypeVar("Locked")


def _wait_for(attempt: Callable[[], Locked | None], announce: Callable, pause: float) -> Locked:
    """Call `attempt` until it returns something, and `announce` if the first one does not."""
    found = attempt()
    if found is None:
        announce()
    while found is None:
        time.sleep(pause)
        found = attempt()
    return found


def lock_job(folder: Path, say: Callable[[str], None], pause: float = 2.0) -> int:
    """Wait until no other process works on the job in `folder`, and lock it: the open file.

    A killed benchmark can leave a training behind that still writes into the folder; it has
    inherited the lock. A lock may not reach other machines: there the job's clock counts.
    """

    def attempt() -> int | None:
        clock = read_clock(folder)
        elsewhere = clock.host not in ("", platform.node())
        runs = elsewhere and abs(time.time() - clock.beat) < SILENCE
        return None if runs else try_lock(folder / "lock")

    def announce() -> None:
        who = describe_holder(folder / "lock")
        say(f"an earlier start of this job is still running: {who}. Waiting for it to end")

    return _wait_for(attempt, announce, pause)


def present_gpus() -> list[str]:
    """The GPUs of CUDA_VISIBLE_DEVICES, or all of the machine."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is None:
        return [str(number) for number in range(torch.cuda.device_count())]
    return [part.strip() for part in named.split(",") if part.strip() not in ("", "-1")]


def lock_gpus(
    count: int, say: Callable[[str], None], folder: Path | None = None, pause: float = 2.0
) -> tuple[str, list[int]]:
    """Wait until `count` GPUs are free, and lock them: CUDA_VISIBLE_DEVICES, and the open files.

    The lock files are in `folder`, by default one for each user and each allocation of Slurm, which
    numbers GPUs anew. A ConfigError is raised if the machine has fewer.
    """
    if count == 0:
        return "", []
    present = present_gpus()
    if len(present) < count:
        raise ConfigError(
            f"The job needs {count} GPUs, this machine has {len(present)}. Set `gpus` in the "
            "benchmark file, 0 for a CPU, or run it on another machine."
        )
    owner = f"slotcon_gpus_{os.getuid()}_{os.environ.get('SLURM_JOB_ID', 0)}"
    folder = folder or Path(tempfile.gettempdir()) / owner
    folder.mkdir(parents=True, exist_ok=True)

    def attempt() -> dict[str, int] | None:
        locked: dict[str, int] = {}
        # One job chooses at a time; otherwise two could each lock half of what both need
        with open(folder / "choosing", "a") as choosing:
            fcntl.flock(choosing, fcntl.LOCK_EX)
            for name in present:
                handle = try_lock(folder / name.replace("/", "_"))
                if handle is not None:
                    locked[name] = handle
                if len(locked) == count:
                    return locked
        for handle in locked.values():
            os.close(handle)
        return None

    locked = _wait_for(attempt, lambda: say(f"waiting for {count} of {len(present)} GPUs"), pause)
    return ",".join(locked), list(locked.values())
