"""Pixel labels in every format, and the squares that are cut from images."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import InterpolationMode

from slotcon_plugin.errors import DataError, SlotConError
from slotcon_plugin.evaluation import coco_stuff
from slotcon_plugin.evaluation.label_formats import FORMATS, find_labels, label_format
from slotcon_plugin.evaluation.labeled_images import LabeledImages, center_square


def save(path, values, mode="L"):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(np.array(values, np.uint8))
    if mode == "P":
        image.putpalette(list(range(256)) * 3)
    image.save(path)
    return path


def read(source, kind, stem="a"):
    return np.array(find_labels(source, kind)[stem].read()).tolist()


def test_index_maps(tmp_path):
    # person, car, (grass-stuff, value 123) and sky-other (156), unlabeled
    save(tmp_path / "stuff/a.png", [[0, 2, 123], [156, 181, 255]])
    names = coco_stuff.CLASSES
    assert read(tmp_path / "stuff", "coco-stuff") == [
        [names.index("person-things"), names.index("vehicle-things"), names.index("plant-stuff")],
        [names.index("sky-stuff"), names.index("solid-stuff"), 255],
    ]
    save(tmp_path / "voc/a.png", [[0, 20, 255]], mode="P")
    assert read(tmp_path / "voc", "voc") == [[0, 20, 255]]
    save(tmp_path / "ade/a.png", [[0, 1, 150]])
    assert read(tmp_path / "ade", "ade20k") == [[255, 0, 149]]
    assert [len(classes) for classes, _ in FORMATS.values()] == [27, 27, 21, 150]


def write_panoptic(folder, categories, segments, numbers):
    content = dict(
        categories=[
            dict(id=i, name=f"c{i}", supercategory=name, isthing=thing)
            for i, (name, thing) in enumerate(categories)
        ],
        annotations=[dict(file_name="a.png", image_id=1, segments_info=segments)],
    )
    file = folder / "panoptic.json"
    file.write_text(json.dumps(content))
    numbers = np.array(numbers)
    rgb = np.stack([numbers % 256, numbers // 256 % 256, numbers // 65536], axis=-1)
    save(folder / "panoptic" / "a.png", rgb)
    return file


def test_panoptic_segments(tmp_path):
    categories = [("furniture", 1), ("furniture-stuff", 0), ("food", 1), ("food-stuff", 0)]
    segments = [dict(id=70000, category_id=0), dict(id=300, category_id=1)]
    segments += [dict(id=5, category_id=2), dict(id=6, category_id=3)]
    file = write_panoptic(tmp_path, categories, segments, [[70000, 300, 0], [5, 6, 70000]])
    assert read(file, "panoptic") == [[3, 15, 255], [2, 14, 3]]

    write_panoptic(tmp_path, categories, segments[1:], [[70000, 300, 0]])
    with pytest.raises(DataError, match=r"values \[70000\], which the JSON file does not list"):
        read(file, "panoptic")
    write_panoptic(tmp_path, [("cutlery", 1)], [], [[0]])
    with pytest.raises(DataError, match="'cutlery', which is none of COCO's 27"):
        find_labels(file, "panoptic")


def test_super_categories_agree_with_the_pixel_maps(coco_mini):
    """Two sources of the same hierarchy: the panoptic categories and COCO-Stuff's fine classes."""
    categories = json.loads((coco_mini / "panoptic.json").read_text())["categories"]
    shared = [category for category in categories if category["id"] <= 182]
    assert len(shared) > 100
    for category in shared:
        coarse = coco_stuff.SUPERCATEGORIES[category["supercategory"]]
        assert coarse == coco_stuff.FINE_TO_COARSE[category["id"] - 1], category["name"]
    assert sorted(coco_stuff.SUPERCATEGORIES.values()) == list(range(27))
    assert set(coco_stuff.FINE_TO_COARSE) == set(range(27))


def test_panoptic_labels_are_the_semantic_maps(coco_mini):
    categories = json.loads((coco_mini / "panoptic.json").read_text())["categories"]
    coarse = np.full(256, 255)
    for category in categories:
        coarse[category["id"]] = coco_stuff.SUPERCATEGORIES[category["supercategory"]]
    labels = find_labels(coco_mini / "panoptic.json", "panoptic")
    assert len(labels) == 53
    for stem in sorted(labels)[:5]:
        ids = np.array(Image.open(coco_mini / "semantic133" / f"{stem}.png"))
        assert (np.array(labels[stem].read()) == coarse[ids]).all()


@pytest.mark.parametrize("mode", ["BILINEAR", "NEAREST"])
@pytest.mark.parametrize("size", [(97, 64), (64, 97), (200, 131), (64, 64)])
def test_squares_have_the_protocol_s_sides_and_margins(size, mode):
    """The short side to 64, the other one rounded down; margins rounded to even."""
    pixels = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    image = Image.fromarray(pixels)
    scaled = [64 * side // min(image.size) for side in image.size]
    image = image.resize(scaled, Image.Resampling[mode])
    left, top = (round((side - 64) / 2) for side in scaled)
    expected = np.array(image.crop((left, top, left + 64, top + 64)))
    square = center_square(Image.fromarray(pixels), 64, InterpolationMode[mode])
    assert square.dtype == torch.uint8
    assert (square.permute(1, 2, 0).numpy() == expected).all()


@pytest.fixture
def pairs(tmp_path):
    for i, name in enumerate(("a", "b", "c")):
        values = np.full((20, 30, 3), 60 * i)
        save(tmp_path / "images" / f"{name}.jpg", values)
        if name != "c":
            save(tmp_path / "labels" / f"{name}.png", values[..., 0] // 60)
    return tmp_path


def test_images_and_labels_are_paired_by_name(pairs):
    found = LabeledImages(pairs / "images", pairs / "labels", "voc", size=16)
    assert len(found) == 2
    where = f"from {pairs}/images; labels: voc, from {pairs}/labels"
    assert found.selection == f"the 2 of 3 images that have labels, {where}"
    assert found[1]["inputs"].shape == (3, 16, 16)
    assert found[1]["inputs"].dtype == torch.uint8
    assert found[1]["labels"].unique().tolist() == [1]
    (pairs / "list.txt").write_text("# chosen\nsome/folder/b.jpg\n")
    found = LabeledImages(pairs / "images", pairs / "labels", "voc", 16, pairs / "list.txt")
    assert found[0]["labels"].unique().tolist() == [1]
    assert found.selection == f"the 1 images of {pairs}/list.txt, {where}"
    places = dict(folder=f"{pairs}/images", labels=f"{pairs}/labels", list=f"{pairs}/list.txt")
    assert found.source == dict(places, labels_format="voc")


def test_errors_name_files_and_values(pairs):
    (pairs / "list.txt").write_text("a\nc\n")
    with pytest.raises(DataError, match=r"1 of the 2 names .* not among the labels in .*: c"):
        LabeledImages(pairs / "images", pairs / "labels", "voc", 16, pairs / "list.txt")
    with pytest.raises(DataError, match="no folder of labels"):
        find_labels(pairs / "nowhere", "voc")
    with pytest.raises(SlotConError, match="'voc12', expected one of coco-stuff, panoptic, voc"):
        find_labels(pairs / "labels", "voc12")
    save(pairs / "labels" / "a.png", np.zeros((20, 31)))
    with pytest.raises(DataError, match=r"has 30 x 20 pixels, its labels .* 31 x 20"):
        LabeledImages(pairs / "images", pairs / "labels", "voc", 16)[0]
    save(pairs / "labels" / "a.png", [[21, 22]])
    with pytest.raises(DataError, match=r"values \[21, 22\], which voc does not.* --labels-format"):
        read(pairs / "labels", "voc")
    save(pairs / "labels" / "a.png", np.zeros((4, 4, 3)))
    with pytest.raises(DataError, match="mode RGB, expected an image with one channel"):
        read(pairs / "labels", "voc")
    save(pairs / "labels" / "deeper" / "a.png", [[0]])
    with pytest.raises(DataError, match="Two label maps have the same name"):
        find_labels(pairs / "labels", "voc")
    (pairs / "labels" / "deeper" / "a.png").unlink()
    save(pairs / "labels" / "a.png", np.zeros((20, 30)))
    (pairs / "images" / "b.jpg").write_bytes(b"broken")
    with pytest.raises(DataError, match=r"cannot read the image .*b\.jpg"):
        LabeledImages(pairs / "images", pairs / "labels", "voc", 16)[1]


def write_maps(folder, count, values):
    rng = np.random.default_rng(0)
    for i in range(count):
        save(folder / "images" / f"{i}.jpg", np.zeros((6, 6, 3)))
        save(folder / "labels" / f"{i}.png", rng.choice(values, (6, 6)))
    return folder / "images", folder / "labels"


@pytest.mark.parametrize(
    ("values", "kind", "message"),
    [
        # Every value is in the format, and all are in a smaller one
        ([*range(21), 255], "coco-stuff", r"0 to 20, are all in the format voc.* --labels-format"),
        ([*range(21)], "ade20k", "all in the format voc"),
        ([*range(151)], "coco-stuff", "all in the format ade20k"),
        # A value that the format does not have
        ([*range(151)], "voc", r"values \[21, 22.* All values fit coco-stuff and ade20k\. Select"),
        ([*range(21), 255], "ade20k", r"values \[255\], which ade20k .* fit coco-stuff and voc"),
        (
            [0, 5, 255],
            "index:5",
            r"values \[5\], which index:5 does not have\. Values up to 5 are 6 classes\. Select "
            r"index:6 .*labels_format .* SLOTCON_CLASSES",
        ),
        ([255], "voc", r"only values, \[255\], stand for pixels without a class"),
        ([0], "ade20k", r"only values, \[0\], stand for pixels without a class"),
        ([0, 190, 200], "coco-stuff", r"values \[190, 200\].* No format has them"),
    ],
)
def test_labels_of_another_format_are_found_at_once(values, kind, message, tmp_path):
    images, labels = write_maps(tmp_path, 12, values)
    with pytest.raises(DataError, match=message):
        LabeledImages(images, labels, kind)


@pytest.mark.parametrize(
    ("values", "kind", "count"),
    [
        ([*range(21), 255], "voc", 12),
        ([0, 90, 181, 255], "coco-stuff", 12),
        ([0, 150], "ade20k", 12),
        ([0, 3, 4, 255], "index:5", 12),
        ([0, 3, 5], "coco-stuff", 2),  # two maps with three classes do not tell the format
    ],
)
def test_labels_of_the_chosen_format_are_accepted(values, kind, count, tmp_path):
    assert len(LabeledImages(*write_maps(tmp_path, count, values), kind)) == count


def test_classes_of_ones_own(tmp_path):
    names = tmp_path / "classes.txt"
    names.write_text("sky\n\nroad\n# none\ncar\n")
    images, labels = write_maps(tmp_path, 2, [0, 2, 255])
    assert LabeledImages(images, labels, f"index:{names}").classes == ("sky", "road", "car")
    assert LabeledImages(images, labels, "index:3").classes == ("class 0", "class 1", "class 2")


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        ("0", "0 classes, 0 of them different; expected 1 to 254"),
        ("255", "255 classes"),
        ("٣", "The list ٣ cannot be read"),
        ("-1", "The list -1 cannot be read"),
        ("nowhere.txt", r"The list nowhere\.txt cannot be read"),
        ("{}", "3 classes, 2 of them different"),
        ("", "cannot be read"),
    ],
)
def test_classes_that_cannot_be_used(classes, message, tmp_path):
    (tmp_path / "twice.txt").write_text("sky\nroad\nsky\n")
    with pytest.raises(SlotConError, match=message):
        label_format("index:" + classes.format(tmp_path / "twice.txt"))


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (lambda path: Image.fromarray(np.full((6, 6), 300, np.uint16)).save(path), r"\[300\]"),
        (
            lambda path: Image.fromarray(np.zeros((6, 6), np.float32)).save(path, "TIFF"),
            "no defined range",
        ),
        (lambda path: Image.new("LA", (6, 6)).save(path), "mode LA"),
        (lambda path: Image.new("L", (6, 6)).save(path, "JPEG"), "JPEG changes values"),
        (lambda path: path.write_bytes(b"broken"), "cannot be read"),
        (lambda path: path.write_bytes(path.read_bytes()[:-30]), "cannot be read"),
    ],
    ids=["16 bits", "fractions", "alpha", "jpeg", "broken", "cut"],
)
def test_files_that_are_no_index_maps(write, message, tmp_path):
    images, labels = write_maps(tmp_path, 1, [0])
    write(labels / "0.png")
    with pytest.raises(DataError, match=rf"0\.png.*{message}"):
        LabeledImages(images, labels, "voc")


def test_voc_labels_read_as_coco_stuff_are_refused(coco_mini):
    with pytest.raises(DataError, match="in the format voc"):
        LabeledImages(coco_mini / "images", coco_mini / "voc21", "coco-stuff")
    assert len(LabeledImages(coco_mini / "images", coco_mini / "voc21", "voc")) == 183
