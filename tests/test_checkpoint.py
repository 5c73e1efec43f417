"""Checkpoints are written atomically, found after a crash, and read without running code."""

import multiprocessing
import os
import pickle
import signal
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.logging import HistoryBuffer
from mmengine.runner import CheckpointLoader
from PIL import Image
from torch import nn

import slotcon_plugin  # noqa: F401  (registers the storage)
from slotcon_plugin.errors import CheckpointError, SlotConError
from slotcon_plugin.runtime.atomic_files import AtomicLocalBackend, write_atomically
from slotcon_plugin.runtime.resume_state import find_last_good_checkpoint, load_training_state
from slotcon_plugin.runtime.safe_loading import load_checkpoint_safely, use_safe_loader


class Planted:
    """Code that an attacker could put into a file: unpickling it makes a folder."""

    def __init__(self, trace: Path):
        self.trace = trace

    def __reduce__(self):
        return os.mkdir, (str(self.trace),)


def training_state(value: float = 1.0) -> dict:
    """A checkpoint with the parts and types that MMEngine writes."""
    weight = torch.full((3, 2), value)
    return {
        "meta": {"epoch": 1, "iter": 3, "seed": 0, "cfg": "a = 1"},
        "state_dict": {"weight": weight, "count": torch.tensor(3)},
        "message_hub": {
            "log_scalars": {"train/loss": HistoryBuffer([1.0, 2.5], [1, 1])},
            "runtime_info": {"last_ckpt": "x.pth", "share": np.float64(0.5)},
            "resumed_keys": {"train/loss": True},
        },
        "optimizer": {
            "state": {0: {"momentum_buffer": weight}},
            "param_groups": [{"lr": 0.1, "params": [0]}],
        },
        "param_schedulers": [{"last_step": 3, "base_values": [0.1]}],
    }


def save(folder: Path, name: str, value: float = 1.0, noted: bool = True) -> Path:
    torch.save(training_state(value), folder / name)
    if noted:
        (folder / "last_checkpoint").write_text(str(folder / name))
    return folder / name


@pytest.fixture
def safe_mmengine():
    """MMEngine with our loader, for one test."""
    schemes = dict(CheckpointLoader._schemes)
    use_safe_loader()
    yield
    CheckpointLoader._schemes = schemes


def test_what_mmengine_writes_can_be_read(tmp_path):
    state = load_training_state(save(tmp_path, "epoch_1.pth"))
    assert torch.equal(state["state_dict"]["weight"], torch.ones(3, 2))
    history, counts = state["message_hub"]["log_scalars"]["train/loss"].data
    assert history.tolist() == [1.0, 2.5]
    assert counts.tolist() == [1, 1]


@pytest.mark.parametrize("zipped", [True, False])
def test_code_in_a_checkpoint_is_refused_and_not_run(tmp_path, zipped):
    file, trace = tmp_path / "epoch_1.pth", tmp_path / "was_run"
    state = {**training_state(), "surprise": Planted(trace)}
    if zipped:
        torch.save(state, file)
    else:
        file.write_bytes(pickle.dumps({"surprise": Planted(trace)}, protocol=2))
    with pytest.raises(CheckpointError, match=r"refused: it asks for `(posix|nt)\.mkdir`"):
        load_checkpoint_safely(file)
    assert not trace.exists()


def test_getattr_reaches_only_methods_of_histories(tmp_path):
    class Reach:
        def __reduce__(self):
            return getattr, (HistoryBuffer, "__init__")

    torch.save({**training_state(), "surprise": Reach()}, tmp_path / "epoch_1.pth")
    with pytest.raises(CheckpointError, match=r"refused: it asks for `builtins.getattr`"):
        load_checkpoint_safely(tmp_path / "epoch_1.pth")


def test_mmengine_s_loader_does_not_run_code(tmp_path, safe_mmengine):
    from mmengine.runner import load_checkpoint

    file, trace = tmp_path / "weights.pth", tmp_path / "was_run"
    torch.save({"state_dict": {}, "surprise": Planted(trace)}, file)
    with pytest.raises(CheckpointError, match="refused"):
        load_checkpoint(nn.Linear(1, 1), str(file))
    assert not trace.exists()
    for address in ("https://example.invalid/a.pth", "torchvision://resnet50", "s3://bucket/a.pth"):
        with pytest.raises(CheckpointError, match="is a URL"):
            load_checkpoint(nn.Linear(1, 1), address)


def test_mmengine_s_loader_loads_weights(tmp_path, safe_mmengine):
    from mmengine.runner import load_checkpoint

    saved, loaded = nn.Linear(2, 2), nn.Linear(2, 2)
    torch.save({"state_dict": saved.state_dict()}, tmp_path / "weights.pth")
    load_checkpoint(loaded, str(tmp_path / "weights.pth"), strict=True)
    assert torch.equal(saved.weight, loaded.weight)


def broken_files(folder: Path) -> dict[str, str]:
    """File name -> words of the message."""
    whole = save(folder, "whole.pth", noted=False).read_bytes()
    (folder / "empty.pth").write_bytes(b"")
    (folder / "cut.pth").write_bytes(whole[: len(whole) // 2])
    (folder / "text.pth").write_text("no weights")
    Image.new("RGB", (4, 4)).save(folder / "image.png")
    torch.save(torch.zeros(3), folder / "tensor.pth")
    (folder / "folder.pth").mkdir()
    os.mkfifo(folder / "pipe.pth")
    (folder / "device.pth").symlink_to("/dev/zero")
    (folder / "loop.pth").symlink_to(folder / "loop.pth")
    return {
        **dict.fromkeys(("pipe.pth", "device.pth", "loop.pth"), "a link that leads to no file"),
        "absent.pth": "There is no checkpoint",
        "folder.pth": "is a folder",
        "empty.pth": "is empty",
        "cut.pth": "is truncated, damaged",
        "text.pth": "cannot be read",
        "image.png": "cannot be read",
        "tensor.pth": "contains a Tensor",
    }


def test_broken_files_get_one_clear_message(tmp_path):
    for name, message in broken_files(tmp_path).items():
        with pytest.raises(SlotConError, match=message) as raised:
            load_checkpoint_safely(tmp_path / name)
        assert name in str(raised.value)


def test_weights_alone_cannot_be_resumed_from(tmp_path):
    torch.save({"state_dict": {}, "meta": {}}, tmp_path / "weights.pth")
    with pytest.raises(CheckpointError, match="message_hub, optimizer missing"):
        load_training_state(tmp_path / "weights.pth")


def test_the_furthest_checkpoint_is_found_whatever_is_noted(tmp_path):
    save(tmp_path, "epoch_4.pth", value=4)
    time.sleep(0.02)
    save(tmp_path, "epoch_1.pth", value=1)  # of a younger training in the same folder
    path, state = find_last_good_checkpoint(tmp_path)
    assert path.name == "epoch_4.pth"
    assert state["state_dict"]["weight"][0, 0] == 4
    for name, iteration in (("iter_9.pth", 9), ("iter_1.pth", 1), ("mine.pth", 8)):
        state["meta"]["iter"] = iteration
        torch.save(state, tmp_path / name)
    (tmp_path / "last_checkpoint").write_text("mine.pth")
    assert find_last_good_checkpoint(tmp_path)[0].name == "iter_9.pth"
    (tmp_path / "iter_9.pth").unlink()
    assert find_last_good_checkpoint(tmp_path)[0].name == "mine.pth"  # noted, without a number


def test_a_broken_checkpoint_is_named_and_skipped(tmp_path):
    for epoch in (2, 9, 10):
        save(tmp_path, f"epoch_{epoch}.pth", value=epoch)
        time.sleep(0.02)
    (tmp_path / "epoch_10.pth").write_bytes(b"")
    warnings: list[str] = []
    path, _ = find_last_good_checkpoint(tmp_path, warn=warnings.append)
    assert path.name == "epoch_9.pth"
    assert len(warnings) == 1
    assert "epoch_10.pth is empty" in warnings[0]


def test_a_checkpoint_with_nan_is_skipped(tmp_path):
    save(tmp_path, "epoch_1.pth")
    save(tmp_path, "epoch_2.pth", value=float("nan"))
    warnings: list[str] = []
    path, _ = find_last_good_checkpoint(tmp_path, warn=warnings.append)
    assert path.name == "epoch_1.pth"
    assert "not finite" in warnings[0]


@pytest.mark.parametrize("note", ["", "epoch_7.pth", "/elsewhere/epoch_1.pth", None, "\x00\xff"])
def test_last_checkpoint_may_be_wrong_or_missing(tmp_path, note):
    save(tmp_path, "epoch_1.pth", noted=False)
    time.sleep(0.02)
    save(tmp_path, "epoch_2.pth", noted=False)
    if note is not None:
        (tmp_path / "last_checkpoint").write_text(note)
    path, _ = find_last_good_checkpoint(tmp_path)
    # As when killed between writing the checkpoint and last_checkpoint.
    assert path.name == "epoch_2.pth"


def test_no_checkpoint_and_no_good_checkpoint(tmp_path):
    assert find_last_good_checkpoint(tmp_path) is None
    assert find_last_good_checkpoint(tmp_path / "absent") is None
    (tmp_path / "epoch_1.pth").write_bytes(b"")
    with pytest.raises(CheckpointError, match="None of the checkpoints"):
        find_last_good_checkpoint(tmp_path, warn=lambda line: None)


def test_a_failed_write_keeps_the_old_file(tmp_path):
    file = tmp_path / "epoch_1.pth"
    storage = AtomicLocalBackend()
    storage.put(b"old", file)
    with pytest.raises(TypeError):
        storage.put("not bytes", file)
    assert file.read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["epoch_1.pth"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_killed_write_keeps_a_complete_file(tmp_path):
    file, size = tmp_path / "epoch_1.pth", 4_000_000
    storage = AtomicLocalBackend()
    storage.put(bytes(size), file)
    for pause in (0.05, 0.11, 0.17):
        child = os.fork()
        if child == 0:
            while True:
                for value in range(1, 256):
                    storage.put(bytes([value]) * size, file)
        time.sleep(pause)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        content = file.read_bytes()
        assert len(content) == size
        assert len(set(content)) == 1
    storage.put(b"new", file)  # removes the temporary files of the killed writes
    assert [path.name for path in tmp_path.iterdir()] == ["epoch_1.pth"]


def write_100_times(content: bytes, file: Path) -> None:
    for _ in range(100):
        write_atomically(content, file)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_two_writers_of_one_file_do_not_disturb_each_other(tmp_path):
    file, size = tmp_path / "clock.json", 100_000
    write_atomically(b"c" * size, file)
    contents = {letter * size for letter in (b"a", b"b")}
    fork = multiprocessing.get_context("fork")
    writers = [fork.Process(target=write_100_times, args=(data, file)) for data in contents]
    for writer in writers:
        writer.start()
    seen = set()
    while any(writer.is_alive() for writer in writers):
        seen.add(file.read_bytes())
        time.sleep(0.001)  # leave the processor to the writers
    assert [writer.exitcode for writer in writers] == [0, 0]
    assert contents <= seen <= {*contents, b"c" * size}
    assert [path.name for path in tmp_path.iterdir()] == ["clock.json"]


def test_a_new_file_has_ordinary_permissions(tmp_path):
    """Others in the group can read a checkpoint if the user's umask allows it."""
    (tmp_path / "ordinary").write_bytes(b"")
    AtomicLocalBackend().put(b"", tmp_path / "atomic")
    modes = {(tmp_path / name).stat().st_mode for name in ("ordinary", "atomic")}
    assert len(modes) == 1
