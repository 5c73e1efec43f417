"""The shell launchers: the commands that they run and their error messages."""

import os
import shlex
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from tiny_training import wait_for

from benchmarks.processes import ROOT, start
from slotcon_plugin.apis import evaluate
from slotcon_plugin.errors import ConfigError
from slotcon_plugin.runtime import launch

CONFIG = "configs/pretrain/slotcon_r18_demo.py"
SETTINGS = {
    *("NNODES", "NODE_RANK", "MASTER_ADDR", "MASTER_PORT", "PORT", "PYTHON", "OMP_NUM_THREADS"),
    *("GPUS", "GPUS_PER_NODE", "CPUS_PER_TASK", "SRUN_ARGS", "CUDA_VISIBLE_DEVICES"),
}


@pytest.fixture
def run(tmp_path):
    """Runs a launcher in another folder, with only the given settings in its environment."""

    def run_script(name, *arguments, **settings):
        environment = {key: value for key, value in os.environ.items() if key not in SETTINGS}
        environment.update({"CUDA_VISIBLE_DEVICES": "", **settings})
        command = ["bash", str(ROOT / "tools" / name), *arguments]
        return subprocess.run(
            command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=60
        )

    return run_script


def options(words):
    """`--name value` and `--name=value` pairs of a printed command."""
    found = {}
    for word, following in zip(words, [*words[1:], ""], strict=True):
        if word.startswith("--"):
            name, equals, value = word.partition("=")
            found[name] = value if equals else following
    return found


WORKER = """
import os, pathlib, sys, time
from slotcon_plugin.runtime.launch import processes
processes("pytorch")
pathlib.Path(sys.argv[1]).write_text(str(os.getpid()))
time.sleep(300)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends a process with its parent")
def test_workers_end_with_a_launcher_that_is_killed(tmp_path):
    """Otherwise they would go on writing into the folder of the next training."""
    script, written = tmp_path / "worker.py", tmp_path / "pid"
    script.write_text(WORKER)
    process = start(
        *(sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "1"),
        *(script, written),
    )
    wait_for(written.exists, process)
    process.kill()
    process.communicate()
    end = time.monotonic() + 30
    while Path(f"/proc/{written.read_text()}").exists():
        assert time.monotonic() < end, "the worker did not end"
        time.sleep(0.1)


def test_processes_on_cpus_use_no_gpu(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 8)
    for name, value in (("MASTER_ADDR", "127.0.0.1"), ("MASTER_PORT", "0"), ("LOCAL_RANK", "0")):
        monkeypatch.setenv(name, value)
    try:
        launch.join_processes(0, 1, "cpu")
        assert dist.get_backend() == "gloo"
    finally:
        launch.leave_processes()


def test_the_evaluation_joins_the_processes_of_torchrun(monkeypatch):
    def join(number, count, device):
        raise ConfigError(f"{number} of {count} on {device}")

    monkeypatch.setattr(evaluate, "join_processes", join)
    for name, value in (("RANK", "1"), ("WORLD_SIZE", "2"), ("LOCAL_RANK", "1")):
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match="1 of 2 on cpu"):
        evaluate.evaluate("unsupervised", "none.pth", images="a", labels="b", device="cpu")


@pytest.mark.parametrize("script", ["dist_train.sh", "slurm_train.sh"])
def test_help(run, script):
    asked = run(script, "--help")
    assert asked.returncode == 0
    assert f"usage: tools/{script}" in asked.stdout and "examples:" in asked.stdout
    nothing = run(script)
    assert nothing.returncode == 2
    assert nothing.stderr == asked.stdout and nothing.stdout == ""


@pytest.mark.parametrize(
    ("arguments", "settings", "message"),
    [
        ((CONFIG,), {}, "number of GPUs is missing"),
        (("configs/none.py", "2"), {}, "There is no config configs/none.py"),
        ((CONFIG, "two"), {}, "GPUS must be a whole number from 1, not 'two'"),
        ((CONFIG, "0"), {}, "GPUS must be a whole number from 1, not '0'"),
        ((CONFIG, "--resume"), {}, "not '--resume'"),
        ((CONFIG, "2"), {"NNODES": "x"}, "NNODES must be a whole number from 1, not 'x'"),
        ((CONFIG, "2"), {"NNODES": "2", "NODE_RANK": "2", "MASTER_ADDR": "a"}, "0 to 1"),
        ((CONFIG, "2"), {"NNODES": "2"}, "needs MASTER_ADDR"),
        ((CONFIG, "2"), {"PORT": "http"}, "PORT must be a whole number"),
        ((CONFIG, "2"), {"PORT": "65536"}, "PORT=65536 cannot be used"),
        ((CONFIG, "2"), {"PYTHON": "/nowhere/python"}, "no Python '/nowhere/python'"),
    ],
)
def test_dist_train_refuses_in_one_line(run, arguments, settings, message):
    result = run("dist_train.sh", *arguments, **settings)
    assert result.returncode == 2
    assert message in result.stderr
    assert result.stderr.strip().count("\n") == 0 and result.stdout == ""


def test_dist_train_on_one_machine(run):
    result = run("dist_train.sh", "--dry-run", CONFIG, "2", "--cfg-options", "a.b=x y", "--resume")
    assert result.returncode == 0, result.stderr
    words = shlex.split(result.stdout)
    assert words[1:3] == ["-m", "torch.distributed.run"]
    launcher = options(words)
    assert launcher["--nproc_per_node"] == "2" and launcher["--nnodes"] == "1"
    assert launcher["--master_addr"] == "127.0.0.1"
    assert 1024 <= int(launcher["--master_port"]) < 65536
    start = words.index(str(ROOT / "tools" / "train.py"))
    expected = ["--launcher", "pytorch", str(ROOT / CONFIG)]
    assert words[start + 1 :] == [*expected, "--cfg-options", "a.b=x y", "--resume"]


def test_dist_train_takes_names_and_the_arguments_of_train(run):
    found = shlex.split(run("dist_train.sh", "--dry-run", "slotcon_r18_demo", "2").stdout)
    assert found[-1] == str(ROOT / CONFIG)
    given = ["--seed", "1", "slotcon_r18_demo", "--data", "a b"]
    words = shlex.split(run("dist_train.sh", "--dry-run", "--gpus", "3", *given).stdout)
    assert options(words)["--nproc_per_node"] == "3"
    assert words[-len(given) :] == given


def test_dist_train_on_several_machines(run):
    settings = {"NNODES": "2", "NODE_RANK": "1", "MASTER_ADDR": "host0", "PYTHON": "python3"}
    launcher = options(
        shlex.split(run("dist_train.sh", "--dry-run", CONFIG, "8", **settings).stdout)
    )
    assert launcher["--nnodes"] == "2" and launcher["--node_rank"] == "1"
    assert launcher["--master_addr"] == "host0" and launcher["--master_port"] == "29500"
    chosen = run("dist_train.sh", "--dry-run", CONFIG, "8", PORT="1234", **settings).stdout
    assert options(shlex.split(chosen))["--master_port"] == "1234"


def test_dist_train_accepts_a_config_in_the_current_folder(run, tmp_path):
    (tmp_path / "my config.py").write_text("")
    result = run("dist_train.sh", "--dry-run", "my config.py", "1")
    assert "my config.py" in shlex.split(result.stdout)


@pytest.mark.parametrize(
    ("arguments", "settings", "message"),
    [
        (("gpu", "job"), {}, "2 given"),
        (("gpu", "job", CONFIG), {"GPUS": "many"}, "GPUS must be a whole number"),
        (("gpu", "job", CONFIG), {"GPUS": "12", "GPUS_PER_NODE": "8"}, "is not a multiple"),
        (("gpu", "job", CONFIG), {"GPUS": "2", "GPUS_PER_NODE": "4"}, "more than GPUS=2"),
        (("gpu", "job", CONFIG), {"CPUS_PER_TASK": "0"}, "CPUS_PER_TASK must be"),
    ],
)
def test_slurm_train_refuses_in_one_line(run, arguments, settings, message):
    result = run("slurm_train.sh", "--dry-run", *arguments, **settings)
    assert result.returncode == 2
    assert message in result.stderr
    assert result.stderr.strip().count("\n") == 0 and result.stdout == ""


def test_slurm_train_requests_one_task_per_gpu(run):
    settings = {"GPUS": "16", "CPUS_PER_TASK": "12", "SRUN_ARGS": "--time=2-00 --account=a"}
    result = run("slurm_train.sh", "--dry-run", "gpu", "my job", CONFIG, "--resume", **settings)
    assert result.returncode == 0, result.stderr
    words = shlex.split(result.stdout)
    assert words[0] == "srun"
    asked = options(words)
    assert (asked["--partition"], asked["--job-name"]) == ("gpu", "my job")
    assert (asked["--nodes"], asked["--ntasks"], asked["--ntasks-per-node"]) == ("2", "16", "8")
    assert (asked["--gres"], asked["--cpus-per-task"]) == ("gpu:8", "12")
    assert (asked["--time"], asked["--account"]) == ("2-00", "a")
    start = words.index(str(ROOT / "tools" / "train.py"))
    assert words[start + 1 :] == [str(ROOT / CONFIG), "--launcher", "slurm", "--resume"]


def test_slurm_train_uses_one_machine_for_a_small_job(run):
    asked = options(
        shlex.split(run("slurm_train.sh", "--dry-run", "gpu", "job", CONFIG, GPUS="2").stdout)
    )
    assert (asked["--nodes"], asked["--ntasks"], asked["--gres"]) == ("1", "2", "gpu:2")
