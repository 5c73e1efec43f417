"""Start the repository's programs, and functions in several processes that communicate."""

import contextlib
import os
import pickle
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parents[1]
CONFIGS = ROOT / "configs" / "pretrain"
DEMO = CONFIGS / "slotcon_r18_demo.py"
# Libraries that take seconds to import.
LIBRARIES = ["torchvision", "mmengine.runner", "tensorboard", "mmdet.models", "mmseg.models"]


def environment(**changes: str) -> dict[str, str]:
    """Environment variables of a program on the CPU with one thread, whatever this machine has."""
    variables = {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
    variables["PYTHON"] = sys.executable  # for the shell scripts
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")]))
    return {**os.environ, **variables, "PYTHONPATH": path, **changes}


def start(*command: object, output: object = subprocess.PIPE) -> subprocess.Popen:
    """Start a command in the repository's folder, in a process group of its own.

    Args:
        command: program and arguments.
        output: receives the output and the errors, as one stream.
    """
    return subprocess.Popen(
        [str(word) for word in command],
        cwd=ROOT,
        env=environment(),
        stdout=output,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def kill_all(process: subprocess.Popen) -> None:
    """Send SIGKILL to a process and to all that it started, in whatever process group."""
    started = [*psutil.Process(process.pid).children(recursive=True), process]
    for one in reversed(started):  # first the one that would start others
        with contextlib.suppress(psutil.NoSuchProcess):
            one.kill()
    psutil.wait_procs(started[:-1], timeout=20)


def run_processes(
    function: Callable, processes: int, *arguments: object, connect: bool = True
) -> list:
    """Run a function in several processes on the CPU, with one thread each.

    Args:
        function: function(rank, *arguments); defined at the top level of a module.
        processes: how many.
        connect: connect them by gloo before. If not, they have the environment variables that
            torchrun sets, so that the function can do so.

    Returns:
        What it returned on each rank.
    """
    import torch

    # Processes are forked from one that has imported the libraries once.
    used = [name for name in LIBRARIES if name.partition(".")[0] in sys.modules]
    torch.multiprocessing.set_forkserver_preload(used)
    variables = {"CUDA_VISIBLE_DEVICES": "", "GLOO_SOCKET_IFNAME": "lo"}
    variables |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(_free_port())}
    variables |= dict.fromkeys(("WORLD_SIZE", "LOCAL_WORLD_SIZE"), str(processes))
    with tempfile.TemporaryDirectory() as folder:
        torch.multiprocessing.start_processes(
            _run_one,
            (function, arguments, connect, variables, folder),
            nprocs=processes,
            start_method="forkserver",
        )
        files = [Path(folder, f"{rank}.pickle") for rank in range(processes)]
        return [pickle.loads(file.read_bytes()) for file in files]


def _run_one(
    rank: int, function: Callable, arguments: tuple, connect: bool, variables: dict, folder: str
) -> None:
    import torch
    import torch.distributed as dist

    torch.set_num_threads(1)
    if connect:
        os.environ.setdefault("GLOO_SOCKET_IFNAME", variables["GLOO_SOCKET_IFNAME"])
        dist.init_process_group(
            "gloo",
            f"file://{folder}/rendezvous",
            rank=rank,
            world_size=int(variables["WORLD_SIZE"]),
            timeout=timedelta(seconds=180),  # a collective that another process skips is an error
        )
    else:
        os.environ.update(variables, RANK=str(rank), LOCAL_RANK=str(rank))
    Path(folder, f"{rank}.pickle").write_bytes(pickle.dumps(function(rank, *arguments)))
    if connect:
        dist.destroy_process_group()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
