"""The same images as files, in archives, in a Hugging Face data set and behind storage backends."""

import io
import os
import shutil
import stat
import tarfile
import zipfile
from collections import Counter
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
from mmengine.fileio import LocalBackend, register_backend
from PIL import Image
from tiny_training import assert_same, train_apart, write_images
from torch.utils.data import DataLoader

from benchmarks.processes import DEMO
from benchmarks.small_benchmark import pretraining_options
from slotcon_plugin.checkpoints.run_changes import describe_run
from slotcon_plugin.datasets import Draw, ImageSampler, UnlabeledImages
from slotcon_plugin.datasets.decode import UnreadableImage, read_image, read_pixels, read_size
from slotcon_plugin.datasets.sources import list_images
from slotcon_plugin.errors import ConfigError, DataError
from slotcon_plugin.evaluation.knn import ClassFolders
from slotcon_plugin.runtime.safe_loading import load_checkpoint_safely

datasets = pytest.importorskip("datasets")
VIEWS = dict(size=32)
ROOT = "remote/"


class FolderBackend(LocalBackend):
    """Storage whose names begin with "remote/" and are files of a local folder."""

    def __init__(self, folder):
        self.folder = folder

    def _local(self, address):
        assert str(address).startswith(ROOT)
        return os.path.join(self.folder, str(address).removeprefix(ROOT))

    def get(self, filepath):
        return super().get(self._local(filepath))

    def list_dir_or_file(self, dir_path, *args, **kwargs):
        return super().list_dir_or_file(self._local(dir_path), *args, **kwargs)


register_backend("folder", FolderBackend, force=True)


@pytest.fixture(scope="module")
def server(same):
    """The address of a server of the same images."""
    handler = partial(SimpleHTTPRequestHandler, directory=same)
    handler.log_message = lambda *arguments: None
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as http:
        Thread(target=http.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{http.server_port}"
        http.shutdown()


@pytest.fixture(scope="module")
def same(tmp_path_factory):
    """Twelve images in a folder, and the same in everything else that a test can make."""
    top = tmp_path_factory.mktemp("same")
    datasets.config.HF_DATASETS_CACHE = top / "cache"
    folder = write_images(top / "folder")
    (folder / "b").mkdir()
    for number in range(8, 12):
        (folder / f"{number:03}.png").rename(folder / "b" / f"{number:03}.png")
    (folder / "notes.txt").write_text("no image")
    (folder / ".hidden.png").write_bytes(b"hidden")
    for kind in ("zip", "tar"):
        shutil.make_archive(top / "photos", kind, folder)  # with names such as ./b/000.png
    with zipfile.ZipFile(top / "stored.zip", "w") as archive:
        archive.mkdir("data")
        for path in sorted(folder.rglob("*.png"), reverse=True):
            archive.write(path, f"data/{path.relative_to(folder)}")
    paths = [Path(path) for path in list_images(folder)]
    images = [dict(bytes=p.read_bytes(), path=str(p.relative_to(folder))) for p in paths]
    kinds = datasets.Features(image=datasets.Image(), label=datasets.Value("int64"))
    rows = datasets.Dataset.from_dict(dict(image=images, label=list(range(12))), kinds)
    shuffled = rows.select([3, 1, 0, 2, *range(4, 12)])
    datasets.DatasetDict(train=shuffled, test=rows.select([0])).save_to_disk(top / "saved")
    rows.to_parquet(top / "rows.parquet")
    (top / "list.txt").write_text("\n".join(os.path.relpath(p, top) for p in paths))
    return top


def source_of(kind, top, server):
    return {
        "folder": dict(source=top / "folder"),
        "zip": dict(source=top / "photos.zip"),
        "tar": dict(source=top / "photos.tar"),
        "folder in a zip": dict(source=top / "stored.zip" / "data"),
        "data set": dict(source=f"hf:{top}/saved?split=train"),
        "parquet": dict(source=f"hf:{top}/rows.parquet"),
        "list of a zip's members": dict(source=top / "members.txt", list_root=top / "photos.zip"),
        "backend": dict(
            source=ROOT, backend_args=dict(backend="folder", folder=str(top / "folder"))
        ),
        "http": dict(source=f"{server}/list.txt"),
        "list here, http": dict(source=top / "list.txt", list_root=server),
    }[kind]


KINDS = ["zip", "tar", "folder in a zip", "data set", "parquet", "list of a zip's members"]
KINDS += ["backend", "http", "list here, http"]


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_seeds_give_the_same_views(kind, same, server):
    if kind.startswith("list of"):
        names = (os.path.relpath(p, same / "folder") for p in list_images(same / "folder"))
        (same / "members.txt").write_text("\n".join(names))
    expected = UnlabeledImages(same / "folder", views=VIEWS)
    dataset = UnlabeledImages(**source_of(kind, same, server), views=VIEWS)
    assert len(dataset) == 12
    names = [[os.path.basename(path) for path in one.paths] for one in (expected, dataset)]
    assert names[0] == names[1]
    assert describe_run(dataset) == describe_run(expected)  # what a resume compares
    for index in range(12):
        assert_same(expected[Draw(index, 7)], dataset[Draw(index, 7)])
    assert not dataset.unreadable
    again = UnlabeledImages(list(dataset.paths), views=VIEWS, backend_args=dataset.backend_args)
    assert list(again.paths) == list(dataset.paths)


@pytest.mark.parametrize("kind", ["zip", "tar", "data set"])
def test_workers_read_what_one_process_reads(kind, same):
    dataset = UnlabeledImages(**source_of(kind, same, ""), views=VIEWS)
    batches = []
    for workers in (0, 2):
        loader = dict(batch_size=4, sampler=ImageSampler(dataset, seed=0), num_workers=workers)
        batches.append(list(DataLoader(dataset, **loader)))
    assert_same(*batches)


@pytest.mark.slow
def test_a_training_continues_from_another_kind_of_source(same, tmp_path):
    """Two epochs of a folder's images equal one of these and one, resumed, of an archive's."""
    for name, source, resume in (
        ("whole", same / "folder", None),
        ("resumed", same / "photos.tar", tmp_path / "whole" / "epoch_1.pth"),
    ):
        options = pretraining_options(source, tmp_path / name, epochs=2)
        train_apart(1, DEMO, cfg_options=options, resume=resume)
    one, other = (
        load_checkpoint_safely(tmp_path / name / "epoch_2.pth") for name in ("whole", "resumed")
    )
    for part in ("state_dict", "optimizer"):
        assert_same(one[part], other[part], part)


def png(color=0):
    data = io.BytesIO()
    Image.new("RGB", (8, 8), (color, 0, 0)).save(data, "PNG")
    return data.getvalue()


def write_zip(path, members, **options):
    with zipfile.ZipFile(path, "w", **options) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def write_tar(path, members, mode="w"):
    with tarfile.open(path, mode) as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            if isinstance(content, bytes):
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
            else:
                info.type, info.linkname = content
                archive.addfile(info)
    return path


def listing(path):
    found = list_images(path, skipped=(skipped := Counter()))
    return [os.path.relpath(one, path) for one in found], dict(skipped)


def test_members_that_are_no_ordinary_files_are_counted_and_not_read(tmp_path):
    outside = "with an absolute path or '..'"
    unsafe = {"../up.png": png(), "/etc/top.png": png(), "a/../../b.png": png()}
    link = zipfile.ZipInfo("link.png")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    members = {link: "/etc/passwd", "./ok.png": png(), "x/.y/hidden.png": png(), "a.txt": b"-"}
    path = write_zip(tmp_path / "a.zip", members | unsafe)
    with zipfile.ZipFile(path, "a", zipfile.ZIP_LZMA) as archive:
        archive.writestr("lzma.png", png())
    skipped = {"links or devices": 1, "compressed by lzma": 1, outside: 3, ".txt": 1}
    assert listing(path) == (["ok.png"], skipped)
    links = {"l.png": (tarfile.SYMTYPE, "/etc/passwd"), "h.png": (tarfile.LNKTYPE, "ok.png")}
    devices = {"d.png": (tarfile.CHRTYPE, ""), "p.png": (tarfile.FIFOTYPE, "")}
    members = {"./ok.png": png(), "dir": (tarfile.DIRTYPE, "")} | links | devices | unsafe
    path = write_tar(tmp_path / "a.tar", members)
    assert listing(path) == (["ok.png"], {"links or devices": 4, outside: 3})
    encrypted = bytearray(write_zip(tmp_path / "b.zip", {"a.png": png()}).read_bytes())
    encrypted[6] |= 1
    encrypted[encrypted.index(b"PK\1\2") + 8] |= 1
    (tmp_path / "b.zip").write_bytes(encrypted)
    with pytest.raises(DataError, match=r"b.zip contains no image \(other files: 1 encrypted\)"):
        list_images(tmp_path / "b.zip")


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_a_member_has_the_limits_of_a_file(kind, tmp_path, monkeypatch):
    bomb = b"\x89PNG\r\n\x1a\n" + bytes(50 * 2**20)  # 50 kB in a zip
    members = {
        "bomb.png": bomb,
        "empty.png": b"",
        "no.png": b"text",
        "ok.png": png(),
        "ü/1.PNG": png(9),
    }
    write = partial(write_zip, compression=zipfile.ZIP_DEFLATED) if kind == "zip" else write_tar
    path = write(tmp_path / f"a.{kind}", members)
    monkeypatch.setenv("SLOTCON_MAX_MEGAPIXELS", "1")
    found = {os.path.basename(one): one for one in list_images(path)}
    for name, words in {
        "bomb.png": "52,428,808 bytes, expected at most 9",
        "empty.png": "the file is empty",
        "no.png": "begins with b'text'",
    }.items():
        with pytest.raises(UnreadableImage, match=f"a.{kind}/{name}: .*{words}"):
            read_pixels(found[name])
    assert read_image(found["1.PNG"]).getpixel((0, 0)) == (9, 0, 0)
    assert read_size(found["ok.png"]) == (8, 8)
    with pytest.raises(UnreadableImage, match="there is no such member"):
        read_pixels(f"{path}/gone.png")
    dataset = UnlabeledImages(path, views=VIEWS)
    with pytest.warns(UserWarning, match="cannot read"):
        assert [dataset[Draw(i, 0)] for i in range(5)]
    assert {os.path.basename(one) for one in dataset.unreadable} == {
        "bomb.png",
        "empty.png",
        "no.png",
    }


def test_a_zip_that_claims_other_sizes_than_it_has(tmp_path):
    data = bytearray(write_zip(tmp_path / "a.zip", {"a.png": png(), "b.png": png(1)}).read_bytes())
    entry = data.index(b"PK\1\2")
    data[entry + 24] -= 1  # the first member's size
    data[data.index(png(1)) + 50] ^= 1
    (tmp_path / "a.zip").write_bytes(data)
    for one in list_images(tmp_path / "a.zip"):
        with pytest.raises(UnreadableImage, match="the archive is damaged"):
            read_pixels(one)


def test_an_archive_that_changes_is_indexed_again_when_it_is_listed(tmp_path):
    path = write_tar(tmp_path / "a.tar", {"a.png": png(1)})
    (one,) = list_images(path)
    assert read_pixels(one)[0, 0, 0] == 1
    write_tar(path, {"b.png": png(), "a.png": png(2)})
    with pytest.raises(UnreadableImage, match="the archive was changed after"):
        read_pixels(one)
    assert len(list_images(path)) == 2 and read_pixels(one)[0, 0, 0] == 2
    path.unlink()
    with pytest.raises(UnreadableImage, match="No such file"):
        read_pixels(one)


def test_damaged_and_compressed_archives_are_refused_with_advice(tmp_path):
    members = {f"{number}.png": png() for number in range(30)}
    whole = write_tar(tmp_path / "a.tar", members).read_bytes()
    for name, data, words in (
        ("cut.tar", whole[: len(whole) // 3], "cannot be read: .*Expected a whole .zip"),
        ("no_end.tar", whole[: 30 * 1024], "not complete after byte 30,720"),
        ("noise.tar", whole[:1024] + b"x" * 2048, "damaged or not complete after byte 1,024"),
        ("cut.zip", write_zip(tmp_path / "b.zip", members).read_bytes()[:-30], "not a zip file"),
        ("empty.zip", b"", "cannot be read"),
    ):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(DataError, match=rf"{name} cannot be read.*{words}|{name} {words}"):
            list_images(tmp_path / name)
    for name in ("a.tar.gz", "a.tgz"):
        write_tar(tmp_path / name, members, "w:gz")
        with pytest.raises(DataError, match=r"compressed as a whole \(.*Decompress it to .tar"):
            list_images(tmp_path / name)
    shutil.copy(tmp_path / "a.tgz", tmp_path / "named.tar")
    with pytest.raises(DataError, match=r"named.tar cannot be read: .*that is not compressed"):
        list_images(tmp_path / "named.tar")
    (tmp_path / "shards").mkdir()
    write_tar(tmp_path / "shards" / "0.tar", {"a.png": png()})
    write_tar(tmp_path / "shards" / "1.tar", {"a.png": png()})
    with pytest.raises(DataError, match=r"if a glob names them: .*shards/\*\.tar"):
        list_images(tmp_path / "shards")
    assert len(list_images(f"{tmp_path}/shards/*.tar")) == 2
    with pytest.raises(DataError, match=r"gone contains no image .*a folder in it"):
        list_images(tmp_path / "shards" / "0.tar" / "gone")


def test_a_folder_that_is_named_like_an_archive(tmp_path):
    (tmp_path / "a.zip" / "b.tar").mkdir(parents=True)
    (tmp_path / "a.zip" / "b.tar" / "1.png").write_bytes(png(3))
    (one,) = list_images(tmp_path / "a.zip")
    assert read_pixels(one)[0, 0, 0] == 3


def test_rows_without_unique_names_are_in_the_order_of_the_data_set(tmp_path):
    content = dict(photo=[png(5), png(4), b"no image", None], other=[0] * 4)
    datasets.Dataset.from_dict(content).save_to_disk(tmp_path / "set")
    source = f"hf:{tmp_path}/set"
    with pytest.raises(DataError, match=rf"has the columns photo, other. .*{source}\?column=NAME"):
        list_images(source)
    found = list_images(f"{source}?column=photo")
    assert [one.rpartition("/")[2] for one in found] == ["0", "1", "2", "3"]
    assert [read_pixels(one)[0, 0, 0] for one in found[:2]] == [5, 4]
    for one, words in zip(found[2:], ("begins with b'no image'", "the row has no image")):
        with pytest.raises(UnreadableImage, match=words):
            read_pixels(one)
    with pytest.raises(DataError, match=r"The column other of .* has .*int64"):
        list_images(f"{source}?column=other")


def test_errors_of_data_sets_and_backends_say_what_to_do(same, server, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    for source, words, kind in (
        (f"hf:{same}/saved", r"has the splits train, test: .*saved\?split=train", DataError),
        (f"hf:{same}/saved?split=val", "has the splits", DataError),
        (f"hf:{tmp_path}/gone", "cannot be opened: .*Expected hf:NAME", DataError),
        ("hf:nobody/nothing", "cannot be opened: .*downloaded before", DataError),
        ("hf:nobody/nothing?splits=x", "is not understood. Expected hf:NAME", ConfigError),
        ("s4://bucket/images", "one of petrel://, s3://, http://, https://", ConfigError),
        (f"{server}/folder", "HTTPBackend cannot list .*Give a list file", DataError),
        (f"{server}/photos.zip", "an archive is read only from a disk", DataError),
        (f"{server}/gone.txt", "cannot be read", DataError),
    ):
        with pytest.raises(kind, match=words):
            list_images(source)
    with pytest.raises(ConfigError, match=r"backend_args=.*'nosuch'.*Expected dict\(backend=NAME"):
        list_images("images", backend_args=dict(backend="nosuch"))
    with pytest.raises(UnreadableImage, match="404"):
        read_pixels(f"{server}/folder/gone.png")


def test_classes_are_folders_in_an_archive(tmp_path):
    members = {f"{name}/{i}.png": png(i) for name in ("cat", "dog") for i in range(2)}
    found = ClassFolders(write_zip(tmp_path / "a.zip", members | {"top.png": png()}), size=8)
    assert found.classes == ["cat", "dog"] and [label for _, label in found.items] == [0, 0, 1, 1]
    assert found[1]["inputs"].shape == (3, 8, 8)


def test_presets_find_archives_as_they_are_downloaded(tmp_path):
    write_zip(tmp_path / "train2017.zip", {"train2017/1.jpg": png(), "train2017/2.jpg": png()})
    with pytest.warns(UserWarning, match="2 images of 'coco'"):
        assert len(list_images(tmp_path, preset="coco")) == 2
