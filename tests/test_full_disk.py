"""A disk that is full, or will be: one message, and every earlier file is intact."""

import errno
import itertools
import resource
import socket
import subprocess
import sys
from contextlib import contextmanager

import pytest
import torch
from mmengine.config import Config
from tiny_training import write_images
from torch import nn

from benchmarks.processes import DEMO
from benchmarks.small_benchmark import pretraining_options
from slotcon_plugin.apis.train import train
from slotcon_plugin.errors import ConfigError, TrainingStopped
from slotcon_plugin.runtime.atomic_files import AtomicLocalBackend, open_atomically
from slotcon_plugin.runtime.disk_space import check_space
from slotcon_plugin.runtime.explain_errors import describe
from slotcon_plugin.runtime.run_command import run_command
from slotcon_plugin.runtime.work_dir import check_writable

runs = itertools.count()


@contextmanager
def file_size_limit(size):
    """No file of this process may become larger than `size` bytes, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 64 KiB, where the user may mount one."""
    folder = tmp_path / "disk"
    folder.mkdir()
    options = ["-t", "tmpfs", "-o", "size=64k", "none", str(folder)]
    try:
        subprocess.run(["mount", *options], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("this user cannot mount a file system")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_the_last_checkpoint_is_removed_only_after_the_next_is_written(tmp_path):
    def names():
        return sorted(path.name for path in tmp_path.iterdir())

    one, other = AtomicLocalBackend(), AtomicLocalBackend()  # of the hook and of save_checkpoint
    other.put(b"1", tmp_path / "epoch_1.pth")
    one.remove(str(tmp_path / "epoch_1.pth"))
    with file_size_limit(1000), pytest.raises(TrainingStopped, match=r"epoch_2\.pth .*--resume"):
        other.put(bytes(2000), str(tmp_path / "epoch_2.pth"))
    assert names() == ["epoch_1.pth"]
    other.put(b"2", tmp_path / "epoch_2.pth")
    assert names() == ["epoch_1.pth", "epoch_2.pth"]
    one.remove(str(tmp_path / "epoch_1.pth"))
    other.put(b"3", tmp_path / "epoch_3.pth")
    assert names() == ["epoch_2.pth", "epoch_3.pth"]
    one.remove(str(tmp_path / "epoch_3.pth"))
    other.put(b"3", tmp_path / "epoch_3.pth")
    assert names() == ["epoch_2.pth", "epoch_3.pth"]
    one.remove(str(tmp_path / "epoch_2.pth"))  # then this training ends, and another one begins
    other.put(b"1", tmp_path / "other" / "epoch_1.pth")
    assert names() == ["epoch_2.pth", "epoch_3.pth", "other"]


def test_a_training_on_a_full_disk_keeps_its_checkpoints(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    work = tmp_path / "work"
    small = pretraining_options(write_images(tmp_path / "images"), work, epochs=4)
    small += ["default_hooks.checkpoint.max_keep_ckpts=1", "default_hooks.logger.interval=3"]

    def start(**options):
        names = [f"+experiment_name=full{next(runs)}"]
        return run_command(lambda: train(DEMO, cfg_options=small + names, **options))

    with file_size_limit(200_000):
        assert start() == 1
    output = capsys.readouterr()
    assert "epoch_1.pth" in output.err and "cannot be written: File too large" in output.err
    assert "Traceback" not in output.out + output.err
    assert not list(work.glob("*.pth"))

    put = AtomicLocalBackend.put  # the disk is full after the second epoch

    def put_on_full_disk(self, obj, filepath):
        with file_size_limit(200_000 if "epoch_3" in str(filepath) else resource.RLIM_INFINITY):
            put(self, obj, filepath)

    monkeypatch.setattr(AtomicLocalBackend, "put", put_on_full_disk)
    assert start() == 1
    assert [path.name for path in work.glob("*.pth")] == ["epoch_2.pth"]
    monkeypatch.setattr(AtomicLocalBackend, "put", put)
    assert start(resume="auto") == 0
    assert [path.name for path in work.glob("*.pth")] == ["epoch_4.pth"]


def test_a_full_disk_is_found_before_the_work(small_disk):
    (small_disk / "filler").write_bytes(bytes(1 << 16))
    with pytest.raises(ConfigError, match="No space left on device"):
        check_writable(small_disk / "out.json", "--out")
    with pytest.raises(OSError) as raised, open_atomically(small_disk / "filler") as file:
        file.write(bytes(30_000))
    assert raised.value.errno == errno.ENOSPC
    assert (small_disk / "filler").read_bytes() == bytes(1 << 16)
    assert [path.name for path in small_disk.iterdir()] == ["filler"]


@pytest.mark.parametrize(
    ("checkpoint", "count"),
    [
        (dict(interval=10), 4),  # three, and the newest before the oldest is removed
        (dict(interval=10, max_keep_ckpts=-1), 10),
        (dict(interval=10, max_keep_ckpts=1, save_best="miou"), 3),
        (dict(interval=60), 2),
        (dict(interval=-1), 1),
        (dict(by_epoch=False, interval=5), 1),
    ],
)
def test_checkpoints_must_fit_before_the_training(checkpoint, count, tmp_path, small_disk):
    cfg, model = Config.fromfile(DEMO), nn.Linear(1023, 128)  # half a MiB
    cfg.train_cfg.max_epochs = 100
    cfg.default_hooks.checkpoint.update(checkpoint)
    words = f"{count} checkpoints of about 1.0 MiB"
    assert words in check_space(cfg, model, tmp_path / "new" / "folder")
    cfg.optim_wrapper.optimizer = dict(type="AdamW")  # two numbers for each weight
    with pytest.raises(ConfigError, match=f"{count} checkpoints of about 1.5 MiB. Make space"):
        check_space(cfg, model, small_disk / "new" / "folder")


def test_a_port_in_use_and_too_little_shared_memory_are_explained():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(torch.distributed.DistNetworkError) as raised:
            torch.distributed.TCPStore("127.0.0.1", port, 1, is_master=True)
    assert "set MASTER_PORT to a free one" in describe(raised.value)
    code = "import torch\nfrom slotcon_plugin.runtime.explain_errors import describe\n"
    code += (
        "try: torch.zeros(100_000).share_memory_()\nexcept RuntimeError as e: print(describe(e))"
    )
    command = f"mount -t tmpfs -o size=64k none /dev/shm && {sys.executable} -c '{code}'"
    done = subprocess.run(["unshare", "-m", "sh", "-c", command], capture_output=True, text=True)
    if done.returncode:
        pytest.skip("this user cannot mount a file system")
    assert "--shm-size" in done.stdout and "num_workers=0" in done.stdout


def test_nothing_is_left_by_a_check(tmp_path):
    check_writable(tmp_path / "a" / "b" / "out.json", "--out")
    check_writable(tmp_path / "a" / "b", "--out", folder=True)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").write_text("kept")
    check_writable(tmp_path / "file", "--out")
    for path, words in (
        (tmp_path, "is a folder, expected the name of a file"),
        (tmp_path / "file" / "out.json", "file is there, and no folder"),
        (tmp_path / "file" / "a" / "out.json", "file is there, and no folder"),
        ("/proc/none/out.json", "cannot be written"),
        ("/dev/null", "is no ordinary file"),
        (tmp_path / ("long" * 60), "File name too long"),
        (tmp_path / "new" / ("long" * 70) / "out.json", "File name too long"),
        (tmp_path / "nul\0", "null byte"),
    ):
        with pytest.raises(ConfigError, match=f"--out .*{words}"):
            check_writable(path, "--out")
    for path, folder, words in (
        (tmp_path / "file", False, "file is there already. Name another one, or give --overwrite"),
        (tmp_path, True, "is a folder that is not empty"),
    ):
        with pytest.raises(ConfigError, match=f"--out .*{words}"):
            check_writable(path, "--out", folder, overwrite=False)
    check_writable(tmp_path / "new", "--out", overwrite=False)
    assert (tmp_path / "file").read_text() == "kept"
