"""`import slotcon_plugin`: pretrain, load, groups, features, embed, plot_groups, in one process."""

import argparse
import inspect
import io
import json
import multiprocessing
import re
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.hooks import Hook
from mmengine.logging import MMLogger
from mmengine.registry import HOOKS, DefaultScope
from mmengine.visualization import Visualizer
from photographs import photographs
from PIL import Image
from tiny_training import load_tool, write_images
from tiny_weights import features, ours, pixels, random_model, write_encoder
from tqdm import tqdm

import slotcon_plugin
from benchmarks.processes import ROOT
from slotcon_plugin.datasets.given_images import read_given
from slotcon_plugin.errors import CheckpointError, ConfigError, DataError, SlotConError
from slotcon_plugin.evaluation.kinds import OPTIONS
from slotcon_plugin.visualization.contact_sheet import LABEL
from slotcon_plugin.visualization.painting import overlay

RGB = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
CHW = torch.from_numpy(RGB).permute(2, 0, 1)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    return ours(tmp_path_factory.mktemp("weights"), depth=18, num_stages=3)


@pytest.fixture(scope="module")
def model(checkpoint):
    return slotcon_plugin.load(checkpoint, device="cpu")


def _file(image: Image.Image, kind: str = "PNG", **options) -> Image.Image:
    """The image, opened from a file of its own that was not read yet."""
    file = io.BytesIO()
    image.save(file, kind, **options)
    return Image.open(file)


def test_every_kind_of_image_has_the_same_pixels(tmp_path):
    path = tmp_path / "image.png"
    Image.fromarray(RGB).save(path)
    deep = Image.fromarray(RGB[..., 0].astype(np.uint16) * 257)
    kinds = [path, str(path), Image.open(path), Image.fromarray(RGB), RGB, RGB[::-1][::-1]]
    kinds += [RGB / 255, (RGB / 255).astype(np.float32), CHW, CHW.float() / 255]
    kinds += [(CHW.double() / 255).requires_grad_(), torch.stack([CHW, CHW])[1]]
    kinds += [np.dstack([RGB, np.full((20, 30), 255, np.uint8)])]  # no transparency
    for image in kinds:
        assert np.array_equal(read_given(image), RGB), type(image)
    gray = np.repeat(RGB[..., :1], 3, axis=2)
    kinds = [RGB[..., 0], RGB[..., :1], CHW[:1], CHW[0], Image.fromarray(RGB[..., 0])]
    for image in [*kinds, deep, _file(deep)]:
        assert np.array_equal(read_given(image), gray), type(image)
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by 90 degrees
    turned = _file(Image.fromarray(RGB), exif=exif)
    assert np.array_equal(read_given(turned), np.rot90(RGB, -1))
    assert turned.size == (30, 20)  # the user's image is as before


WRONG = {
    "type is int": 3,
    "type is bytes": b"x",
    "cannot read the image nofile.jpg": "nofile.jpg",
    "transpose it": RGB.transpose(2, 0, 1),
    "array (20, 30, 2)": RGB[..., :2],
    "0 x 0 pixels": RGB[:0, :0],
    "from nan to nan": np.full((4, 4), np.nan),
    "from 0 to 255, expected 0 to 1": RGB.astype(float) * 0 + np.linspace(0, 255, 3),
    "values are int64": RGB.astype(int),
    "channels come first": torch.from_numpy(RGB),
    "without normalization": torch.linspace(-2, 2, 48).view(3, 4, 4),
    "meta tensor": CHW.to("meta"),
    "floating-point values of a PIL image": Image.new("F", (4, 4)),
    "32-bit values": Image.fromarray(np.full((4, 4), 70_000, np.int32)),
    "16-bit values reach only": Image.fromarray(np.full((4, 4), 100, np.uint16)),
    "L*a*b*": Image.new("LAB", (4, 4)),
    "more than 4096: cut it into parts, or take a smaller size.": np.zeros((10, 1000), np.uint8),
}


@pytest.mark.parametrize("words", WRONG)
def test_a_wrong_image_is_one_message(model, words):
    with pytest.raises(DataError) as raised:
        model.groups([RGB, WRONG[words]] if words == "type is int" else WRONG[words])
    assert words in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_message_about_an_option_has_its_name_in_python(tmp_path):
    with pytest.raises(ConfigError, match=r"--epochs is 0, .* \(in Python: epochs=\)"):
        slotcon_plugin.pretrain(tmp_path, tmp_path / "work", epochs=0)
    assert not (tmp_path / "work").exists()


def test_a_file_that_ends_early_is_one_message(model):
    file = io.BytesIO()
    photographs(64)[0].save(file, "JPEG")
    with pytest.raises(DataError, match="truncated"):
        model.features(Image.open(io.BytesIO(file.getvalue()[:-300])))


def test_groups_and_features_are_the_models(model):
    photograph = pixels()  # 128 x 128, which is not scaled
    net = random_model(18, 3)
    image = torch.tensor(photograph).permute(2, 0, 1)
    (expected,) = net.predict(net.data_preprocessor({"inputs": [image]})["inputs"])
    found = model.groups(photograph, size=128)
    assert np.array_equal(found.image, photograph)
    assert found.scores.shape == (12, 8, 8)
    assert found.slots.shape == (12, 16)
    assert np.abs(found.scores - expected.scores.numpy()).max() < 1e-5
    assert np.abs(found.slots - expected.slots.numpy()).max() < 1e-4
    upsampled = torch.nn.functional.interpolate(
        expected.scores[None], (128, 128), mode="bilinear", align_corners=False
    )
    assert (found.assignment == upsampled[0].argmax(dim=0).numpy()).mean() > 0.999
    counts = np.bincount(found.assignment.ravel(), minlength=12)
    assert np.allclose(counts[found.prototypes] / 128**2, found.shares)
    assert set(found.prototypes) == set(np.flatnonzero(counts))
    assert np.array_equal(found.plot(), overlay(photograph, found.assignment))
    assert Image.open(io.BytesIO(found._repr_png_())).size == (128, 128)
    assert f"{len(found.prototypes)} of 12 prototypes" in repr(found)

    dense, pooled = model.features(photograph, size=128)
    reference = features("teacher", 18, 3)[0].numpy()
    assert np.abs(dense - reference).max() <= 1e-5 * np.abs(reference).max()
    assert np.allclose(pooled, dense.mean(axis=(1, 2)), atol=1e-5)
    assert model.features(photograph, size=128, projected=True).dense.shape == (16, 8, 8)
    assert "12 prototypes" in repr(model)


def test_images_of_any_size(model):
    wide, tall, tiny, large = (40, 90), (90, 40), (1, 1), (1500, 2000)
    shapes = (wide, tall, tiny, large)
    found = model.groups([np.zeros((*shape, 3), np.uint8) for shape in shapes], size=32)
    assert [one.assignment.shape for one in found] == [*shapes]
    assert [one.image.shape[:2] for one in found] == [*shapes]
    assert found[0].scores.shape[1:] == found[1].scores.shape[:0:-1]  # 32 x 72 pixels
    batch = torch.stack([CHW, CHW.flip(2)])
    assert len(model.features(batch)) == 2
    assert model.features([]) == []
    assert np.array_equal(model.features(batch)[1].dense, model.features(CHW.flip(2)).dense)


def test_embed_is_the_same_as_features(model, checkpoint, tmp_path, run_tool):
    folder = write_images(tmp_path / "images", 5)
    Image.fromarray(RGB).save(folder / "other_size.png")
    (folder / "broken.jpg").write_bytes(b"\xff\xd8\xff")
    options = ["--data", folder, "--size", 64, "--batch-size", 2, "--device", "cpu", "--quiet"]
    code, printed, _ = run_tool("embed", checkpoint, *options, "--out", tmp_path / "all.npz")
    assert code == 0
    assert "1 of 7 images left out" in printed
    stored = np.load(tmp_path / "all.npz")
    vectors, paths = slotcon_plugin.embed(folder, model, size=64, quiet=True)
    assert len(paths) == 6
    assert list(stored["paths"]) == paths
    for path, vector, other in zip(paths, vectors, stored["vectors"], strict=True):
        expected = model.features(path, size=64).pooled
        assert np.allclose(vector, expected, atol=1e-5)
        assert np.allclose(other, expected, atol=1e-5)
    code, _, errors = run_tool("embed", checkpoint, *options, "--out", tmp_path / "all.npz")
    assert code == 1
    assert "is there already" in errors
    slotcon_plugin.embed(folder, model, tmp_path / "new" / "all.npy", size=64, quiet=True)
    assert np.allclose(np.load(tmp_path / "new" / "all.npy"), vectors, atol=1e-5)
    assert (tmp_path / "new" / "all.txt").read_text().splitlines() == paths
    with pytest.raises(ConfigError, match=r"expected \.npz or \.npy"):
        slotcon_plugin.embed(folder, model, tmp_path / "all.csv")
    with pytest.raises(DataError, match="None of the 1 images"):
        slotcon_plugin.embed(folder / "broken.jpg", model, tmp_path / "none.npz", quiet=True)
    assert not (tmp_path / "none.npz").exists()


def test_what_load_takes(checkpoint, tmp_path, capsys):
    config = ROOT / "configs" / "pretrain" / "slotcon_r18_demo.py"
    before = torch.get_rng_state()
    untrained = slotcon_plugin.load(config, device="cpu")
    assert "random weights" in capsys.readouterr().out
    assert "untrained" in repr(untrained)
    assert torch.equal(torch.get_rng_state(), before)
    again = slotcon_plugin.load("slotcon_r18_demo", device="cpu")
    assert np.array_equal(untrained.groups(RGB).scores, again.groups(RGB).scores)
    assert np.array_equal(
        slotcon_plugin.load(checkpoint, part="student", device="cpu").groups(RGB).scores,
        slotcon_plugin.load(str(checkpoint), "student", "cpu").groups(RGB).scores,
    )
    write_encoder(tmp_path / "encoder.pth")
    alone = slotcon_plugin.load(tmp_path / "encoder.pth")
    assert alone.features(RGB).pooled.shape == (512,)
    for wrong in (alone.groups, lambda image: alone.features(image, projected=True)):
        with pytest.raises(CheckpointError, match="without projector"):
            wrong(RGB)
    for source, words in {
        tmp_path: "has no checkpoint of a training",
        tmp_path / "none.pth": "There is no checkpoint",
        "work_dirs/nowhere": "no checkpoint and no work dir work_dirs/nowhere",
        "slotcon_r18_dem": "Did you mean slotcon_r18_demo?",
        ROOT / "configs" / "seg" / "fcn_r18_tiny.py": "not the config of a pretraining",
        ROOT / "README.md": "cannot be read",
        None: "None is given as a network",
        3: "3 is given as a network",
    }.items():
        with pytest.raises(SlotConError, match=words.replace("?", r"\?")):
            slotcon_plugin.load(source)
    with pytest.raises(ConfigError, match="part is 'both'"):
        slotcon_plugin.load(checkpoint, part="both")
    for wrong in (untrained, [None]):
        with pytest.raises(ConfigError, match=r"networks has .*, expected paths"):
            slotcon_plugin.evaluate("rank", wrong, tmp_path)
    with pytest.raises(ConfigError, match="tpu"):
        slotcon_plugin.load(checkpoint, device="tpu")


def test_plot_groups(model, tmp_path):
    images = [np.zeros((60, 90, 3), np.uint8), photographs(64)[0], np.zeros((90, 30), np.uint8)]
    sheet = slotcon_plugin.plot_groups(images, model, tmp_path / "sheet.png", size=64)
    assert sheet.size == (LABEL + 300 + 200 + 67 + 2 * 8, 2 * 200 + 8)
    labels = np.asarray(sheet)[:, :LABEL]
    assert (labels[:200] < 128).any() and (labels[208:] < 128).any() and labels[200:208].min() > 250
    assert np.array_equal(Image.open(tmp_path / "sheet.png"), sheet)
    assert slotcon_plugin.plot_groups(images * 4, model, size=64).width <= 1400
    with pytest.raises(ConfigError, match=r"\.png"):
        slotcon_plugin.plot_groups(images, model, tmp_path / "sheet.jpg")
    with pytest.raises(DataError, match="No image"):
        slotcon_plugin.plot_groups([], model)


def kept_by_mmengine() -> set[str]:
    return {name for kind in (MMLogger, Visualizer, DefaultScope) for name in kind._instance_dict}


class Interrupt(Hook):
    """Ctrl-C, or the button of a notebook, in the second step."""

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        if batch_idx == 1:
            raise KeyboardInterrupt


def test_one_process_trains_evaluates_and_trains_again(tmp_path, capfd, monkeypatch):
    """As in a notebook: also after an error and after an interruption of a cell."""
    monkeypatch.setitem(HOOKS.module_dict, "Interrupt", Interrupt)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    images = write_images(tmp_path / "images", 8)
    method, before = multiprocessing.get_start_method(allow_none=True), kept_by_mmengine()
    small = ["train_dataloader.batch_size=4", "train_dataloader.dataset.views.size=64"]
    small += ["train_dataloader.num_workers=1", "default_hooks.logger.interval=1"]
    work_dir, options = tmp_path / "work", dict(epochs=1, cfg_options=small)
    interrupted = dict(epochs=1, cfg_options=[*small, "+custom_hooks=[{'type': 'Interrupt'}]"])

    with pytest.raises(DataError, match="does not exist"):
        slotcon_plugin.pretrain(tmp_path / "nowhere", work_dir, **options)
    for wrong in (3, [images, None]):
        with pytest.raises(ConfigError, match=r"--data has (3|None), expected a path"):
            slotcon_plugin.pretrain(wrong, work_dir, **options)
    for wrong in ("a=1", {"a": 1}, [1], 5):
        with pytest.raises(ConfigError, match="expected a list of texts KEY=VALUE"):
            slotcon_plugin.pretrain(images, work_dir, epochs=1, cfg_options=wrong)
    with pytest.raises(KeyboardInterrupt):
        slotcon_plugin.pretrain(images, work_dir, **interrupted)
    assert not list(work_dir.glob("*.lock"))
    assert not tqdm._instances  # the bar of the interrupted training is closed
    assert slotcon_plugin.pretrain(images, work_dir, **options) == work_dir
    printed = capfd.readouterr()
    assert "training: 100%" in printed.err
    assert "Epoch(train)" not in printed.out  # which are in the log file
    logs = [path.read_text() for path in sorted(work_dir.glob("*/*.log"))]
    assert "Epoch(train)" in logs[-1]
    with pytest.raises(ConfigError, match="--overwrite moves them"):
        slotcon_plugin.pretrain(images, work_dir, **options)

    assert kept_by_mmengine() <= {*before, "mmengine"}  # MMEngine's own logger, of no run
    assert multiprocessing.get_start_method(allow_none=True) == method
    first = slotcon_plugin.load(work_dir, device="cpu")
    classes = tmp_path / "classes"
    for name in ("one", "two"):
        write_images(classes / "train" / name, 2)
        write_images(classes / "test" / name, 1)
    folders = dict(train=classes / "train", size=64, neighbors=1, device="cpu", quiet=True)
    scores = slotcon_plugin.evaluate("knn", work_dir / "epoch_1.pth", classes / "test", **folders)
    assert 0 <= scores["results"]["top1"] <= 100

    slotcon_plugin.pretrain(images, work_dir, overwrite=True, **options)
    second = slotcon_plugin.load(work_dir, device="cpu")
    assert np.array_equal(first.groups(RGB).scores, second.groups(RGB).scores)
    assert sorted(path.name for path in work_dir.glob("*/epoch_1.pth")) == ["epoch_1.pth"]
    scalars = [json.loads(line) for line in next(work_dir.glob("*/*/scalars.json")).open()]
    assert len([one for one in scalars if "loss" in one]) <= 2  # not of several runs


# Tool -> its function in `apis`, if the name is another.
FUNCTIONS = {"benchmark": "run_benchmark", "list": "print_configs"}
OF_PROGRAMS = ("help", "traceback", "gpus")
TOOLS = [path.stem for path in (ROOT / "tools").glob("*.py") if "run_api(" in path.read_text()]


@pytest.mark.parametrize("name", sorted({*TOOLS} - {"command_line"}))
def test_functions_have_the_options_and_defaults_of_the_commands(name, monkeypatch):
    tool, parsers = load_tool(name, monkeypatch), []

    def keep(parser: argparse.ArgumentParser, *_) -> None:
        parsers.append(parser)
        raise SystemExit

    monkeypatch.setattr(argparse.ArgumentParser, "parse_known_args", keep)
    with pytest.raises(SystemExit):
        tool.parse_args()
    function_name = FUNCTIONS.get(name, name)
    function = getattr(import_module(f"slotcon_plugin.apis.{function_name}"), function_name)
    parameters = inspect.signature(function).parameters
    takes_others = any(one.kind is one.VAR_KEYWORD for one in parameters.values())
    for parser in parsers:
        kinds = [a for a in parser._actions if isinstance(a, argparse._SubParsersAction)]
        subparsers = [one for kind in kinds for one in kind.choices.items()] or [(None, parser)]
        for kind, one in subparsers:
            defaults = {key: p.default for key, p in parameters.items()} | OPTIONS.get(kind, {})
            for action in one._actions:
                if action.dest in OF_PROGRAMS or action.default == argparse.SUPPRESS:
                    continue
                assert action.dest in parameters or takes_others, action.dest
                if action.dest in defaults and action.option_strings and not action.required:
                    default = defaults[action.dest]
                    same = tuple if isinstance(default, tuple | list) else (lambda value: value)
                    assert same(action.default) == same(default), f"{name} {kind} {action.dest}"


def test_names_of_the_package_are_seen_and_imported_when_used():
    public = {"pretrain", "load", "embed", "evaluate", "plot_groups", "list_configs"}
    assert public <= {*dir(slotcon_plugin)}
    assert "slotcon_r18_small" in slotcon_plugin.list_configs()
    with pytest.raises(AttributeError, match="no attribute 'lode'"):
        _ = slotcon_plugin.lode
    pretrain = inspect.signature(slotcon_plugin.pretrain).parameters
    train = inspect.signature(import_module("slotcon_plugin.apis.train").train).parameters
    assert {"data", "epochs", "progress"} <= {*pretrain} & {*train}


def _shown(page: str, start: str = "") -> str:
    """The blocks of Python of a page, or those that start with these words."""
    text = (ROOT / page).read_text(encoding="utf-8")
    return "\n".join(re.findall(rf"```python\n({start}.*?)```", text, re.DOTALL))


@pytest.mark.slow
def test_the_examples_of_the_docs_run(tmp_path, monkeypatch, capsys):
    """As they are shown, with one epoch and images that are there."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    for name in ("photos", "labeled/train/a", "labeled/train/b", "labeled/test/a"):
        write_images(tmp_path / name, 32 if name == "photos" else 1)
    Image.fromarray(RGB).save(tmp_path / "photos" / "cat.jpg")
    shown = _shown("docs/python.md").replace("epochs=30", "epochs=1").replace("epoch_30", "epoch_1")
    exec(shown, {})
    assert (tmp_path / "groups.png").exists()
    assert "work dir has checkpoints" in shown
    assert "has the checkpoints of an earlier training" in capsys.readouterr().out
    shown = _shown("README.md", "import slotcon_plugin").replace("epochs=30", "epochs=1")
    assert "/my/images/1.jpg" in shown
    exec(shown.replace("/my/images/1.jpg", "photos/cat.jpg").replace("/my/images", "photos"), {})


@pytest.mark.slow
def test_the_tutorial_runs(tmp_path, monkeypatch):
    """Every cell, with one epoch; what is committed was written by it and names no machine."""
    nbformat = pytest.importorskip("nbformat")
    client = pytest.importorskip("nbclient")
    path = ROOT / "docs" / "tutorial.ipynb"
    assert path.stat().st_size < 400_000
    notebook = nbformat.read(path, 4)
    nbformat.validate(notebook)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in cells] == [*range(1, len(cells) + 1)]
    shown = json.dumps([cell.outputs for cell in cells])
    assert shown.count('"image/jpeg"') == 3
    assert '"error"' not in shown and not re.search(
        r"(?<!\w)/(home|root|work|tmp|usr|Users)/", shown
    )
    monkeypatch.setenv("TUTORIAL_EPOCHS", "1")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    where = dict(metadata=dict(path=str(tmp_path)))
    client.NotebookClient(notebook, timeout=400, kernel_name="python3", resources=where).execute()
    assert (tmp_path / "tutorial" / "work" / "epoch_1.pth").exists()
