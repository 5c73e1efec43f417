"""What keeps jobs apart: locks, GPUs, the clock; and how Slurm is asked for them."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tiny_training import wait_for

from benchmarks.processes import ROOT, start
from benchmarks.small_benchmark import TOOL
from slotcon_plugin.benchmark import gpus
from slotcon_plugin.benchmark import run_job as work
from slotcon_plugin.benchmark.job_clock import Clock, lock_job, read_clock
from slotcon_plugin.benchmark.jobs import Job, Step
from slotcon_plugin.errors import ConfigError, TrainingStopped


def job(folder: Path, *commands: str, **changes) -> Job:
    """A job whose steps are shell commands; each writes the file of its number."""
    steps = [Step(["python", "-c", text], str(i)) for i, text in enumerate(commands)]
    about = dict(pretraining="p", seed=3)
    fields = dict(name="a.b", rule="pretrain", digest="d" * 64, folder=str(folder), needs=[])
    fields |= dict(gpus=0, cores=1, length=2, unit="epochs", steps=steps, about=about)
    return Job(**fields | dict(recipe={}, deviations=[], environment={"DATA_ROOT": "/x"}) | changes)


WRITE = "import os, pathlib; pathlib.Path('{folder}/%d').write_text(os.environ['DATA_ROOT'])"


def test_a_job_writes_its_result_when_all_steps_are_complete(tmp_path):
    fails = "raise SystemExit('no luck')"
    with pytest.raises(TrainingStopped, match=r"a\.b ended with status 1(.|\n)*no luck"):
        work.run_job(job(tmp_path, WRITE % 0, fails), ROOT, {})
    assert (tmp_path / "0").read_text() == "/x"
    assert not (tmp_path / "result.json").exists()
    with pytest.raises(TrainingStopped, match="ended without writing 1"):
        work.run_job(job(tmp_path, WRITE % 0, "pass"), ROOT, {})
    (tmp_path / "0").write_text("kept")
    repaired = job(tmp_path, WRITE % 0, WRITE % 1)
    work.run_job(repaired, ROOT, {})
    assert (tmp_path / "0").read_text() == "kept"  # it was complete
    result = work.json.loads(repaired.result.read_text())
    assert (result["starts"], result["seed"], result["length"]) == (3, 3, 2)
    assert result["seconds"] == pytest.approx(read_clock(tmp_path)["seconds"], abs=1)


def test_what_failed_by_itself_is_not_tried_again_by_the_same_start(tmp_path):
    """Slurm's retries are for jobs that reached their time limit."""
    ended = job(tmp_path, "import os, signal; os.kill(os.getpid(), signal.SIGTERM)")
    for attempt in (1, 2):
        with pytest.raises(TrainingStopped, match="ended with status -15"):
            work.run_job(ended, ROOT, {}, attempt)
    fails = job(tmp_path, "open('{folder}/ran', 'a').write('x'); raise SystemExit('no luck')")
    for attempt in (1, 2, 3):
        with pytest.raises(TrainingStopped, match="no luck"):
            work.run_job(fails, ROOT, {}, attempt)
    assert (tmp_path / "ran").read_text() == "x"
    work.run_job(job(tmp_path, WRITE % 0), ROOT, {}, 1)
    assert not (tmp_path / "failure.txt").exists()


def test_what_others_made_anew_is_not_built_on_twice(tmp_path):
    """A pretraining was removed and repeated: its export is not the old one."""
    pretrain = job(tmp_path / "pretrain", WRITE % 0)
    export = job(tmp_path / "export", "open('{folder}/0', 'a').write('x')")
    made = tmp_path / "export" / "0"

    def run_both():
        work.run_job(pretrain, ROOT, {})
        work.run_job(export, ROOT, {"pretrain": pretrain.result})
        return made.read_text()

    assert run_both() == "x"
    made.write_text("of the first")
    assert run_both() == "of the first"  # its result was written again, and nothing made anew
    shutil.rmtree(tmp_path / "pretrain")
    assert run_both() == "x"
    assert work.json.loads(export.result.read_text())["starts"] == 1


def test_a_launcher_tells_whether_it_was_ended_from_outside(tmp_path):
    """torchrun's status is 1 whatever happened to its workers."""
    script, folder = tmp_path / "script.py", tmp_path / "job"
    step = Step(["torchrun", "1", str(script)], "0")
    for end, goes_on in (("os.kill(os.getpid(), 9)", True), ("raise SystemExit(1)", False)):
        script.write_text(f"import os\n{end}\n")
        with pytest.raises(TrainingStopped, match="ended with status 1"):
            work.run_job(job(folder, steps=[step]), ROOT, {})
        assert (folder / "failure.txt").exists() != goes_on


def test_a_image_that_fails_fails_no_training(tmp_path, capsys):
    steps = [
        Step(["python", "-c", WRITE % 0], "0"),
        Step(["python", "-c", "raise SystemExit('no paint')"], "1", needed=False),
    ]
    work.run_job(job(tmp_path, steps=steps), ROOT, {})
    assert (tmp_path / "result.json").exists()
    assert "no paint" in capsys.readouterr().out


def test_detectron2_is_complete_when_its_note_says_so(tmp_path):
    step = Step([], "last_checkpoint", "model_final.pth")
    (tmp_path / "last_checkpoint").write_text("model_0000099.pth")
    assert not work.is_complete(step, tmp_path)
    (tmp_path / "last_checkpoint").write_text("model_final.pth")
    assert work.is_complete(step, tmp_path)


def test_the_clock_goes_on_after_a_kill(tmp_path):
    for _ in range(2):
        with Clock(tmp_path, os.getpid):
            time.sleep(0.3)
    clock = read_clock(tmp_path)
    assert 0.6 < clock["seconds"] < 5
    assert clock["starts"] == 2
    assert clock["peak_mib"] > 10


def test_a_job_that_still_runs_is_waited_for(tmp_path):
    """The lock is handed on to the job's processes: it outlives the one that took it."""
    handle = lock_job(tmp_path, print)
    orphan = subprocess.Popen([sys.executable, "-c", "input()"], stdin=-1, pass_fds=[handle])
    os.close(handle)
    told = []
    timer = time.monotonic()

    def say(line):
        told.append(line)
        orphan.communicate(b"\n")

    os.close(lock_job(tmp_path, say, patience=0.1))
    assert len(told) == 1
    assert "still running" in told[0]
    assert time.monotonic() - timer < 60


def test_two_jobs_share_no_gpu(tmp_path, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1,2,3")
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    assert gpus.take_gpus(0, print) == ("", [])
    one, held_one = gpus.take_gpus(1, print, tmp_path)
    three, held_three = gpus.take_gpus(3, print, tmp_path)
    assert sorted([one, *three.split(",")]) == ["0", "1", "2", "3"]

    def release(line):
        assert line == "waiting for 4 of 4 GPUs"
        for handle in [*held_one, *held_three]:
            os.close(handle)

    four, held = gpus.take_gpus(4, release, tmp_path, patience=0.01)
    assert four == "0,1,2,3"
    for handle in held:
        os.close(handle)
    with pytest.raises(ConfigError, match="asks for 5 GPUs, this machine has 4"):
        gpus.take_gpus(5, print, tmp_path)
    monkeypatch.setattr(gpus.tempfile, "gettempdir", lambda: str(tmp_path))
    monkeypatch.setenv("SLURM_JOB_ID", "1")
    (one, _), (other, _) = gpus.take_gpus(2, print), gpus.take_gpus(2, print)
    assert (one, other) == ("0,1", "2,3")  # jobs within one allocation
    monkeypatch.setenv("SLURM_JOB_ID", "2")
    assert gpus.take_gpus(4, print)[0] == "0,1,2,3"  # another allocation's have the same numbers


# What Snakemake's executor asks of a cluster before and after it submits.
SLURM = {
    "sbatch": 'echo "$@" > "$SUBMITTED/$$.part" && mv "$SUBMITTED/$$.part" "$SUBMITTED/$$.txt"\n'
    "echo $$",
    "sacctmgr": "echo us",
    "scontrol": "echo 'MinJobAge = 300 sec'",
    "sacct": "exit 0",
    "squeue": "exit 0",
    "sinfo": "exit 0",
}


@pytest.mark.slow
def test_slurm_is_asked_for_what_the_file_says(tmp_path, monkeypatch):
    """What sbatch would get: one that writes it down stands on the PATH."""
    pytest.importorskip("snakemake", reason="the benchmark needs snakemake (Python 3.11)")
    pytest.importorskip("snakemake_executor_plugin_slurm", reason="needs slotcon_plugin[benchmark]")
    submitted, programs = tmp_path / "submitted", tmp_path / "bin"
    submitted.mkdir()
    programs.mkdir()
    for name, script in SLURM.items():
        (programs / name).write_text(f"#!/bin/sh\n{script}\n")
        (programs / name).chmod(0o755)
    file = tmp_path / "b.yaml"
    file.write_text(
        f"work_dir: {tmp_path}/out\ngpus: 8\ncores: 6\n"
        "pretrainings:\n"
        "  coco: {config: configs/pretrain/slotcon_r50_coco.py}\n"
        "  random: random\n"
        "transfers:\n"
        "  voc: {config: configs/seg/fcn_r50_voc12aug.py, column: voc, gpus: 1}\n"
    )
    monkeypatch.setenv("SUBMITTED", str(submitted))
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    profile = tmp_path / "profile"
    profile.mkdir()
    ours = (ROOT / "configs" / "benchmark" / "profiles" / "slurm" / "config.yaml").read_text()
    names = "default-resources:\n  slurm_partition: vision\n  slurm_account: us\n"
    (profile / "config.yaml").write_text(ours.replace("default-resources:\n", names))
    process = start(TOOL, file, "--profile", profile)
    try:
        wait_for(lambda: len(list(submitted.glob("*.txt"))) == 2, process)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.stdout.close()
        process.wait()
    calls = [path.read_text() for path in submitted.iterdir()]
    pretrain = next(text for text in calls if "pretrain.coco.s0" in text)
    transfer = next(text for text in calls if "transfer.random.s0.voc.s0" in text)
    for text, count in ((pretrain, 8), (transfer, 1)):
        for words in ("-p vision", "us", "-t 1440", "--nodes=1", "--mem 64000", "--export=ALL"):
            assert words in text
        assert f"--cpus-per-task={6 * count} " in text
        assert f"--gpus={count} " in text
