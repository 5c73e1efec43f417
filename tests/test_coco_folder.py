"""A folder in COCO's format becomes one that the mini configs can read."""

import json

import numpy as np
import pytest
from PIL import Image

from benchmarks.small_benchmark import write_mini

pytest.importorskip("mmdet", reason="the mini configs are mmdet's and mmseg's")

from slotcon_plugin.benchmark.coco_folder import READY, as_mini
from slotcon_plugin.errors import DataError


def foreign(tmp_path, names):
    """A folder in COCO's format as users have it: other folders, other classes, PNG."""
    mini, root = write_mini(tmp_path / "mini", count=24), tmp_path / "foreign"
    (root / "annotations").mkdir(parents=True)
    (root / "images" / "deep").mkdir(parents=True)
    content = json.loads((mini / "instances.json").read_text())
    for image in content["images"]:
        name = f"{image['file_name'][:-4]}.png"
        Image.open(mini / "images" / image["file_name"]).save(root / "images" / "deep" / name)
        image["file_name"] = name
        del image["coco_split"]
    for category, name in zip(content["categories"], names, strict=True):
        category["name"] = name
    (root / "annotations" / "instances_x.json").write_text(json.dumps(content))
    return mini, root


def test_a_folder_in_the_layout_of_coco_mini_is_used_directly(tmp_path):
    mini = write_mini(tmp_path / "mini")
    assert as_mini(mini, tmp_path / "out") == mini
    assert not (tmp_path / "out").exists()


def test_another_folder_is_copied(tmp_path):
    mini, root = foreign(tmp_path, ["person", "spoon-bill", "car"])
    out = as_mini(root, tmp_path / "out")
    assert all((out / name).exists() for name in READY)
    content = json.loads((out / "instances.json").read_text())
    assert len(content["images"]) == 24
    assert {image["coco_split"] for image in content["images"]} == {"train2017", "val2017"}
    names = [category["name"] for category in content["categories"]]
    assert (names[0], names[2]) == ("person", "car")
    assert names[1] not in ("person", "spoon-bill", "car")
    # VOC's number of a person is 15; the squares are at the same positions
    drawn = np.array(Image.open(mini / "voc21" / "000.png"))
    labels = np.array(Image.open(out / "voc21" / "000.png"))
    assert (labels == 15)[drawn == 1].mean() > 0.95
    assert (labels > 0)[drawn == 0].mean() < 0.05
    stamp = (out / "instances.json").stat().st_mtime_ns
    assert as_mini(root, tmp_path / "out") == out
    assert (out / "instances.json").stat().st_mtime_ns == stamp  # not copied again
    _, other = foreign(tmp_path / "other", ["dog", "car", "cat"])
    assert as_mini(other, tmp_path / "out") != out  # never another folder's images


def test_a_folder_without_annotations_is_refused(tmp_path):
    (tmp_path / "a.json").write_text("[1]")
    with pytest.raises(DataError, match="neither laid out as coco_mini"):
        as_mini(tmp_path, tmp_path / "out")
    _, root = foreign(tmp_path, ["person", "dog", "car"])
    for file in (root / "images" / "deep").glob("00*.png"):
        file.unlink()
    with pytest.raises(DataError, match="lists 24 images, and 14 of them"):
        as_mini(root, tmp_path / "out")
