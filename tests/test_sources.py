"""Finding images, and the errors if there are none."""

import os
import re
from collections import Counter

import pytest

from slotcon_plugin.datasets import sources
from slotcon_plugin.datasets.sources import list_images
from slotcon_plugin.errors import DataError


def touch(folder, *names):
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return [str(folder / name) for name in names]


def test_a_folder_is_searched_to_any_depth(tmp_path):
    names = touch(tmp_path, "a.jpg", "b/c.PNG", "b/d/e.webp", "z/ü.JPEG", "b/f.txt", "g")
    touch(tmp_path, ".hidden.jpg", ".trash/h.jpg", "b/.trash/i.jpg")
    assert list_images(tmp_path) == sorted(names[:4])
    assert list_images(str(tmp_path)) == list_images([tmp_path])
    assert list_images(f"{tmp_path}/**") == sorted(names[:4])
    for source in (tmp_path, f"{tmp_path}/**"):
        list_images(source, skipped=(skipped := Counter()))
        assert skipped == {".txt": 1, "without suffix": 1}


def test_a_link_to_a_parent_folder_is_followed_once(tmp_path):
    names = touch(tmp_path, "a.jpg", "b/c.jpg")
    os.symlink(tmp_path, tmp_path / "b" / "up")
    os.symlink(tmp_path / "a.jpg", tmp_path / "b" / "link.jpg")
    assert list_images(tmp_path) == sorted([*names, str(tmp_path / "b" / "link.jpg")])


def test_a_glob(tmp_path):
    names = touch(tmp_path, "x1/a.jpg", "x2/b.jpg", "y/c.jpg", "x1/deep/d.jpg", "x1/e.txt")
    assert list_images(f"{tmp_path}/x*/*") == names[:2]
    assert list_images(f"{tmp_path}/**/*.jpg") == sorted(names[:4])


def test_a_folder_whose_name_looks_like_a_glob(tmp_path):
    names = touch(tmp_path, "[x]/a.jpg")
    assert list_images(tmp_path / "[x]") == names


def test_a_list_file(tmp_path):
    one, two, three = touch(tmp_path, "in/a b.jpg", "in/ü.jpg", "other/c.noending")
    listing = tmp_path / "in" / "list.txt"
    listing.write_text(f"# chosen by hand\nü.jpg\n\n  a b.jpg\n{three}\nü.jpg\n", encoding="utf-8")
    assert list_images(listing) == sorted([one, two, three])
    listing = tmp_path / "names.lst"
    listing.write_text("a b.jpg\nü.jpg\n", encoding="utf-8")
    assert list_images(listing, list_root=tmp_path / "in") == [one, two]


def test_sources_are_joined_and_each_image_counts_once(tmp_path):
    names = touch(tmp_path, "a/1.jpg", "a/2.jpg", "b/3.jpg")
    assert list_images([tmp_path / "b", tmp_path / "a", f"{tmp_path}/a/*.jpg"]) == names


@pytest.mark.parametrize("layout", ["", "images/"])
def test_presets_find_the_usual_folders(layout, tmp_path, monkeypatch):
    coco = touch(tmp_path, f"{layout}train2017/1.jpg", f"{layout}train2017/2.jpg")
    more = touch(tmp_path, f"{layout}unlabeled2017/3.jpg")
    touch(tmp_path, f"{layout}val2017/4.jpg")
    folders, _ = sources.PRESETS["coco"]
    monkeypatch.setitem(sources.PRESETS, "coco", (folders, 2))
    assert list_images(tmp_path, preset="coco") == coco  # complete: no warning
    with pytest.warns(UserWarning, match=r"3 images of 'coco\+'.*241690"):
        assert list_images(tmp_path, preset="coco+") == coco + more


def test_the_imagenet_preset(tmp_path):
    names = touch(tmp_path, "train/n01/n01_1.JPEG", "train/n02/n02_1.JPEG", "val/n01/v.JPEG")
    with pytest.warns(UserWarning, match="2 images of 'imagenet'.*1281167"):
        assert list_images(tmp_path, preset="imagenet") == names[:2]


def test_errors_name_the_source(tmp_path):
    (tmp_path / "empty").mkdir()
    touch(tmp_path, "one.bin")
    (tmp_path / "empty.txt").write_text("# nothing\n")
    (tmp_path / "wrong.txt").write_text("no/such.jpg\n")
    for source, words in (
        ("gone", "does not exist"),
        ("empty", r"contains no image \(other files: none\)"),
        ("gone/*.jpg", "contains no image"),
        ("empty.txt", "is empty"),
        ("gone.txt", "cannot be read"),
        ("wrong.txt", "list_root"),
        ("one.bin", r"is not an image \(other files: 1 .bin\)"),
    ):
        path = f"{tmp_path}/{source}"
        with pytest.raises(DataError, match=words) as caught:
            list_images(path)
        assert path in str(caught.value)
    touch(tmp_path, "one.jpg")
    assert list_images(tmp_path / "one.jpg") == [f"{tmp_path}/one.jpg"]
    with pytest.raises(DataError, match="No source"):
        list_images([])
    with pytest.raises(DataError, match=re.escape(f"{tmp_path}/images/train2017")) as caught:
        list_images(tmp_path, preset="coco")
    assert "train_dataloader.dataset.preset=None" in str(caught.value)
    with pytest.raises(ValueError, match="coco, coco\\+, imagenet"):
        list_images(tmp_path, preset="cifar")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"a.jpg\n# \xe9 in a comment\n\xfc.jpg\nno \xe9.jpg\n", "line 4, has no �.jpg, .*iconv"),
        ("a.jpg\nü.jpg\n".encode("utf-16"), "line 1, has a zero byte"),
        (b"a.jpg\na\0b.jpg\n", "line 2, has a zero byte"),
        (b"a.jpg\n" + b"x" * 5000, "line 2, has 5,000 bytes"),
        (b"\xff\xfe" * 3, "line 1, has .*iconv"),
    ],
)
def test_lists_that_are_not_utf8_text_are_refused(content, words, tmp_path):
    touch(tmp_path, "a.jpg", os.fsdecode(b"\xfc.jpg"))
    (tmp_path / "list.txt").write_bytes(content)
    with pytest.raises(DataError, match=rf"The list .*list.txt, {words}"):
        list_images(tmp_path / "list.txt")


def test_a_list_from_windows_and_names_with_any_bytes(tmp_path):
    names = touch(tmp_path, "a.jpg", "b\u2028c\x85d.jpg", os.fsdecode(b"\xfc.jpg"))
    lines = [os.fsencode(name) for name in names]
    (tmp_path / "list.txt").write_bytes(b"\xef\xbb\xbf" + b"\r\n".join(lines) + b"\r\n")
    assert list_images(tmp_path / "list.txt") == sorted(names)


def special_files(folder):
    os.mkfifo(folder / "pipe.txt")
    (folder / "device.txt").symlink_to("/dev/zero")
    (folder / "circle.txt").symlink_to(folder / "circle.txt")
    return "pipe.txt", "device.txt", "circle.txt"


def test_lists_are_regular_files(tmp_path):
    for name in special_files(tmp_path):
        with pytest.raises(DataError, match=f"{name} (cannot be read|does not exist)"):
            list_images(tmp_path / name)


def test_files_that_are_skipped_are_reported_once(tmp_path, monkeypatch):
    touch(tmp_path, "a.jpg", "b.heic", "c.HEIC", "d.txt", *(f"e.{i}" for i in range(5)))
    lines = []
    monkeypatch.setattr(sources, "print_log", lambda line, logger: lines.append(line))
    list_images([tmp_path, tmp_path / "a.jpg"])
    (line,) = lines
    assert line.startswith("1 images; other files, not used: 2 .heic, 1 ")
    assert line.endswith(", 2 others")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may list every folder")
def test_a_folder_that_cannot_be_listed(tmp_path):
    touch(tmp_path, "a.jpg", "closed/b.jpg")
    (tmp_path / "closed").chmod(0)
    with pytest.raises(DataError, match="closed cannot be listed: Permission denied"):
        list_images(tmp_path)
