"""A folder in COCO's format becomes one that the mini configs can read."""

import json
import os

import numpy as np
import pytest
from PIL import Image

from benchmarks.small_benchmark import write_mini

pytest.importorskip("mmdet", reason="the mini configs are mmdet's and mmseg's")

from slotcon_plugin.benchmark.coco_folder import LABEL_MAPS, READY, as_mini
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
    for name in LABEL_MAPS:
        (tmp_path / "maps" / name).mkdir(parents=True)
    assert as_mini(tmp_path / "maps", tmp_path / "out") == tmp_path / "maps"
    assert not (tmp_path / "out").exists()


def test_missing_lists_of_label_maps_are_named(tmp_path):
    for name in ("images", "labels"):
        (tmp_path / name).mkdir()
    (tmp_path / "train.txt").touch()
    (tmp_path / "train20_1.txt").touch()
    message = r"small\.yaml, but without test\.txt, train20_0\.txt, train20_2\.txt: lists of images"
    with pytest.raises(DataError, match=message):
        as_mini(tmp_path, tmp_path / "out")


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


def test_what_cannot_be_used_is_left_out(tmp_path, capsys):
    _, root = foreign(tmp_path, ["person", "dog", "car"])
    file = root / "annotations" / "instances_x.json"
    os.mkfifo(root / "annotations" / "instances_a.json")
    (root / "annotations" / "._instances_x.json").write_bytes(b"\xff")
    content = json.loads(file.read_text())
    folder, images = root / "images" / "deep", content["images"]
    extra = [dict(image, id=1000 + i) for i, image in enumerate(images[:6])]
    names = [f"{'x' * 200}{i}.png" for i in range(6)]
    for image, name in zip(extra, names, strict=True):
        Image.open(folder / image["file_name"]).save(folder / name)
        image["file_name"] = name
        content["annotations"].append(
            dict(content["annotations"][0], id=5000 + image["id"], image_id=image["id"])
        )
    (folder / names[0]).write_bytes((folder / names[0]).read_bytes()[:99])  # truncated
    (folder / names[1]).unlink()
    os.mkfifo(folder / names[1])
    extra[2]["width"] += 1  # not the image of these annotations
    content["annotations"][-3]["segmentation"] = []
    content["annotations"][-2]["segmentation"] = [[1, 2]]
    del extra[5]["height"], extra[5]["width"]
    pixels = np.asarray(Image.open(folder / names[5]).convert("L")).astype(np.uint16)
    Image.fromarray(pixels * 257).save(folder / names[5])  # 16 bits
    content["images"] = extra + images
    file.write_text(json.dumps(content))
    out = as_mini(root, tmp_path / "out")
    written = json.loads((out / "instances.json").read_text())
    kept = {image["file_name"][200:] for image in written["images"] if len(image["file_name"]) > 99}
    assert kept == {"4.jpg", "5.jpg"}
    ours = Image.open(out / "images" / f"{'x' * 200}5.jpg")
    assert abs(np.asarray(ours.convert("L")).mean() - pixels.mean()) < 2
    assert {"height", "width"} <= next(i for i in written["images"] if i["id"] == 1005).keys()
    outlines = {one["id"] for one in written["annotations"]}
    assert outlines.isdisjoint({6002, 6003, 6004}) and 6005 in outlines
    printed = capsys.readouterr().out
    assert printed.count("it is left out") == 3 and "outline of the object 6004" in printed


def test_another_kind_of_json_is_one_error(tmp_path):
    _, root = foreign(tmp_path, ["person", "dog", "car"])
    file = root / "annotations" / "instances_x.json"
    content = json.loads(file.read_text())
    for damage in ("images", "categories", "annotations"):
        for value in (None, 5, "x", [None], [{}], {"a": 1}):
            file.write_text(json.dumps(content | {damage: value}))
            with pytest.raises(DataError, match="COCO's format"):
                as_mini(root, tmp_path / "out")
    assert not list((tmp_path / "out").glob("*"))
