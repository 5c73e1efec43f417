"""Start the repository's programs, and functions in several processes that communicate."""

import os
import pickle
import subprocess
import sys
import tempfile
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

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


def run_processes(
    function: Callable, processes: int, *arguments: object, connect: bool = True
) -> list:
    """Run a function in several processes with one thread each.

    Args:
        function: function(rank, *arguments); defined at the top level of a module.
        processes: how many.
        connect: connect them by gloo before.

    Returns:
        What it returned on each rank.
    """
    import torch

    # Processes are forked from one that has imported the libraries once.
    used = [name for name in LIBRARIES if name.partition(".")[0] in sys.modules]
    torch.multiprocessing.set_forkserver_preload(used)
    with tempfile.TemporaryDirectory() as folder:
        shared = function, arguments, processes, folder, connect
        torch.multiprocessing.start_processes(
            _run_one, shared, nprocs=processes, start_method="forkserver"
        )
        files = [Path(folder, f"{rank}.pickle") for rank in range(processes)]
        return [pickle.loads(file.read_bytes()) for file in files]


def _run_one(
    rank: int, function: Callable, arguments: tuple, processes: int, folder: str, connect: bool
) -> None:
    import torch
    import torch.distributed as dist

    torch.set_num_threads(1)
    if connect:
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
        dist.init_process_group(
            "gloo",
            f"file://{folder}/rendezvous",
            rank=rank,
            world_size=processes,
            timeout=timedelta(seconds=180),  # a collective that another process skips is an error
        )
    Path(folder, f"{rank}.pickle").write_bytes(pickle.dumps(function(rank, *arguments)))
    if connect:
        dist.destroy_process_group()
