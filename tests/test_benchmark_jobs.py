"""How jobs run: steps, results, locks, GPUs, time; and the options for Slurm."""

import json
import math
import os
import platform
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from tiny_training import wait_for

from benchmarks.processes import ROOT, kill_all, start
from benchmarks.small_benchmark import TOOL
from slotcon_plugin.benchmark import locks
from slotcon_plugin.benchmark.clock import Clock, read_clock
from slotcon_plugin.benchmark.job_states import states_of
from slotcon_plugin.benchmark.jobs import Job, JobResult, Plan, Step, read_record, read_result
from slotcon_plugin.benchmark.locks import lock_gpus, lock_job
from slotcon_plugin.benchmark.run_job import FIGURES, is_complete, run_job
from slotcon_plugin.errors import ConfigError, DataError, TrainingStopped


def job(folder: Path, *commands: str, **changes) -> Job:
    """A job whose steps are shell commands; each writes the file of its number."""
    steps = [Step(["python", "-c", text], str(i)) for i, text in enumerate(commands)]
    about = dict(pretraining="p", seed=3)
    fields = dict(name="a.b", rule="pretrain", digest="d" * 64, folder=str(folder), recipe={})
    fields |= dict(gpus=0, cores=1, length=2, steps=steps, about=about)
    return Job(**fields | dict(environment={"DATA_ROOT": "/x"}) | changes)


WRITE = "import os, pathlib; pathlib.Path('{folder}/%d').write_text(os.environ['DATA_ROOT'])"


def test_a_job_writes_its_result_when_all_steps_are_complete(tmp_path):
    fails = "raise SystemExit('some error')"
    with pytest.raises(TrainingStopped, match=r"a\.b ended with status 1(.|\n)*some error"):
        run_job(job(tmp_path, WRITE % 0, fails), ROOT, {})
    assert (tmp_path / "0").read_text() == "/x"
    assert not (tmp_path / "result.json").exists()
    with pytest.raises(TrainingStopped, match="ended without writing 1"):
        run_job(job(tmp_path, WRITE % 0, "pass"), ROOT, {})
    (tmp_path / "0").write_text("kept")
    repaired = job(tmp_path, WRITE % 0, WRITE % 1)
    run_job(repaired, ROOT, {})
    assert (tmp_path / "0").read_text() == "kept"  # it was complete
    result = read_record(repaired.result, JobResult)
    assert (result.starts, result.job) == (3, repaired)
    assert result.seconds == pytest.approx(read_clock(tmp_path).seconds, abs=1)


def test_a_failed_job_is_not_retried_by_the_same_start(tmp_path):
    """Slurm's retries are for jobs that reached their time limit."""
    ended = job(tmp_path, "import os, signal; os.kill(os.getpid(), signal.SIGTERM)")
    for attempt in (1, 2):
        with pytest.raises(TrainingStopped, match="ended with status -15"):
            run_job(ended, ROOT, {}, attempt)
    fails = job(tmp_path, "open('{folder}/ran', 'a').write('x'); raise SystemExit('some error')")
    for attempt in (1, 2, 3):
        with pytest.raises(TrainingStopped, match="some error"):
            run_job(fails, ROOT, {}, attempt)
    assert (tmp_path / "ran").read_text() == "x"
    run_job(job(tmp_path, WRITE % 0), ROOT, {}, 1)
    assert not (tmp_path / "failure.txt").exists()


def test_a_job_begins_again_after_its_input_was_created_again(tmp_path):
    """A pretraining was removed and repeated: its export is not the old one."""
    pretrain = job(tmp_path / "pretrain", WRITE % 0)
    export = job(tmp_path / "export", "open('{folder}/0', 'a').write('x')")
    made = tmp_path / "export" / "0"

    def run_both():
        run_job(pretrain, ROOT, {})
        run_job(export, ROOT, {"pretrain": pretrain.result})
        return made.read_text()

    assert run_both() == "x"
    made.write_text("of the first")
    assert run_both() == "of the first"  # only its result was written again
    shutil.rmtree(tmp_path / "pretrain")
    assert run_both() == "x"
    assert read_record(export.result, JobResult).starts == 1


DAMAGED = {
    "result.json": (b'{"job": 3}', b"\xff", None),  # None: a folder
    "clock.json": (b"", b'{"seconds": "long"}', b'{"seconds": NaN}', b'{"starts": -1}'),
    "needs.json": (b"[]", b'{"pretrain": 3}'),
    "figures.json": (b'{"mIoU": 12.', b"{}", b"[" * 9999, b'{"mIoU": NaN}', b'{"mIoU": 1e9}'),
    "images.json": (b'{"trained": "many"}',),
}


@pytest.mark.parametrize(("name", "content"), [(n, c) for n in DAMAGED for c in DAMAGED[n]])
def test_a_damaged_file_is_created_again(name, content, tmp_path, caplog):
    pretrain = job(tmp_path / "pretrain", WRITE % 0)
    step = Step(
        ["python", "-c", "open('{folder}/figures.json', 'w').write('{\"mIoU\": 5}')"],
        "figures.json",
    )
    about = dict(pretraining="p", seed=0, kind="openmmlab", column="voc")
    transfer = job(tmp_path / "transfer", steps=[step], about=about, rule="transfer")
    run_job(pretrain, ROOT, {})
    needs = {"pretrain": pretrain.result}
    run_job(transfer, ROOT, needs)
    first = read_record(transfer.result, JobResult)
    assert first.measures == {"voc": 5.0}
    damaged = tmp_path / "transfer" / name
    damaged.unlink(missing_ok=True)
    damaged.mkdir() if content is None else damaged.write_bytes(content)
    plan = Plan([pretrain, transfer], [])
    states_of(plan, tmp_path)
    run_job(transfer, ROOT, needs)
    assert sum(f"{name} is damaged" in one.message for one in caplog.records) == 1
    assert all("\n" not in one.message for one in caplog.records)
    assert read_record(damaged, dict) or name == "images.json"  # which a tool writes
    again = read_record(transfer.result, JobResult)
    assert again.measures == first.measures
    # What it was made from is not known: it begins from nothing
    assert (again.run_id == first.run_id) == (name != "needs.json")


def test_results_with_other_numbers_are_created_again(tmp_path, caplog):
    """Valid JSON, but of another job, or changed."""
    step = Step(
        ["python", "-c", "open('{folder}/figures.json', 'w').write('{\"mIoU\": 5}')"], FIGURES
    )
    about = dict(pretraining="p", seed=0, kind="openmmlab", column="voc")
    one = job(tmp_path, steps=[step], about=about, rule="transfer")
    run_job(one, ROOT, {})
    good = json.loads(one.result.read_text())
    assert read_result(one).measures == {"voc": 5.0}
    for change in (
        dict(job=good["job"] | dict(digest="e" * 64)),
        dict(metrics=dict(mIoU=500)),
        dict(metrics=dict(mIoU=math.nan)),
        dict(metrics=dict(other=3)),
        dict(measures=dict(voc=-3)),
        dict(seconds=math.inf),
        dict(bytes=10**30),
        dict(job=good["job"] | dict(about={})),
    ):
        one.result.write_text(json.dumps(good | change))
        caplog.clear()
        assert read_result(one) is None
        assert len(caplog.records) == 1 and "result.json is damaged" in caplog.text
        run_job(one, ROOT, {})
        assert read_result(one).measures == {"voc": 5.0}


def test_what_no_job_made_is_not_renamed(tmp_path):
    os.mkfifo(tmp_path / "clock.json")
    with pytest.raises(DataError, match=r"clock\.json is damaged \(it is a pipe"):
        read_clock(tmp_path)
    assert os.listdir(tmp_path) == ["clock.json"]


def test_figures_without_the_measure_and_damaged_notes_do_not_stop_the_next_start(tmp_path):
    (tmp_path / "value").write_text("null")
    code = "made = open('{folder}/figures.json', 'w'); "
    code += "made.write('{\"mIoU\": %s}' % open('{folder}/value').read())"
    step = Step(["python", "-c", code], "figures.json")
    about = dict(pretraining="p", seed=0, kind="openmmlab", column="voc")
    transfer = job(tmp_path, steps=[step], about=about, rule="transfer")
    with pytest.raises(DataError, match="The metrics have None for mIoU"):
        run_job(transfer, ROOT, {})
    (tmp_path / "value").write_text("5")
    logs = tmp_path / "20260101_000000" / "vis_data"
    logs.mkdir(parents=True)
    (logs / "scalars.json").write_bytes(b'{"loss": 1, "step": 1}\n{"\xff\n{"loss": 2, "step": 2}\n')
    for name in ("run_id", "failure.txt", "lock"):
        (tmp_path / name).write_bytes(b"\xff")
    run_job(transfer, ROOT, {})
    result = read_record(transfer.result, JobResult)
    assert (result.measures, result.losses) == ({"voc": 5.0}, {"loss": 2.0})


def test_kills_and_errors_under_torchrun_are_distinguished(tmp_path):
    """torchrun's status is 1 whatever happened to its workers."""
    script, folder = tmp_path / "script.py", tmp_path / "job"
    step = Step(["torchrun", "1", str(script)], "0")
    for end, goes_on in (("os.kill(os.getpid(), 9)", True), ("raise SystemExit(1)", False)):
        script.write_text(f"import os\n{end}\n")
        with pytest.raises(TrainingStopped, match="ended with status 1"):
            run_job(job(folder, steps=[step]), ROOT, {})
        assert (folder / "failure.txt").exists() != goes_on


def test_an_optional_step_may_fail(tmp_path, capsys):
    steps = [
        Step(["python", "-c", WRITE % 0], "0"),
        Step(["python", "-c", "raise SystemExit('some error')"], "1", needed=False),
    ]
    run_job(job(tmp_path, steps=steps), ROOT, {})
    assert (tmp_path / "result.json").exists()
    assert "some error" in capsys.readouterr().out


def test_a_detectron2_training_is_complete_when_its_last_checkpoint_is_the_final_one(tmp_path):
    step = Step([], "last_checkpoint", "model_final.pth")
    (tmp_path / "last_checkpoint").write_text("model_0000099.pth")
    assert not is_complete(step, tmp_path)
    (tmp_path / "last_checkpoint").write_text("model_final.pth")
    assert is_complete(step, tmp_path)


def test_time_is_added_over_the_starts_of_a_job(tmp_path):
    for _ in range(2):
        clock = Clock(tmp_path)
        clock.note(os.getpid())
        time.sleep(0.3)
        clock.note()
    notes = read_clock(tmp_path)
    assert 0.6 < notes.seconds < 5
    assert notes.starts == 2
    assert notes.peak_mib > 10


def test_memory_is_the_peak_of_the_job_and_not_of_the_process_that_started_it(
    tmp_path, monkeypatch
):
    monkeypatch.setattr("slotcon_plugin.benchmark.run_job.BEAT", 0.5)
    short = "import time; x = bytearray(300 << 20); time.sleep(0.1); del x; time.sleep(1.5); "
    large = bytearray(800 << 20)  # of this process
    run_job(job(tmp_path, short + WRITE % 0), ROOT, {})
    del large
    result = read_record(tmp_path / "result.json", JobResult)
    assert 300 < result.peak_memory_mib < 400


def test_a_job_that_still_runs_is_waited_for(tmp_path):
    """The job's processes inherit the lock and hold it after the process that took it ended."""
    handle = lock_job(tmp_path, print)
    orphan = subprocess.Popen([sys.executable, "-c", "input()"], stdin=-1, pass_fds=[handle])
    os.close(handle)
    lines = []
    timer = time.monotonic()

    def say(line):
        lines.append(line)
        orphan.communicate(b"\n")

    os.close(lock_job(tmp_path, say, pause=0.1))
    assert len(lines) == 1
    assert f"still running: process {os.getpid()} on {platform.node()} since 20" in lines[0]
    assert time.monotonic() - timer < 60


# A benchmark in small: a process that runs a shell, as Snakemake does, which runs a job.
OWNER = "from end_together import run_owned; run_owned(['bash', '-c', 'set -e; $JOB; true'])"
JOB = """
import subprocess, sys
from pathlib import Path
from end_together import end_process, end_with_owner, end_with_parent
end_with_owner()
process = subprocess.Popen(["sleep", "600"], preexec_fn=end_with_parent(15))
Path(sys.argv[1]).touch()
try:
    process.wait()
except KeyboardInterrupt:
    end_process(process, 15)
"""
# The same with `run_job`.
WHOLE_JOB = """
import sys
from pathlib import Path
from slotcon_plugin.benchmark.jobs import Job, Step
from slotcon_plugin.benchmark.run_job import run_job
begun = sys.argv[1]
sleeps = Step(["python", "-c", f"import time; open({begun!r}, 'w'); time.sleep(600)"], "0")
job = Job("a.b", "pretrain", "d" * 64, f"{begun}_job", {}, [sleeps], {}, 0, 1, {})
run_job(job, Path("."), {})
"""


@pytest.fixture
def no_signal_ignored():
    """Programs ignore what their parent ignores: SIGHUP below nohup, SIGINT behind a script's &."""
    numbers = signal.SIGHUP, signal.SIGINT, signal.SIGTERM
    ignored = [number for number in numbers if signal.getsignal(number) == signal.SIG_IGN]
    for number in ignored:
        signal.signal(number, signal.SIG_DFL)
    yield
    for number in ignored:
        signal.signal(number, signal.SIG_IGN)


@pytest.mark.usefixtures("no_signal_ignored")
@pytest.mark.parametrize(
    ("number", "job_text"),
    [
        *((name, JOB) for name in ("SIGKILL", "SIGTERM", "SIGHUP", "SIGINT")),
        ("SIGKILL", WHOLE_JOB),
    ],
)
def test_a_killed_benchmark_takes_its_jobs_along(number, job_text, tmp_path, monkeypatch):
    (tmp_path / "job.py").write_text(job_text)
    monkeypatch.setenv("JOB", f"{sys.executable} {tmp_path}/job.py {tmp_path}/begun")
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "slotcon_plugin" / "benchmark"))
    process = start(sys.executable, "-c", OWNER)
    wait_for((tmp_path / "begun").exists, process)
    begun = psutil.Process(process.pid).children(recursive=True)
    assert len(begun) == 3  # the shell, the job, its command
    process.send_signal(getattr(signal, number))
    assert_ended(begun, process)


def test_a_command_ends_with_its_killed_job(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "slotcon_plugin" / "benchmark"))
    process = start(sys.executable, "-c", JOB, tmp_path / "begun")
    wait_for((tmp_path / "begun").exists, process)
    begun = psutil.Process(process.pid).children()
    process.kill()
    assert_ended(begun, process)


def assert_ended(begun, process):
    _, alive = psutil.wait_procs(begun, timeout=20)
    for one in alive:
        one.kill()
    process.communicate()
    assert len(begun) > 0 and alive == []


def test_two_jobs_share_no_gpu(tmp_path, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1,2,3")
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    assert lock_gpus(0, print) == ("", [])
    one, held_one = lock_gpus(1, print, tmp_path)
    three, held_three = lock_gpus(3, print, tmp_path)
    assert sorted([one, *three.split(",")]) == ["0", "1", "2", "3"]

    def release(line):
        assert line == "waiting for 4 of 4 GPUs"
        for handle in [*held_one, *held_three]:
            os.close(handle)

    four, held = lock_gpus(4, release, tmp_path, pause=0.01)
    assert four == "0,1,2,3"
    for handle in held:
        os.close(handle)
    with pytest.raises(ConfigError, match="needs 5 GPUs, this machine has 4"):
        lock_gpus(5, print, tmp_path)
    monkeypatch.setattr(locks.tempfile, "gettempdir", lambda: str(tmp_path))
    monkeypatch.setenv("SLURM_JOB_ID", "1")
    (one, _), (other, _) = lock_gpus(2, print), lock_gpus(2, print)
    assert (one, other) == ("0,1", "2,3")  # jobs within one allocation
    monkeypatch.setenv("SLURM_JOB_ID", "2")
    assert lock_gpus(4, print)[0] == "0,1,2,3"  # another allocation numbers its GPUs anew


# The programs that Snakemake's executor runs before and after it submits a job.
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
def test_slurm_options_follow_the_benchmark_file(tmp_path, monkeypatch):
    """The options of sbatch, recorded by a script of that name in the PATH."""
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
    process = start(TOOL, file, "--skip-checks", "--profile", profile)
    try:
        wait_for(lambda: len(list(submitted.glob("*.txt"))) == 2, process)
    finally:
        kill_all(process)
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
