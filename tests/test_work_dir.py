"""Work dirs: one training at a time, and no checkpoint is replaced unasked."""

import errno
import fcntl
import itertools
import json
import multiprocessing
import os
import platform
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from tiny_training import write_images

from benchmarks.processes import DEMO
from benchmarks.small_benchmark import pretraining_options
from slotcon_plugin.apis.train import train
from slotcon_plugin.errors import ConfigError
from slotcon_plugin.runtime.file_locks import describe_holder, hold, try_lock
from slotcon_plugin.runtime.run_command import run_command
from slotcon_plugin.runtime.work_dir import claim

runs = itertools.count()
FORK = multiprocessing.get_context("fork")


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    return write_images(tmp_path_factory.mktemp("data") / "images")


@pytest.fixture
def start(images, tmp_path, monkeypatch, capsys):
    """Trains one epoch of three steps in `tmp_path / "work"`: status and all output."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)

    def run(*cfg_options, **options):
        small = [*pretraining_options(images, tmp_path / "work", epochs=2), *cfg_options]
        small.append(f"+experiment_name=work_dir{next(runs)}")
        status = run_command(lambda: train(DEMO, cfg_options=small, **options))
        output = capsys.readouterr()
        assert "Traceback" not in output.out + output.err
        return status, output.out + output.err

    return run


@pytest.fixture
def holder():
    """Another process that locks a file."""
    processes = []

    def lock(path):
        ready = FORK.Event()
        processes.append(FORK.Process(target=_lock, args=(path, ready)))
        processes[-1].start()
        assert ready.wait(60)
        return processes[-1]

    yield lock
    for process in processes:
        process.kill()
        process.join()


def _lock(path, ready):
    assert try_lock(path) is not None
    ready.set()
    time.sleep(600)


def contents(folder):
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {path.relative_to(folder): path.read_bytes() for path in files}


def test_a_lock_names_its_holder_and_ends_with_it(tmp_path, holder):
    process = holder(tmp_path / "lock")
    with pytest.raises(ConfigError) as raised, hold(tmp_path / "lock", "refused"):
        pass
    python = f"({Path(sys.executable).name} "
    for words in ("refused: process", str(process.pid), platform.node(), python, "since 20"):
        assert words in str(raised.value)
    process.kill()
    process.join()
    with hold(tmp_path / "lock", "refused"):
        assert try_lock(tmp_path / "lock") is None
    assert not (tmp_path / "lock").exists()


def test_a_forked_process_does_not_keep_the_lock(tmp_path):
    with hold(tmp_path / "lock", "refused"):
        event = FORK.Event()
        child = FORK.Process(target=event.wait)
        child.start()
    with hold(tmp_path / "lock", "refused"):
        event.set()
    child.join()


def test_an_inherited_lock_names_the_processes_that_hold_it(tmp_path):
    handle = try_lock(tmp_path / "lock")
    heir = subprocess.Popen([sys.executable, "-c", "input()"], stdin=-1, pass_fds=[handle])
    os.close(handle)
    note = json.loads((tmp_path / "lock").read_text())
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    (tmp_path / "lock").write_text(json.dumps(note | dict(pid=ended.pid)))
    assert try_lock(tmp_path / "lock") is None
    assert f"has ended; of what it started, process {heir.pid}" in describe_holder(
        tmp_path / "lock"
    )
    heir.communicate(b"\n")
    os.close(try_lock(tmp_path / "lock"))


def test_without_locks_in_the_file_system_the_note_counts(tmp_path, holder, monkeypatch):
    def refuse(*arguments):
        raise OSError(errno.ENOLCK, "No locks available")

    process = holder(tmp_path / "lock")
    monkeypatch.setattr(fcntl, "flock", refuse)
    assert try_lock(tmp_path / "lock") is None
    process.kill()
    process.join()
    os.close(try_lock(tmp_path / "lock"))  # the holder was killed
    elsewhere = dict(host="elsewhere", pid=1, since="yesterday", command="train")
    (tmp_path / "lock").write_text(json.dumps(elsewhere))
    with pytest.raises(ConfigError, match=r"no longer runs there, remove .*lock"):
        hold(tmp_path / "lock", "refused").__enter__()
    for damaged in ("", "{", "[]", '{"pid": "1"}', '{"pid": -1}'):
        (tmp_path / "lock").write_text(damaged)
        os.close(try_lock(tmp_path / "lock"))


def test_one_training_at_a_time(start, tmp_path, holder):
    process = holder(tmp_path / "work" / "training.lock")
    before = contents(tmp_path)
    for dry_run in (False, True):
        status, output = start(dry_run=dry_run)
        assert status == 1
        assert f"Another training runs in {tmp_path / 'work'}" in output
        assert f"process {process.pid} on {platform.node()}" in output
        assert contents(tmp_path) == before


def test_only_folders_with_files_stay(tmp_path):
    work = tmp_path / "runs" / "first"
    with claim(work, dry_run=True):
        work.mkdir(parents=True)
    assert not list(tmp_path.iterdir())
    with claim(work):
        (work / "log").touch()
    assert contents(work).keys() == {Path("log")}


def test_trainings_that_begin_in_one_second_have_their_own_logs(start, tmp_path, monkeypatch):
    """MMEngine names the folder of a log by the second."""
    strftime, digits = time.strftime, itertools.chain("000", itertools.repeat("1"))

    def stay_in_a_second(form, *arguments):
        name = strftime(form, *arguments)
        asked_by_runner = sys._getframe(1).f_code.co_name == "setup_env"
        return f"{name[:-7]}_00000{next(digits)}" if asked_by_runner else name

    monkeypatch.setattr(time, "strftime", stay_in_a_second)
    for options in ({}, {"overwrite": True}):
        status, output = start(**options)
        assert status == 0, output
    for folder, second in (("work/replaced_1", 0), ("work", 1)):
        (log,) = tmp_path.glob(f"{folder}/*/vis_data/scalars.json")
        assert log.parts[-3].endswith(f"_00000{second}")


def test_checkpoints_are_replaced_only_on_request(start, tmp_path):
    work = tmp_path / "work"
    assert start()[0] == 0
    before = contents(work)
    for options in ({}, {"dry_run": True}, {"resume": work / "epoch_1.pth"}):
        status, output = start(**options)
        assert status == 1
        for words in ("epoch_2.pth", "--resume", "--work-dir", "--overwrite"):
            assert words in output
        assert contents(work) == before

    status, output = start(resume=work / "epoch_1.pth", overwrite=True)
    assert status == 0
    assert f"moved into {work / 'replaced_1'}" in output
    moved = contents(work / "replaced_1")
    assert {str(path) for path in moved} == {"epoch_2.pth", "last_checkpoint"}
    status, output = start(overwrite=True, seed=3)
    assert status == 0, output
    assert "epoch_1.pth, epoch_2.pth" in output
    assert {path.name for path in (work / "replaced_2").iterdir()} >= {"epoch_1.pth", "epoch_2.pth"}
    assert contents(work / "replaced_1") == moved
    assert len([*work.glob("*/vis_data")]) == 1  # logs, too: curves are of one training
    assert len([*work.glob("replaced_2/*/vis_data")]) == 2
    before = contents(work)
    hook = dict(type="BackboneHook", source=str(work / "epoch_1.pth"))
    for entry in (f"load_from={work / 'epoch_1.pth'}", f"+default_hooks.backbone={hook}"):
        status, output = start(entry, overwrite=True)
        assert status == 1 and "epoch_1.pth, which --overwrite moves away" in output
        assert contents(work) == before
    (work / "epoch_2.pth").write_bytes(b"cut")
    status, output = start(resume="auto")  # what cannot be used is kept, too
    assert status == 0 and "epoch_2.pth is skipped" in output
    assert (work / "replaced_3" / "epoch_2.pth").read_bytes() == b"cut"


def test_a_start_that_is_refused_changes_nothing(start, tmp_path):
    work = tmp_path / "work"
    assert start()[0] == 0
    before = contents(work)
    assert [path for path in before if path.suffix == ".py"]
    refused = [
        (dict(overwrite=True), "train_dataloader.batch_size=999", "fewer than one batch of 999"),
        (dict(overwrite=True), "+optim_wrapper.optimizer.bogus=1", "bogus"),
        (dict(resume="auto"), "optim_wrapper.optimizer.lr=0.123", "lr"),
    ]
    for options, entry, words in refused:
        status, output = start(entry, **options)
        assert status == 1 and words in output
        after = contents(work)
        assert all(after.get(path) == data for path, data in before.items()), entry
    assert start(resume="auto")[0] == 0
