"""Damaged and hostile files of weights give a CheckpointError: no crash, no other error."""

import io
import json
import os
import pickle
import random
import struct
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from test_checkpoint import training_state
from tiny_weights import ours, published_content

from slotcon_plugin.checkpoints import read_encoder
from slotcon_plugin.checkpoints.containers import read_file
from slotcon_plugin.checkpoints.export_formats import encoder_file
from slotcon_plugin.errors import CheckpointError
from slotcon_plugin.runtime import pickle_limits
from slotcon_plugin.runtime.resume_state import find_last_good_checkpoint
from slotcon_plugin.runtime.safe_loading import load_checkpoint_safely

ROOT = Path(__file__).resolve().parents[1]
IGNORED = "ignored_"  # damage in a part that may be ignored
# A pickle's opcodes for 8 bytes, as protocol 2 writes them.
EIGHT = b"c_codecs\nencode\n(X\x08\x00\x00\x00AAAAAAAAX\x06\x00\x00\x00latin1tR"
ARRAY = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(K\x00tU\x01btR"
FLOAT = b"cnumpy\ndtype\n(X\x02\x00\x00\x00f8K\x00K\x01tR"
OBJECT = b"cnumpy\ndtype\n(X\x02\x00\x00\x00O8K\x00K\x01tR"
FIELDS = b"(K\x03X\x01\x00\x00\x00<NX\x01\x00\x00\x00a}K\x08K\x01K\x10tb"  # a dtype's state
HISTORY = b"cmmengine.logging.history_buffer\nHistoryBuffer\n"
TENSOR = (
    b"ctorch._utils\n_rebuild_tensor_v2\n((X\x07\x00\x00\x00storagectorch\nFloatStorage\n"
    b"X\x01\x00\x00\x000X\x03\x00\x00\x00cpuK\x04tQ%s\x89NtR"  # 4 numbers
)


def filled(shape: bytes, dtype: bytes, data: bytes = EIGHT) -> bytes:
    """A pickled array with this state."""
    return ARRAY + b"(K\x01(" + shape + b"t" + dtype + b"\x89" + data + b"tb"


# What -> the opcodes of one value in a pickle.
PICKLES = {
    "object_array": b"cnumpy\nndarray\n(K\x01\x85X\x01\x00\x00\x00O" + EIGHT + b"tR",
    "float_array": b"cnumpy\nndarray\n(K\x01\x85X\x02\x00\x00\x00f8" + EIGHT + b"tR",
    "array_newobj": b"cnumpy\nndarray\n(K\x01\x85X\x01\x00\x00\x00O" + EIGHT + b"t\x81",
    "object_state": filled(b"K\x01", OBJECT),
    "object_scalar": b"cnumpy.core.multiarray\nscalar\n(" + OBJECT + EIGHT + b"tR",
    "fields": filled(b"K\x01", FLOAT + FIELDS),
    "void": filled(b"K\x01", FLOAT.replace(b"f8", b"V8")),
    "wide": filled(b"K\x01", FLOAT.replace(b"\x02\x00\x00\x00f8", b"\x04\x00\x00\x00f999")),
    "negative": filled(b"J\xff\xff\xff\xff", FLOAT),
    "two_negatives": filled(b"J\xff\xff\xff\xffJ\xff\xff\xff\xff", FLOAT),
    "huge": filled(b"J\xff\xff\xff\x7f" * 3, FLOAT),
    "list_as_data": filled(b"K\x01", FLOAT, b"]K\x05a"),
    "number_as_dtype": filled(b"K\x01", b"K\x05"),
    "state_twice": filled(b"K\x01", FLOAT) + b"}b",
    "other_class": ARRAY.replace(b"numpy\nndarray", HISTORY[1:-1]),
    "frombuffer": b"cnumpy.core.numeric\n_frombuffer\n(" + EIGHT + OBJECT + b"K\x01\x85U\x01CtR",
    "history_method": HISTORY + b")\x81}X\x04\x00\x00\x00meanK\x01sb",
    "history_class": HISTORY + b"(N}X\x04\x00\x00\x00meanK\x01stb",
    "ordered_dict_class": b"ccollections\nOrderedDict\n(N}X\x05\x00\x00\x00itemsK\x01stb",
    "ordered_dict_items": b"ccollections\nOrderedDict\n)R}X\x05\x00\x00\x00itemsK\x01sb",
    "ordered_dict_metadata": b"ccollections\nOrderedDict\n)R}X\x09\x00\x00\x00_metadataK\x01sb",
    "getattr": b"c__builtin__\ngetattr\n(" + HISTORY + b"X\x08\x00\x00\x00__init__tR",
    "uncalled": b"c_codecs\nencode\n",
    "codec": b"c_codecs\nencode\n(U\x01aX\x03\x00\x00\x00hextR",
    "deep_key": b"})" + b"\x85" * 300_000 + b"K\x01s",
    "deep_list": b"]" * 5_000 + b"a" * 4_999,
    "endless_list": b"]q\x01h\x01a",
    "doubling": b"]q\x01" + b"".join(b"](h%ch%ceq%c" % (i, i, i + 1) for i in range(1, 60)),
    "memo": b"Nr\xff\xff\xff\x7f",
    "large_bytes": b"\x8e\xff\xff\xff\xff\xff\xff\xff\x3f",
    "empty_stack": b"tR" * 10,
    "beyond": TENSOR % b"K\x00K\x05\x85K\x01\x85",
    "offset": TENSOR % b"K\x03K\x02\x85K\x01\x85",
    "expanded": TENSOR % b"K\x00J\xff\xff\xff\x7f\x85K\x00\x85",
    "negative_size": TENSOR % b"K\x00J\xff\xff\xff\xff\x85K\x01\x85",
    "negative_stride": TENSOR % b"K\x00K\x02\x85J\xff\xff\xff\xff\x85",
    "negative_offset": TENSOR % b"J\x00\xff\xff\xffK\x02\x85K\x01\x85",
    "other_storage": TENSOR.replace(b"K\x04tQ", b"K\x05tQ") % b"K\x00K\x02\x85K\x01\x85",
    "absent_storage": TENSOR.replace(b"\x000X", b"\x009X") % b"K\x00K\x02\x85K\x01\x85",
    "tensor_state": TENSOR % b"K\x00K\x02\x85K\x01\x85" + b"(NNNNtb",
}


def zipped(path: Path, pickled: bytes, method: int = zipfile.ZIP_STORED, size: int = 16) -> None:
    with zipfile.ZipFile(path, "w", method) as archive:
        archive.writestr("archive/data.pkl", pickled)
        archive.writestr("archive/data/0", bytes(size))
        archive.writestr("archive/version", b"3\n")
        archive.writestr("archive/byteorder", sys.byteorder)


def hostile_pickles(folder: Path) -> None:
    for name, value in PICKLES.items():
        pickled = b"\x80\x02}X\x01\x00\x00\x00a" + value + b"s."
        zipped(folder / f"{name}.pth", pickled)
        (folder / f"{name}.pkl").write_bytes(pickled)


def hostile_values(folder: Path, whole: dict) -> None:
    """Values that torch.save writes, in places where others belong."""
    values = {
        "float8": torch.zeros(2).to(torch.float8_e4m3fn),
        "sparse": torch.eye(2).to_sparse(),
        "csr": torch.eye(2).to_sparse_csr(),
        "meta_device": torch.empty(2, device="meta"),
        "quantized": torch.quantize_per_tensor(torch.zeros(2), 0.1, 0, torch.qint8),
    }
    for name, value in values.items():
        torch.save({"conv1.weight": value}, folder / f"{name}.pth")
    for i, value in enumerate(([], [1], None, "x", 5, torch.ones(2))):
        torch.save({**whole, "meta": value}, folder / f"meta_{i}.pth")
        torch.save({**whole, "state_dict": value}, folder / f"state_{i}.pth")
    published = {"model": published_content()["model"]}
    for i, value in enumerate((5, [1])):
        torch.save({**published, "args": value}, folder / f"args_{i}.pth")
    for i, value in enumerate((5, [1], "x", torch.ones(2))):
        for key in ("cfg", "experiment_name"):
            content = {**whole, "meta": {**whole["meta"], key: value if i != 2 else 7}}
            torch.save(content, folder / f"{IGNORED}{key}_{i}.pth")
    programs = ["a = {[1]: 2}", "a = " + "(" * 9999, "a = " + "-" * 9999 + "1", "a = 1" * 300_000]
    programs += [
        "model = dict(data_preprocessor=dict(mean='abc'))",
        "model = [1]",
        "a = 1 if",
        "\0",
    ]
    for i, program in enumerate(programs):
        mark = "" if "abc" in program else IGNORED
        torch.save({**whole, "meta": {"cfg": program}}, folder / f"{mark}program_{i}.pth")


def hostile_notes(folder: Path, encoder) -> None:
    """Exports with metadata of other types."""
    changes = [{"origin": 3}, {"pixels": []}, {"training": None}, {"origin": {"part": 1}}]
    changes += [{"pixels": {**encoder.meta["pixels"], "mean_0_1": ["a", 1, 2]}}]
    changes += [{"digest": "sha256:0"}, {"versions": "x"}, {"architecture": 5}]
    for i, change in enumerate(changes):
        wrong = encoder._replace(meta={**encoder.meta, **change})
        for to, suffix in (
            ("openmmlab", ".pth"),
            ("openmmlab", ".safetensors"),
            ("detectron2", ".pkl"),
        ):
            (folder / f"notes_{i}{suffix}").write_bytes(encoder_file(wrong, to, suffix)[0])


def hostile_containers(folder: Path, whole: bytes) -> None:
    small = io.BytesIO()
    torch.save(training_state(), small, _use_new_zipfile_serialization=False)
    old = small.getvalue()
    (folder / "old_cut.pth").write_bytes(old[:-3])
    (folder / "old_longer.pth").write_bytes(
        old.replace(struct.pack("=q", 6), b"\xff" * 7 + b"\x7f")
    )
    pickled = pickle.dumps({"a": "x" * 200_000_000}, protocol=2)
    zipped(folder / "bomb.pth", pickled, zipfile.ZIP_DEFLATED)
    zipped(folder / "compressed.pth", b"\x80\x02}.", zipfile.ZIP_DEFLATED)
    with zipfile.ZipFile(folder / "two.pth", "w") as archive:
        for name in ("a/data.pkl", "b/data.pkl"):
            archive.writestr(name, b"\x80\x02}.")
    with tarfile.open(folder / "tar.pth", "w") as archive:
        archive.add(__file__, "storages")
    (folder / "folder.pth").mkdir()
    (folder / "dangling.pth").symlink_to(folder / "nothing")
    os.mkfifo(folder / "pipe.pth")
    header = json.dumps({"a": {"dtype": "F8_E4M3", "shape": [2], "data_offsets": [0, 2]}}).encode()
    (folder / "float8.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + b"ab")
    (folder / "header.safetensors").write_bytes(struct.pack("<Q", 2**60) + b"{}")
    data = random.Random(0)
    for i in range(10):
        cut = data.randrange(1, len(whole))
        (folder / f"cut_{i}.pth").write_bytes(whole[:cut])
        flipped = bytearray(whole)
        flipped[data.randrange(4096, len(whole) - 40_000)] ^= 1 << data.randrange(8)
        (folder / f"flip_{i}.pth").write_bytes(flipped)


READ_ALL = """
import pathlib, sys
from slotcon_plugin.checkpoints import read_encoder
from slotcon_plugin.errors import CheckpointError
for path in sorted(pathlib.Path(sys.argv[1]).iterdir()):
    print(path.name, end=": ", flush=True)
    try:
        read_encoder(path)
        print("read", flush=True)
    except CheckpointError as error:
        print("CheckpointError", str(error).replace("\\n", " "), flush=True)
    except BaseException as error:
        print(repr(error), flush=True)
"""


def test_every_hostile_file_gives_a_checkpoint_error(tmp_path):
    pytest.importorskip("safetensors")
    whole = ours(tmp_path, 18, num_stages=1)
    folder = tmp_path / "hostile"
    folder.mkdir()
    hostile_pickles(folder)
    hostile_values(folder, torch.load(whole, weights_only=True))
    hostile_notes(folder, read_encoder(whole))
    hostile_containers(folder, whole.read_bytes())
    limit = "ulimit -v 12000000; exec "  # kB; the bombs need more
    done = subprocess.run(
        ["bash", "-c", f'{limit}"$@"', "bash", sys.executable, "-c", READ_ALL, folder],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
    )
    lines = done.stdout.splitlines()
    by_name = dict(line.split(": ", 1) for line in lines)
    wrong = [
        line
        for name, line in by_name.items()
        if not line.startswith("CheckpointError")
        and not (name.startswith(IGNORED) and line == "read")
    ]
    # Not only because there is no encoder beside the hostile value.
    wrong += [
        f"{name}: {line}"
        for name, line in by_name.items()
        if Path(name).stem in PICKLES and "cannot be read" not in line and "was refused" not in line
    ]
    assert done.returncode == 0, f"{lines[-1:]} {done.stderr[-500:]}"
    assert not wrong, "\n".join(wrong)
    assert len(lines) == len(list(folder.iterdir())) > 150


def test_the_same_file_with_a_plain_value_is_read(tmp_path):
    """So the hostile values are refused for what they are."""
    for name, value in (
        ("tensor", TENSOR % b"K\x00K\x04\x85K\x01\x85"),
        ("array", filled(b"K\x01", FLOAT)),
    ):
        zipped(tmp_path / f"{name}.pth", b"\x80\x02}X\x01\x00\x00\x00a" + value + b"s.")
        assert len(load_checkpoint_safely(tmp_path / f"{name}.pth")["a"]) in (1, 4)


def test_a_pickle_of_too_many_values_is_refused(tmp_path, monkeypatch):
    zipped(tmp_path / "many.pth", b"\x80\x02" + b"}" * 2000 + b".")
    monkeypatch.setattr(pickle_limits, "MAX_VALUES", 1000)
    with pytest.raises(CheckpointError, match="at most 1,000 values"):
        load_checkpoint_safely(tmp_path / "many.pth")


def test_one_changed_bit_is_found_and_the_earlier_checkpoint_is_used(tmp_path):
    state = training_state()
    state["state_dict"]["weight"] = torch.ones(1000)
    for epoch in (1, 2):
        torch.save(state, tmp_path / f"epoch_{epoch}.pth")
    content = bytearray((tmp_path / "epoch_2.pth").read_bytes())
    content[content.index(np.ones(50, np.float32).tobytes()) + 2] ^= 1  # another finite number
    (tmp_path / "epoch_2.pth").write_bytes(content)
    (tmp_path / "epoch_3.pth").symlink_to(tmp_path / "nothing")
    said: list[str] = []
    path, _ = find_last_good_checkpoint(tmp_path, warn=said.append)
    assert path.name == "epoch_1.pth"
    assert any("epoch_2.pth is skipped" in line and "CRC-32" in line for line in said)
    assert any("epoch_3.pth is skipped" in line for line in said)


@pytest.mark.parametrize("note", [b"x" * 100_000, b"\0\xff/\n" * 100, b"..", b"."])
def test_last_checkpoint_may_contain_anything(tmp_path, note):
    torch.save(training_state(), tmp_path / "epoch_1.pth")
    (tmp_path / "last_checkpoint").write_bytes(note)
    assert find_last_good_checkpoint(tmp_path)[0].name == "epoch_1.pth"


def test_an_export_with_other_weights_than_its_digest_is_refused(tmp_path):
    safetensors = pytest.importorskip("safetensors.torch")
    encoder = read_encoder(ours(tmp_path, 18, num_stages=1))
    (tmp_path / "a.safetensors").write_bytes(encoder_file(encoder, "openmmlab", ".safetensors")[0])
    content = read_file(tmp_path / "a.safetensors")
    content["state_dict"]["bn1.bias"][0] += 1
    header = {"slotcon": json.dumps(content["meta"])}
    safetensors.save_file(content["state_dict"], tmp_path / "b.safetensors", metadata=header)
    assert read_encoder(tmp_path / "a.safetensors").meta["digest"] == encoder.meta["digest"]
    with pytest.raises(CheckpointError, match="not those that were exported"):
        read_encoder(tmp_path / "b.safetensors")
