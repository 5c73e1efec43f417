"""Which GPUs of this machine a job takes, so that jobs that run at the same time share none."""

import fcntl
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from ..errors import ConfigError


def present_gpus() -> list[str]:
    """The GPUs that may be used: those that CUDA_VISIBLE_DEVICES names, or all of the machine."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is not None:
        return [part.strip() for part in named.split(",") if part.strip() not in ("", "-1")]
    if shutil.which("nvidia-smi") is None:
        return []
    listed = subprocess.run(["nvidia-smi", "-L"], stdout=subprocess.PIPE, text=True)
    count = sum(line.startswith("GPU ") for line in listed.stdout.splitlines())
    return [str(number) for number in range(count)]


def take_gpus(
    count: int, say: Callable[[str], None], folder: Path | None = None, patience: float = 2.0
) -> tuple[str, list[int]]:
    """Take some GPUs, waiting until they are free.

    A lock on a file for each GPU stands for it; hand the open files on to the job, which holds them
    as long as it lives.

    Args:
        count: how many; 0 takes none.
        say: told that it waits.
        folder: of the lock files (by default one for each user, and each allocation of Slurm, which
            numbers GPUs anew).
        patience: seconds between two looks.

    Returns:
        What CUDA_VISIBLE_DEVICES is to be, and the open files.

    Raises:
        ConfigError: the machine has fewer.
    """
    if count == 0:
        return "", []
    present = present_gpus()
    if len(present) < count:
        raise ConfigError(
            f"The job asks for {count} GPUs, this machine has {len(present)}. Set `gpus` in the "
            "benchmark file, 0 for a CPU; or run it where they are."
        )
    if folder is None:
        owner = f"slotcon_gpus_{os.getuid()}_{os.environ.get('SLURM_JOB_ID', 0)}"
        folder = Path(tempfile.gettempdir()) / owner
    folder.mkdir(parents=True, exist_ok=True)
    told = False
    while True:
        taken = _free(present, count, folder)
        if len(taken) == count:
            for handle in taken.values():
                os.set_inheritable(handle, True)
            return ",".join(taken), list(taken.values())
        for handle in taken.values():
            os.close(handle)
        if not told:
            told = True
            say(f"waiting for {count} of {len(present)} GPUs")
        time.sleep(patience)


def _free(present: list[str], count: int, folder: Path) -> dict[str, int]:
    """Up to `count` GPUs that were free and are now locked, with the open files."""
    # One job at a time looks, or two could each hold half of what they want.
    with open(folder / "choosing", "a") as choosing:
        fcntl.flock(choosing, fcntl.LOCK_EX)
        taken: dict[str, int] = {}
        for name in present:
            handle = os.open(folder / name.replace("/", "_"), os.O_RDWR | os.O_CREAT, 0o666)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(handle)
                continue
            taken[name] = handle
            if len(taken) == count:
                break
        return taken
