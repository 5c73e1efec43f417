"""Labels that are wrong are found before the first step, with file, value and remedy."""

import itertools
import json
import os
import re
import shlex

import numpy as np
import pytest
import torch
from mmengine.logging import MMLogger
from PIL import Image
from pycocotools import mask as rle

from benchmarks.small_benchmark import DET, SEG, SIZE, transfer_options, write_mini
from slotcon_plugin.apis.test import test as evaluate
from slotcon_plugin.apis.train import train
from slotcon_plugin.errors import ConfigError, DataError
from slotcon_plugin.runtime.config_options import read_config
from slotcon_plugin.transfer.annotations import check_annotations
from slotcon_plugin.transfer.coco_content import Needs
from slotcon_plugin.transfer.coco_file import check_coco_file
from slotcon_plugin.transfer.object_masks import are_run_lengths

pytest.importorskip("mmdet", reason="detection needs mmdet")
pytest.importorskip("mmseg", reason="segmentation needs mmseg")
runs = itertools.count()
LOADERS = ("train_dataloader", "val_dataloader", "test_dataloader")


@pytest.fixture
def root(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    MMLogger._instance_dict.clear()
    folder = write_mini(tmp_path / "mini")
    monkeypatch.setenv("SLOTCON_DATA", str(folder))
    return folder


def check(config, root, *options):
    # Not serialized: that collects the garbage of the whole process.
    plain = [f"+{name}.dataset.serialize_data=False" for name in LOADERS]
    own = [*transfer_options(config, root), *plain, *options]
    return check_annotations(read_config(config, own))


def change(root, function):
    """Change instances.json by a function of its content, which may return another one."""
    file = root / "instances.json"
    content = json.loads(file.read_text())
    replaced = function(content)
    file.write_text(json.dumps(content if replaced is None else replaced))


def each(section, **values):
    """Sets or, with None, removes keys of all entries of a section."""

    def function(content):
        for row in content[section]:
            for key, value in values.items():
                if value is ...:
                    row.pop(key, None)
                else:
                    row[key] = value

    return function


def first(section, **values):
    return lambda content: each(section, **values)({section: content[section][:1]})


def encoded(content):
    """Run-length encoded masks in place of polygons."""
    for one in content["annotations"]:
        (code,) = rle.frPyObjects(one["segmentation"], SIZE, SIZE)
        one["segmentation"] = dict(size=[SIZE, SIZE], counts=code["counts"].decode())


def renamed(content):
    for row, name in zip(content["categories"], ("helmet", "vest", "boot"), strict=True):
        row["name"] = name


def reordered(content):
    content["categories"].reverse()


ENTRY = r"train_dataloader\.dataset\.pipeline\.1\."
DAMAGES = {
    "run lengths": (encoded, rf"8 of 8 objects have run-length .*000\.jpg.* Set {ENTRY}poly2mask"),
    "own names": (renamed, r"objects of \('helmet', 'vest'.*any of the names.*num_classes=3"),
    "one own name": (
        first("categories", name="helmet"),
        r"objects of \('helmet',\) would be left out.*metainfo=dict\(classes=\('helmet', 'bic",
    ),
    "other order": (reordered, "class 0 would be called 'person', but is the file's 'car'"),
    "no masks": (
        each("annotations", segmentation=...),
        rf"8 of 8 objects have no mask.*{ENTRY}with_mask=False val\S* test\S* model\.roi_head\."
        r"""mask_head=None "val_evaluator\.metric=\['bbox'\]" "test_evaluator\S*"\.$""",
    ),
    "one empty mask": (first("annotations", segmentation=[]), "1 of 8 objects have no mask"),
    "flat polygon": (first("annotations", segmentation=[1, 2, 3, 4, 5, 6]), "of another form"),
    "text in a polygon": (first("annotations", segmentation=[["a"] * 6]), "of another form"),
    "strange run lengths": (first("annotations", segmentation={"size": 3}), "of another form"),
    "far away": (first("annotations", segmentation=[[0, 0, 1e30, 0, 9, 9]]), "of another form"),
    "size of a mask": (
        first("annotations", segmentation={"size": [9, 9], "counts": [81]}),
        "of another form, first in .*with the image's size",
    ),
    "fractions in polygons": (
        each("annotations", segmentation=[[0.1, 0.1, 0.5, 0.1, 0.5, 0.5]]),
        "polygons of 8 of 8 objects that were looked at lie outside of the objects' boxes",
    ),
    "two points": (each("annotations", segmentation=[[1, 2, 3, 4]]), "no polygon of three points"),
    "no height": (
        first("images", height=...),
        r"images\[0\]\.height is missing, expected a number",
    ),
    "no box": (
        first("annotations", bbox=...),
        r"annotations\[0\]\.bbox is missing, expected a list",
    ),
    "no area": (each("annotations", area=...), r"annotations\[0\]\.area is missing"),
    "crowd": (first("annotations", iscrowd="no"), r"annotations\[0\]\.iscrowd is 'no', expected 0"),
    "three numbers": (first("annotations", bbox=[1, 2, 3]), r"bbox is \[1, 2, 3\], expected 4"),
    "text in a box": (first("annotations", bbox=[1, 2, 3, "4"]), "number 3 is '4', expected a num"),
    "NaN": (first("annotations", bbox=[1, 2, float("nan"), 4]), "number 2 is nan"),
    "infinity": (first("annotations", area=float("inf")), r"area is inf, expected a number"),
    "negative size": (each("annotations", bbox=[50, 50, -20, -20]), "side below 1 pixel, or neg"),
    "fractions": (each("annotations", bbox=[0.1, 0.1, 0.5, 0.5]), "8 of 8 objects are faulty"),
    "corners": (each("annotations", bbox=[40, 40, 90, 90]), r"leave their image \(bbox is x, y"),
    "area": (each("annotations", area=0), "8 of 8 .* an area of 0 or less"),
    "unknown category": (each("annotations", category_id=77), "category_id that is not among"),
    "unknown image": (each("annotations", image_id=77), "image_id that is not among the images"),
    "same id": (each("annotations", id=1), "1 ids of annotations occur more than once"),
    "same image": (each("images", id=1), "1 ids of images occur more than once"),
    "same name": (each("categories", name="person"), "more than one category has the name 'pers"),
    "crowds": (each("annotations", iscrowd=1), "no object to learn from.* 8 are crowds"),
    "no objects": (
        lambda c: c | dict(annotations=[]),
        r"`annotations` is \[\]\. Expected is a COCO",
    ),
    "no images": (lambda c: c.pop("images") and None, "`images` is missing"),
    "null": (lambda c: c | dict(categories=None), "`categories` is None"),
    "no dictionary": (first("annotations", bbox=None), r"bbox is None, expected a list"),
    "number": (
        lambda c: c | dict(annotations=[1]),
        r"annotations\[0\] is 1, expected a dictionary",
    ),
    "list": (lambda c: [c], "instances.json: AssertionError: annotation file format.*list"),
    "other size": (each("images", width=SIZE // 2, height=SIZE // 2), "faulty"),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_coco_annotations_that_are_wrong(name, root):
    damage, message = DAMAGES[name]
    change(root, damage)
    with pytest.raises((DataError, ConfigError), match=f"(?s){message}") as caught:
        check(DET, root)
    assert "instances.json" in str(caught.value)


def test_the_validation_s_annotations_are_looked_at_too(root, tmp_path):
    other = write_mini(tmp_path / "other")
    change(other, encoded)
    for phase in ("val", "test"):
        with pytest.raises(
            DataError, match=rf"other/instances.*Set train.* {phase}_dataloader\S*\.2\.poly2mask"
        ):
            check(DET, root, f"{phase}_dataloader.dataset.data_root={other}/")


def test_files_that_are_no_json(root):
    for text in (b"", b"{", b"\xff\xfe{}", b"[" * 100_000):
        (root / "instances.json").write_bytes(text)
        with pytest.raises(DataError, match=r"CocoDataset .*instances\.json") as caught:
            check(DET, root)
        assert "\n" not in str(caught.value).replace(str(root), "") or text == b""
    from mmdet.datasets import CocoDataset

    assert CocoDataset.load_data_list.__name__ == "load_data_list"  # as before the checks


def test_single_faults_are_tolerated_and_counted(root):
    def many(content):
        one = content["annotations"][0]
        content["annotations"] += [dict(one, id=100 + i) for i in range(200)]
        content["annotations"][5]["bbox"] = [0, 0, 0, 0]

    change(root, many)
    line, *_ = check(DET, root)
    assert "207 objects of 3 classes, 4 images; 1 faulty: 1 have a side below 1 pixel" in line
    assert "(first: object 6)" in line


def test_images_that_are_not_those_annotated(root):
    Image.new("RGB", (SIZE, SIZE // 2)).save(root / "images" / "002.jpg")
    with pytest.raises(DataError, match=r"002\.jpg has 96 x 48 pixels, .*annotated as 96 x 96"):
        check(DET, root)


def test_evaluated_annotations_are_those_of_the_images(root):
    (root / "other.json").write_text("{}")
    ann_file = f"val_evaluator.ann_file={root}/other.json"
    with pytest.raises(ConfigError, match=r"val_evaluator\.ann_file is .*other\.json, but the im"):
        check(DET, root, ann_file)
    with pytest.raises(ConfigError, match=r"indices .*Set val_evaluator\.ann_file=None"):
        check(DET, root, f"val_evaluator.ann_file={root}/instances.json")


@pytest.mark.parametrize(
    ("damage", "remedies"),
    [
        (encoded, []),
        (each("annotations", segmentation=...), []),
        (
            renamed,
            [f"+{name}.dataset.metainfo.classes=('helmet','vest','boot')" for name in LOADERS]
            + [f"model.roi_head.{head}.num_classes=3" for head in ("bbox_head", "mask_head")],
        ),
    ],
    ids=["run lengths", "boxes alone", "own names"],
)
def test_the_remedies_train(damage, remedies, root, tmp_path, capsys):
    """With what the message says to change, a dry run takes a step: with its options, if it has
    some. In the pipeline that was built, a step is before those of the config."""
    change(root, damage)

    def dry_run(*options):
        name = f"+experiment_name=annotations{next(runs)}"
        own = [*transfer_options(DET, root), name, *options]
        train(DET, work_dir=tmp_path / "work", backbone="none", cfg_options=own, dry_run=True)
        return capsys.readouterr().out

    with pytest.raises((DataError, ConfigError)) as caught:
        dry_run()
    advice = re.split("Set |alone: ", str(caught.value))[-1].removesuffix(".")
    options = shlex.split(advice)
    step = re.search("first step: .*", dry_run(*(remedies or options)))[0]
    losses = dict(re.findall(r"(loss_\w+) ([\d.e-]+)", step))
    assert float(losses["loss_bbox"]) > 0
    if "loss_mask" in losses:
        assert float(losses["loss_mask"]) > 0
    assert ("loss_mask" in losses) == ("model.roi_head.mask_head=None" not in options)


def test_images_without_objects_can_be_formatted(root):
    """As COCO's test-dev: `format_only` writes results for images that have no annotations."""
    change(root, lambda content: content.pop("annotations") and None)
    test_set = ["train_dataloader=None", "val_dataloader=None"]
    test_set.append("test_dataloader.dataset.test_mode=True")
    assert "4 images" in check(DET, root, *test_set, "+test_evaluator.format_only=True")[0]
    with pytest.raises(DataError, match="`annotations` is missing"):
        check(DET, root, *test_set)


def test_files_that_other_libraries_read(root):
    """As detectron2's trainer, which takes the classes from the file."""
    file, needs = str(root / "instances.json"), Needs(None, num_classes=("X", 3), crowd_flag=True)
    line = check_coco_file(file, needs, None, "Y", "Z")
    assert line == f"{file}: 8 objects of 3 classes, 4 images"
    with pytest.raises(DataError, match="has 3 of the config's classes, but X is 2"):
        check_coco_file(file, needs._replace(num_classes=("X", 2)), None, "Y", "Z")
    change(root, encoded)
    with pytest.raises(DataError, match=r"6 of 6 objects have run-length .* 000\.jpg.* Set Z\."):
        check_coco_file(file, needs, "train2017", "Y", "Z")
    assert check_coco_file(file, needs, None, "Y", "") == line
    change(root, each("annotations", segmentation=...))
    with pytest.raises(DataError, match=r"8 of 8 objects have no mask.*boxes alone: Y\."):
        check_coco_file(file, needs, None, "Y", "Z")
    assert check_coco_file(file, needs, None, "", "Z") == line
    for text in (b"{", b"\xff", b"[" * 100_000):
        (root / "instances.json").write_bytes(text)
        with pytest.raises(DataError, match=r"instances\.json"):
            check_coco_file(file, needs, None, "", "")


POLYGON = [[10.0, 10, 50, 12, 30, 60]]


def test_run_lengths_are_checked(root):
    whole, (code,) = [SIZE * SIZE], rle.frPyObjects(POLYGON, SIZE, SIZE)
    for counts in (whole, [5, SIZE * SIZE - 5], code["counts"], code["counts"].decode()):
        assert are_run_lengths(counts, SIZE * SIZE)
        assert not are_run_lengths(counts, SIZE * SIZE + 1)
        assert not are_run_lengths(counts[:-1], SIZE * SIZE)
    for counts in ("zzzz", "", "~~~", [-5, SIZE * SIZE + 5], ["a"], [SIZE * SIZE * 1.0]):
        assert not are_run_lengths(counts, SIZE * SIZE)
    change(root, encoded)
    change(root, first("annotations", segmentation=dict(size=[SIZE, SIZE], counts="zzzz")))
    with pytest.raises(DataError, match=r"of a mask in .*000\.jpg do not make up 96 x 96 pixels"):
        check(DET, root, "train_dataloader.dataset.pipeline.1.poly2mask=True")


def save_map(root, values, name="000.png", **options):
    Image.fromarray(values).save(root / "voc21" / name, **options)


def squares(*values):
    """A map of SIZE with these values in stripes."""
    return np.repeat(np.array(values, np.uint8), -(-SIZE // len(values)))[:SIZE][None].repeat(
        SIZE, 0
    )


def all_maps(values):
    return lambda root: [save_map(root, values, path.name) for path in (root / "voc21").iterdir()]


ZERO = [f"+{name}.dataset.reduce_zero_label=True" for name in LOADERS]
OWN = [f"{name}.dataset.type=BaseSegDataset" for name in LOADERS]
OWN += [f"+{name}.dataset.metainfo.classes={tuple('ab')}" for name in LOADERS]
MAPS = {
    "too large": (
        lambda root: save_map(root, squares(0, 30)),
        [],
        r"000\.png has the values 30 .*model\.decode_head\.num_classes is 21: classes 0 to 20",
    ),
    "one more": (
        lambda root: save_map(root, squares(0, 21)),
        [],
        "set reduce_zero_label=True in the dataset and its pipeline; otherwise set model",
    ),
    "colors": (
        lambda root: save_map(root, np.zeros((SIZE, SIZE, 3), np.uint8)),
        [],
        "mode RGB.*one channel",
    ),
    "16 bits": (
        lambda root: save_map(root, np.full((SIZE, SIZE), 1000, np.uint16)),
        [],
        "values up to 1000, expected 8 bits",
    ),
    "other size": (
        lambda root: save_map(root, np.ones((SIZE, 50), np.uint8)),
        [],
        "50 x 96 pixels, its image",
    ),
    "jpeg": (lambda root: save_map(root, squares(0, 1), format="JPEG"), [], "JPEG changes values"),
    "broken": (
        lambda root: (root / "voc21" / "000.png").write_bytes(b"broken"),
        [],
        r"000\.png cannot be read",
    ),
    "only ignored": (all_maps(squares(255)), [], "no labeled pixel: values 255"),
    "masks of 255": (all_maps(squares(0, 255)), [], "only the class 0: .*must be 1, not 255"),
    "zero is a class": (
        lambda root: None,
        ZERO,
        r"in the maps of PascalVOCDataset the value 0 is 'background': set it to False",
    ),
    "zero is no class": (
        lambda root: None,
        [
            *(f"{name}.dataset.type=ADE20KDataset" for name in LOADERS),
            *(option.replace("True", "False") for option in ZERO),
            "model.decode_head.num_classes=150",
        ],
        "in the maps of ADE20KDataset the value 0 is no class: set it to True",
    ),
    "ignored value and zero": (
        all_maps(squares(0, 1, 255)),
        [*ZERO, *OWN],
        "marks pixels without a class by 255",
    ),
    "pipe": (
        lambda root: ((root / "voc21" / "000.png").unlink(), os.mkfifo(root / "voc21" / "000.png")),
        [],
        r"000\.png cannot be read: it is a pipe",
    ),
    "image is a pipe": (
        lambda root: ((root / "images/000.jpg").unlink(), os.mkfifo(root / "images/000.jpg")),
        [],
        r"000\.jpg is missing, or no regular file",
    ),
    "indices": (
        lambda root: (root / "train2017.txt").write_text("000\n001\n"),
        [],
        r"train_dataloader\.dataset\.indices is \[0, 1, 2, 3\], but the dataset has 2 images",
    ),
    "zero in one place": (
        lambda root: None,
        ["+train_dataloader.dataset.pipeline.1.reduce_zero_label=True"],
        r"dataset\.reduce_zero_label is False, but .*pipeline\.1\.reduce_zero_label is True",
    ),
    "fewer outputs": (
        lambda root: None,
        ["model.decode_head.num_classes=19"],
        r"PascalVOCDataset\) has 21 classes, but model\.decode_head\.num_classes is 19",
    ),
    "palette as colors": (
        lambda root: Image.fromarray(squares(0, 1)).convert("P").save(root / "voc21" / "000.png"),
        ["+train_dataloader.dataset.pipeline.1.imdecode_backend=cv2"],
        r"read as an array of \(96, 96, 3\).*imdecode_backend='pillow'",
    ),
    "other suffix": (
        lambda root: (root / "voc21" / "000.png").rename(root / "voc21" / "000.tif"),
        [],
        r"1 of 8 files .*000\.png.*There is 000\.tif: set img_suffix or seg_map_suffix",
    ),
    "ignored zero": (
        all_maps(squares(0, 1, 255)),
        ["+model.decode_head.ignore_index=0"],
        "values 255 .* and 0 for pixels without one",
    ),
    "no image": (
        lambda root: (root / "train2017.txt").write_text(""),
        [f"{name}.dataset.indices=None" for name in LOADERS],
        r"dataset \(PascalVOCDataset\) is empty: it has no images \*\.jpg",
    ),
    "list in Latin-1": (
        lambda root: (root / "train2017.txt").write_bytes(b"\xe9t\xe9\n"),
        [],
        r"PascalVOCDataset .*train2017\.txt: UnicodeDecodeError",
    ),
}


@pytest.mark.parametrize("name", MAPS)
def test_label_maps_that_are_wrong(name, root):
    damage, options, message = MAPS[name]
    damage(root)
    with pytest.raises((DataError, ConfigError), match=f"(?s){message}"):
        check(SEG, root, *options)


def test_what_was_looked_at_is_said(root, tmp_path):
    other = write_mini(tmp_path / "other")
    save_map(other, squares(255))
    lines = check(SEG, root, f"test_dataloader.dataset.data_root={other}/")
    assert [line.partition(" maps")[0] for line in lines] == [
        "labels of train_dataloader.dataset: 4 of 4",
        "labels of val_dataloader.dataset: 4 of 4",
        "labels of test_dataloader.dataset: 4 of 4",
    ]
    assert "3 of 21 classes occur" in lines[0]
    assert "1 maps have none" in lines[2]


def test_label_maps_of_the_test_set_are_looked_at_before_it_is_scored(root, tmp_path):
    options = [*transfer_options(SEG, root), f"+experiment_name=annotations{next(runs)}"]
    work = train(SEG, work_dir=tmp_path / "work", backbone="none", cfg_options=options)
    save_map(root, squares(0, 30))
    options[-1] = f"+experiment_name=annotations{next(runs)}"
    with pytest.raises(DataError, match=r"000\.png has the values 30"):
        evaluate(SEG, work / "iter_2.pth", tmp_path / "test", cfg_options=options)


def test_the_mini_datasets_are_accepted(coco_mini, monkeypatch):
    monkeypatch.setenv("SLOTCON_DATA", str(coco_mini))
    (det,) = check_annotations(read_config(DET))[:1]
    assert "1,525 objects of 80 classes, 183 images" in det
    assert "8 of 8 maps" in check_annotations(read_config(SEG))[0]
