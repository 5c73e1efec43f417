"""Processes that hang are named; processes that differ find it out before the first step."""

import os
import signal
import sys
import time
from multiprocessing import get_context
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from tiny_training import write_images

from benchmarks.processes import DEMO, _free_port, environment, start
from benchmarks.small_benchmark import pretraining_options
from slotcon_plugin.runtime.launch import connect_store, join_processes, leave_processes
from slotcon_plugin.runtime.process_agreement import check_agreement, differences
from slotcon_plugin.runtime.process_watch import ProcessWatch, Report, hanging, lag_after
from slotcon_plugin.runtime.run_command import run_command

LIMIT = 1  # seconds


class Processes:
    """A function in several processes, without torchrun: rank 0 has the store."""

    def __init__(self, function, count: int, folder: Path, *arguments) -> None:
        self.folder, context = folder, get_context("forkserver")
        context.set_forkserver_preload(["mmengine.runner", "torchvision", "tiny_training"])
        folder.mkdir()
        shared = (_free_port(), count, folder, function, arguments)
        self.all = [context.Process(target=_run, args=(rank, *shared)) for rank in range(count)]
        for process in self.all:
            process.start()

    def wait(self, seconds: float = 60) -> list[int | None]:
        """Their exit statuses; None for those that go on, which are killed."""
        end = time.monotonic() + seconds
        ended = [p.join(max(0, end - time.monotonic())) or p.exitcode for p in self.all]
        self.kill()
        return ended

    def kill(self) -> None:
        for process in self.all:
            process.kill()
            process.join()

    def errors(self) -> str:
        return "".join(path.read_text() for path in sorted(self.folder.glob("error*")))


@pytest.fixture
def start_processes():
    """`Processes`, which end with the test: pytest would wait for those that a failure leaves."""
    started = []
    yield lambda *arguments: started.append(Processes(*arguments)) or started[-1]
    for processes in started:
        processes.kill()


def _run(rank, port, count, folder, function, arguments) -> None:
    own = dict(RANK=rank, LOCAL_RANK=rank, WORLD_SIZE=count, LOCAL_WORLD_SIZE=count)
    own |= dict(MASTER_ADDR="127.0.0.1", MASTER_PORT=port, GLOO_SOCKET_IFNAME="lo")
    os.environ.update({name: str(value) for name, value in own.items()}, CUDA_VISIBLE_DEVICES="")
    with open(folder / f"error{rank}", "w") as file:
        os.dup2(file.fileno(), 2)
        torch.set_num_threads(1)
        join_processes(rank, count, "cpu")
        status = run_command(lambda: function(rank, count, folder, *arguments), "pytorch")
        if status == 0:
            leave_processes()
    sys.exit(status)


def _steps(rank: int, count: int, folder: Path, trouble: str) -> None:
    with ProcessWatch(rank, count, LIMIT) as watch:
        for step in range(10):
            watch.begin("loading a batch", 2 * step)
            if trouble == "sleeps" and step == 3 and rank == count - 1:
                time.sleep(1000)
            if trouble == "sleeps, the first ends" and step == 3 and rank != 1:
                time.sleep(1000) if rank else os._exit(1)
            watch.begin("in a step", 2 * step + 1)
            dist.all_reduce(torch.ones(1))
            (folder / f"step{step}").touch()
            time.sleep(0.2)
            if trouble == "works" and step == 3 and rank == 0:
                watch.begin("evaluating", open_ended=True)
                end = time.monotonic() + 3 * LIMIT
                while time.monotonic() < end:
                    sum(range(10000))


def test_a_process_that_hangs_is_named_and_the_others_end(tmp_path, start_processes):
    cases = {
        "sleeps": (start_processes(_steps, 3, tmp_path / "sleeps", "sleeps"), 2),
        "stopped": (start_processes(_steps, 2, tmp_path / "stopped", ""), 1),
        "stopped with the store": (start_processes(_steps, 3, tmp_path / "store", ""), 0),
    }
    works = start_processes(_steps, 2, tmp_path / "works", "works")
    for name, (processes, rank) in cases.items():
        while name != "sleeps" and not (processes.folder / "step3").exists():
            time.sleep(0.05)
        if name != "sleeps":
            os.kill(processes.all[rank].pid, signal.SIGSTOP)
    for name, (processes, rank) in cases.items():
        for process in processes.all:
            if name == "sleeps" or process is not processes.all[rank]:
                process.join(30)
        ended, errors = processes.wait(0), processes.errors()
        expected = [1] * len(ended)
        if name != "sleeps":
            expected[rank] = None
        assert ended == expected, f"{name}: {errors}"
        assert errors.count("The training hangs and is ended") == 1, name
        assert f"\n  rank {rank} of {len(ended)} (host " in errors
        assert errors.count("\n  rank ") == 1
    assert works.wait() == [0, 0], works.errors()  # an evaluation by one process may take long


def _leaves_last(rank: int, count: int, folder: Path) -> None:
    with ProcessWatch(rank, count, 4 * LIMIT) as watch:
        watch.begin("saving", open_ended=True)
        end = time.monotonic() + 6 * LIMIT
        while rank == 0 and time.monotonic() < end:
            sum(range(10000))
        dist.barrier()
        if rank:
            time.sleep(2 * LIMIT)  # while rank 0, and the store, are gone


def test_a_process_that_has_waited_may_end_last(tmp_path, start_processes):
    processes = start_processes(_leaves_last, 2, tmp_path / "last")
    assert processes.wait() == [0, 0], processes.errors()


def test_a_process_that_has_waited_for_another_does_not_hang():
    waiting = Report("a", 1, 6, "evaluating", idle=99, limit=10)
    goes_on, ahead = waiting._replace(idle=0), waiting._replace(position=7, idle=0)
    lag = {}
    for _ in range(20):
        lag = lag_after(1, [goes_on, waiting], lag)
    assert max(lag.values()) > 10
    seconds = []
    for _ in range(20):  # rank 0 has gone on; rank 1 has not reported that it has, too
        lag = lag_after(1, [ahead, waiting], lag)
        found = {key[0]: value for key, value in lag.items()}
        seconds.append(hanging([ahead, waiting], [0, 0], found, 10))
    assert seconds == [[]] * 11 + [[1]] * 9


def test_a_process_that_is_killed_ends_the_others(tmp_path, start_processes):
    processes = start_processes(_steps, 3, tmp_path / "killed", "")
    while not (processes.folder / "step3").exists():
        time.sleep(0.05)
    processes.all[1].kill()
    start = time.monotonic()
    assert processes.wait(20) == [1, -signal.SIGKILL, 1]
    assert time.monotonic() - start < 10
    errors = processes.errors()
    assert errors.count("error: Another process of the training ended") == 2
    assert "Traceback" not in errors


def test_processes_that_wait_for_one_that_sleeps_end_with_the_store(tmp_path, start_processes):
    processes = start_processes(_steps, 3, tmp_path / "first", "sleeps, the first ends")
    assert processes.wait() == [1, 1, 1], processes.errors()
    assert processes.errors().count("error: Another process of the training ended") == 2


def test_who_hangs():
    def report(position: int, idle: float = 0, left: bool = False) -> Report:
        return Report("a", 1, position, "", idle=idle, limit=10, left=left)

    silent, lag = [0, 0, 0], {0: 99, 1: 99, 2: 99}
    ahead, last = report(7, idle=99), report(6, idle=11)
    assert hanging([ahead, last, ahead], silent, lag, 10) == [1]
    assert hanging([ahead, last, ahead], silent, {1: 9}, 10) == []  # it waited for another before
    assert hanging([ahead, report(6, idle=9), ahead], silent, lag, 10) == []
    assert hanging([last, report(6), ahead], silent, lag, 10) == []  # one of two goes on
    assert hanging([last, last, last], silent, lag, 10) == [0, 1, 2]  # a deadlock
    assert hanging([ahead, report(8), report(8)], [0, 11, 0], lag, 10) == [1]
    assert hanging([report(8), report(0, 99, left=True), report(8)], [0, 99, 0], lag, 10) == []


def test_a_training_names_the_process_that_is_stopped(tmp_path):
    options = pretraining_options(write_images(tmp_path / "images"), tmp_path / "work", epochs=500)
    own = dict(WORLD_SIZE="2", LOCAL_WORLD_SIZE="2", MASTER_ADDR="127.0.0.1")
    own |= dict(MASTER_PORT=str(_free_port()), GLOO_SOCKET_IFNAME="lo")
    command = [sys.executable, "tools/train.py", DEMO, "--launcher", "pytorch"]
    command += ["--hang-timeout", 3, "--cfg-options", *options]
    command += ["default_hooks.checkpoint.interval=1000"]
    files = [tmp_path / f"{rank}.log" for rank in range(2)]
    processes = []
    for rank, file in enumerate(files):
        variables = environment(RANK=str(rank), LOCAL_RANK=str(rank), **own)
        with open(file, "w") as output:
            processes.append(start("env", *_changed(variables), *command, output=output))
    try:
        while "Epoch(train)   [2]" not in files[0].read_text():
            assert processes[0].poll() is None, files[0].read_text()
            time.sleep(0.1)
        os.kill(processes[1].pid, signal.SIGSTOP)
        assert processes[0].wait(timeout=30) == 1
        assert "rank 1 of 2 (host " in files[0].read_text()
    finally:
        for process in processes:
            process.kill()
            process.wait()


def _changed(variables: dict[str, str]) -> list[str]:
    return [f"{k}={v}" for k, v in variables.items() if os.environ.get(k) != v]


def _agree(rank: int, count: int, folder: Path) -> None:
    check_agreement({"seed": "2"}, rank, count)
    check_agreement({"seed": "1"}, rank, count)  # of a second training in the same processes
    facts = {"seed": "1", "images": "40" if rank == 1 else "96"}
    try:
        check_agreement(facts, rank, count)
    except Exception as error:
        print(error, file=sys.stderr)
    connect_store("test").set(f"done{rank}", "")
    connect_store("test").wait([f"done{r}" for r in range(count)])


def test_processes_that_differ_find_it_out(tmp_path, start_processes):
    processes = start_processes(_agree, 3, tmp_path / "agree")
    assert processes.wait() == [0, 0, 0], processes.errors()
    expected = "images: 40 on rank 1 (host {0}); 96 on ranks 0, 2 (host {0})\n"
    assert processes.errors().count(expected.format(os.uname().nodename)) == 3
    assert "seed" not in processes.errors().replace("--seed", "")


def test_differences_are_listed_with_ranks_and_hosts():
    facts = [{"a": "1", "b": "x"}, {"a": "1", "b": "x"}, {"a": "2", "b": "x"}, {"a": "1"}]
    found = list(differences(["h", "h", "h", "g"], facts))
    assert found == [
        "a: 2 on rank 2 (host h); 1 on ranks 0-1, 3 (host g, h)",
        "b: absent on rank 3 (host g); x on ranks 0-2 (host h)",
    ]
