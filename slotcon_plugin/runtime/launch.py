"""The processes of a training: their ranks, their process group, and the CPU cores of each."""

import ctypes
import os
import signal
import sys
from datetime import timedelta

import torch
import torch.distributed as dist

from ..errors import ConfigError

TIMEOUT = timedelta(hours=1)  # of a collective: an evaluation by rank 0 may take long
PR_SET_PDEATHSIG = 1  # of Linux's <sys/prctl.h>

# The environment variables of each launcher: rank, number of processes, rank on this machine.
LAUNCHER_VARIABLES = {
    "pytorch": ("RANK", "WORLD_SIZE", "LOCAL_RANK"),
    "slurm": ("SLURM_PROCID", "SLURM_NTASKS", "SLURM_LOCALID"),
    "mpi": ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_RANK"),
}


def processes(launcher: str) -> tuple[int, int]:
    """This process's rank and the number of processes, from the environment of the launcher.

    Sets `LOCAL_RANK`, which MMEngine reads under every launcher: "none", "pytorch", "slurm", "mpi".
    """
    if launcher == "none":
        return 0, 1
    names = LAUNCHER_VARIABLES[launcher]
    if missing := [name for name in names if name not in os.environ]:
        raise ConfigError(
            f"--launcher {launcher} needs {', '.join(missing)} in the environment, which the "
            "launcher sets. Start with slotcon train CONFIG --gpus N or "
            "slotcon slurm_train, or omit --launcher for one process."
        )
    if "TORCHELASTIC_RUN_ID" in os.environ and sys.platform == "linux":
        # torchrun's workers go on if torchrun is killed: let Linux end this process with it.
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    rank, world_size, local_rank = (int(os.environ[name]) for name in names)
    os.environ["LOCAL_RANK"] = str(local_rank)
    return rank, world_size


def process_number(launcher: str) -> int:
    """This process's rank without any check, for messages about errors."""
    return 0 if launcher == "none" else int(os.environ.get(LAUNCHER_VARIABLES[launcher][0], 0))


def announce(line: str, launcher: str = "none") -> None:
    """Print a line of progress, in the first process only."""
    if process_number(launcher) == 0:
        print(f"[slotcon] {line}", flush=True)


def join_processes(rank: int, world_size: int, device: str = "cuda") -> None:
    """Initialize the process group: NCCL if every process has its own GPU, gloo otherwise.

    With `device="cpu"` no GPU is used. `LOCAL_RANK` in the environment chooses the GPU.
    """
    here = int(os.environ.get("LOCAL_WORLD_SIZE", 1))
    backend = "gloo"
    if device == "cuda" and torch.cuda.device_count() >= here:
        backend = "nccl"
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", 0)))
    dist.init_process_group(backend, rank=rank, world_size=world_size, timeout=TIMEOUT)


def join_cpu_processes(launcher: str) -> None:
    """Initialize a gloo process group, unless there is one."""
    rank, world_size = processes(launcher)
    if dist.is_initialized():
        return
    if launcher != "pytorch":  # torchrun has set both variables
        if int(os.environ.get("SLURM_NNODES", 1)) > 1 and "MASTER_ADDR" not in os.environ:
            raise ConfigError("Several machines without GPUs: set MASTER_ADDR to the first's.")
        os.environ.setdefault("MASTER_ADDR", "127.0.0.1")
        os.environ.setdefault("MASTER_PORT", "29500")
    join_processes(rank, world_size, "cpu")


def store_is_up() -> bool:
    """Whether `connect_store` can connect: torchrun's store is there before the process group."""
    return dist.is_initialized() or os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"


def connect_store(name: str) -> dist.Store:
    """A connection of its own to the key-value store of the processes, for the keys of `name`.

    The process group's own connection is locked while it waits. Rank 0 has the store, or, under
    torchrun, the launcher on its machine.
    """
    address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    store = dist.TCPStore(address, port, timeout=TIMEOUT, wait_for_workers=False)
    return dist.PrefixStore(f"slotcon/{name}/{os.environ.get('TORCHELASTIC_RESTART_COUNT')}", store)


def leave_processes() -> None:
    """Destroy the process group, if there is one."""
    if dist.is_initialized():
        dist.destroy_process_group()


def cores_each() -> int:
    """CPU cores for each process. Slurm assigns cores to each task; torchrun and MPI do not."""
    sharing = os.environ.get("LOCAL_WORLD_SIZE") or os.environ.get("OMPI_COMM_WORLD_LOCAL_SIZE")
    if hasattr(os, "sched_getaffinity"):
        cores = len(os.sched_getaffinity(0))
    else:
        cores = os.cpu_count() or 1
    return max(1, cores // int(sharing or 1))
