"""Wrong inputs of every kind: one message, status 1, no traceback, nothing written."""

import errno
import json
import os
import sys

import pytest
import torch
from tiny_training import write_images
from torch.utils.data import DataLoader, Dataset

from benchmarks.processes import DEMO
from benchmarks.small_benchmark import SEG, pretraining_options, transfer_options, write_mini
from slotcon_plugin.apis.train import train
from slotcon_plugin.errors import DataError, UnreadableFileError
from slotcon_plugin.runtime.run_command import run_command

# Options for the small demo config -> words of the message.
PRETRAINING = {
    "model.neck.in_channels=64": "in Conv2d(64, 16, kernel_size=(1, 1), stride=(1, 1)) of the "
    "config's model.neck (PixelProjector)",
    "model.head.predictor.channels=64": "of the config's model.head.predictor (SlotPredictor)",
    "model.head.prototypes.channels=64": "error: ",
    "model.backbone.num_stages=4": "config's model.neck (PixelProjector)",
    "model.backbone.depth=17": "The config's model.backbone (TorchvisionResNet) cannot be built: "
    "depth is 17",
    "model.backbone.type=ResNett": "model type='ResNett', which is not registered",
    "+model.neck.in_chanels=3": "Did you mean in_channels?",
    "+model.neck.foo=3": "unexpected keyword argument 'foo'. There are: batch_norm",
    "+model.neck.batch_norm=1": "batch_norm is 1, expected True or False",
    "model.head.prototypes={'type': 'Prototypes', 'num_prototypes': 1}": "expected a whole number",
    "model.head.prototypes.num_prototypes=2.5": "is 2.5, expected a whole number from 2 on",
    "model.head.group_loss.student_temperature=cold": "`cold` is not a Python literal",
    "model.head.group_loss.student_temperature='cold'": "config's model.head.group_loss "
    "(GroupingLoss) cannot be built: student_temperature is 'cold'",
    "model.head=dict(a=1)": "Dictionaries are written {'a': 1}, not dict(a=1)",
    "model.head=3": "model.head is 3, expected a dictionary",
    "model.head.prototypes=3": "model.head.prototypes is now",
    "model=None": "cannot be trained: it has no model",
    "model.data_preprocessor.type=Foo": "type='Foo', which is not registered",
    "train_dataloader.sampler.shuffle=maybe": "is 'maybe', expected True or False",
    "train_dataloader.sampler={'type': 'InfiniteSampler', '_delete_': True}": "never ends",
    "train_dataloader.sampler.type=Foo": "data sampler type='Foo', which is not registered",
    "train_dataloader.collate_fn.type=foo": "The config's train_dataloader cannot be built",
    "+train_dataloader.foo=1": "unexpected keyword argument 'foo'",
    "+train_dataloader.dataset.views.blur_sigma=3": "TwoViews) cannot be built: blur_sigma is 3",
    "+train_dataloader.dataset.views.ratio=abc": "ratio is 'abc', expected two numbers",
    "+train_dataloader.dataset.views.scale=(1,0.2)": "the lower number first",
    "+train_dataloader.dataset.views.hue=0.9": "hue is 0.9, expected a number in [0, 0.5]",
    "+train_dataloader.dataset.preset=cocoo": "preset is 'cocoo'",
    "train_dataloader.dataset.source=[3]": "source is [3], expected a path",
    "train_dataloader.dataset.source=/no/where": "/no/where does not exist",
    "train_dataloader.dataset=3": "train_dataloader.dataset is 3, expected a dictionary",
    "train_dataloader.batch_size=99": "12 images, fewer than one batch of 99",
    "optim_wrapper.type=OptimWraper": "Did you mean OptimWrapper?",
    "optim_wrapper.optimizer.type=LARSS": "optimizer type='LARSS', which is not registered",
    "optim_wrapper.optimizer.type=AdamW": "The config's optim_wrapper.optimizer (AdamW) cannot be "
    "built: AdamW.__init__() got an unexpected keyword argument 'momentum'",
    "+optim_wrapper.optimizer.betas=(0.9, 0.9)": "unexpected keyword argument 'betas'",
    "+optim_wrapper.paramwise_cfg={'custom_keys': 3}": "custom_keys must be a dict",
    "param_scheduler.type=MultiStepLR": "MultiStepLR) cannot be built",
    "param_scheduler.type=CosinLR": "parameter scheduler type='CosinLR', which is not registered",
    "param_scheduler.warmup=30": "shorten param_scheduler.warmup",
    "param_scheduler=3": "param_scheduler is 3, expected a dictionary or a list",
    "train_cfg.type=Foo": "loop type='Foo', which is not registered",
    "train_cfg.type=IterBasedTrainLoop": "Did you mean max_iters?",
    "default_hooks.teacher.type=TeacherHok": "Did you mean TeacherHook?",
    "default_hooks.teacher=None": "The teacher was not moved before the first step",
    "default_hooks=3": "default_hooks is 3, expected a dictionary",
    "+custom_hooks=[{'type': 'EarlyStoppingHook'}]": "custom_hooks.0 (EarlyStoppingHook) cannot",
    "visualizer.vis_backends.0.type=Foo": "vis_backend type='Foo', which is not registered",
    "env_cfg=None": "env_cfg is None, expected a dictionary",
    "env_cfg.mp_cfg=3": "env_cfg.mp_cfg is 3, expected a dictionary",
    "env_cfg.mp_cfg.mp_start_method=thread": "is 'thread', expected fork, forkserver or spawn",
    "env_cfg.cudnn_benchmark=3": "env_cfg.cudnn_benchmark is 3, expected True or False",
    "visualizer.vis_backends=[{}]": "expected a dictionary or a list of dictionaries, each with",
    "param_scheduler=[{}]": "expected a dictionary or a list of dictionaries, each with a type",
    "+model.init_cfg={'type': 'Foo'}": "weight initializer type='Foo'",
    "+seed=3": "+seed has no effect",
    "vis_backends=[]": "Replace the entries with its value: visualizer.vis_backends.",
    "train_cfg.max_epochs.x=3": "max_epochs has no `x`",
    "log_processor.custom_cfg.9.window_size=3": "custom_cfg is a list of 2",
    "=3": "expected KEY=VALUE",
}
TRANSFERS = {
    "train_dataloader.dataset.pipeline.2.type=RandomCorp": "Did you mean RandomCrop?",
    "test_pipeline.9.type=Resize": "test_pipeline.9.type has no effect",
    "data_root=/elsewhere": "val_dataloader.dataset.data_root",
    "model.backbone.depth=17": "(ResNet) cannot be built: KeyError: invalid depth 17",
    "model.decode_head.in_channels=99": "of the config's model.decode_head (FCNHead)",
    "val_evaluator.iou_metrics=['foo']": "foo",
    "val_evaluator.type=Foo": "metric type='Foo', which is not registered",
    "val_dataloader.dataset.pipeline=[]": "'inputs', in the config's model.data_preprocessor",
    "total_batch_size=0": "total_batch_size is 0, expected a whole number from 1 on",
}
# Config files -> words of the message.
FILES = {
    "model = dict(\n": "SyntaxError",
    "import sys; sys.exit(0)\n": "cannot be read: SystemExit",
    "x = 1 / 0\n": "cannot be read: ZeroDivisionError: division by zero",
    "__import__('slotcon_plugin.errors').errors.ConfigError": "it has no model",
    "raise __import__('slotcon_plugin').errors.ConfigError('mine')\n": "cannot be read: mine",
    "_base_ = ['config.py']\n": "leads back to",
    "_base_ = ['absent.py']\n": "absent.py",
    "_base_ = 3\n": "is 3, expected a path or a list of paths",
    "# caf\udce9\n": "UnicodeDecodeError",
    "custom_imports = dict(imports=['absent_module'])\n": "Failed to import custom modules",
    "print('text')\n": "cannot be trained: it has no model",
    f"_base_ = [{str(DEMO)!r}]\nmodel = dict(neck=3)\n": "model.neck is 3, expected",
    "from mmengine.config import read_base\nwith read_base():\n    from .no import *\n": "no.py",
}


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    return write_images(tmp_path_factory.mktemp("wrong") / "images")


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return write_mini(tmp_path_factory.mktemp("mini") / "coco_mini")


@pytest.fixture
def refused(run_tool, tmp_path, monkeypatch):
    """Runs a command that must fail with one message, and returns the message."""
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)

    def run(name: str, *arguments: object) -> str:
        status, out, err = run_tool(name, *arguments)
        assert status == 1, out + err
        assert "Traceback" not in out + err
        assert err.count("error: ") == 1
        return err.partition("error: ")[2]

    return run


@pytest.mark.parametrize("option", PRETRAINING)
def test_options_of_a_pretraining(option, refused, images, tmp_path):
    small = [*pretraining_options(images, tmp_path / "work"), option]
    message = refused("train", DEMO, "--dry-run", "--cfg-options", *small)
    assert PRETRAINING[option].removeprefix("error: ") in message
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("option", TRANSFERS)
def test_options_of_a_transfer(option, refused, root, tmp_path, monkeypatch):
    pytest.importorskip("mmseg")
    monkeypatch.setenv("SLOTCON_DATA", str(root))
    options = ["--backbone", "none", "--work-dir", tmp_path / "work"]
    small = [*transfer_options(SEG, root), option]
    message = refused("train", SEG, "--dry-run", *options, "--cfg-options", *small)
    assert TRANSFERS[option] in message
    # mmseg imports timm, and that wandb, which makes its temporary folders at once
    assert not [path for path in tmp_path.iterdir() if "wandb" not in path.name]


@pytest.mark.parametrize("text", FILES)
def test_config_files(text, refused, tmp_path):
    config = tmp_path / "config.py"
    config.write_bytes(text.encode(errors="surrogateescape"))
    message = refused("train", config, "--dry-run")
    assert str(config) in message or "the config's" in message
    assert FILES[text] in message
    assert list(tmp_path.iterdir()) == [config]


def test_advice_fits_the_tool(refused, images, tmp_path, monkeypatch):
    for name in ("COCO_ROOT", "VOC_ROOT"):
        monkeypatch.delenv(name, raising=False)
    message = refused("train", DEMO.with_name("slotcon_r50_coco.py"), "--dry-run")
    assert "its default for the environment variable COCO_ROOT, which is not set; --data" in message
    voc = SEG.with_name("fcn_r50_voc12aug.py")
    message = refused("train", voc, "--dry-run", "--cfg-options", "data_root=/x")
    assert "Or set the environment variable VOC_ROOT" in message
    message = refused("train", voc.with_name("metafile.yml"), "--dry-run")
    assert "slotcon benchmark or slotcon train_detectron2" in message
    (tmp_path / "epoch_7.pth").touch()
    for name, *others in (("export", "out.pth", "--to", "timm"), ("test",)):
        first = [SEG] if name == "test" else []
        message = refused(name, *first, tmp_path, *others)
        assert "is a folder, and has no checkpoint" in message and "resume" not in message
        assert "--resume" not in refused(name, *first, "absent.pth", *others)


@pytest.mark.parametrize("name", ["nothing", "superwised"])
def test_a_backbone_that_is_neither_a_file_nor_a_known_word(name, refused, root, monkeypatch):
    pytest.importorskip("mmseg")
    monkeypatch.setenv("SLOTCON_DATA", str(root))
    message = refused("train", SEG, "--dry-run", "--backbone", name)
    assert f"--backbone {name}: there is no such file" in message
    assert "'supervised'" in message and "'none'" in message


class Broken(Dataset):
    """Its items raise an error in a loading worker."""

    def __init__(self, error: Exception):
        self.error = error

    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int):
        raise self.error


def read_latin(path):
    path.write_bytes("é".encode("latin-1"))
    path.read_text(encoding="utf-8")


def read_json(path):
    path.write_text("{")
    with open(path) as file:
        json.load(file)


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (lambda path: path.with_suffix(".absent").read_text(), ["x.absent", "Check the path"]),
        (lambda path: os.open(path.parent, os.O_WRONLY), ["IsADirectoryError", "Is a directory"]),
        (lambda path: read_latin(path), ["UnicodeDecodeError", "x.txt was read"]),
        (lambda path: read_json(path), ["JSONDecodeError", "x.txt was read"]),
        (lambda path: torch.empty(2**60), ["Memory is full", "batch_size"]),
        (lambda path: torch.empty(2**70), ["Overflow when unpacking long long.\nIf this"]),
        (lambda path: [][1], ["IndexError: list index out of range"]),
        (lambda path: {}["key"], ["KeyError: 'key'"]),
        (lambda path: (_ for _ in ()).throw(AssertionError), ["AssertionError: no details"]),
        (lambda path: (_ for _ in ()).throw(OSError(errno.ENOSPC, "full", "f")), ["disk is full"]),
        (lambda path: (_ for _ in ()).throw(RecursionError("deep")), ["RecursionError: deep"]),
    ],
)
def test_every_exception_becomes_one_message(function, words, tmp_path, capsys, monkeypatch):
    monkeypatch.delenv("SLOTCON_TRACEBACK", raising=False)
    path = tmp_path / "x.txt"
    assert run_command(lambda: function(path)) == 1
    err = capsys.readouterr().err
    assert all(word in err for word in words), err
    assert err.count("error: ") == 1 and "Traceback" not in err
    assert "--traceback" in err or "Memory" in err
    assert run_command(lambda: function(path), traceback=True) == 1
    assert "Traceback (most recent call last)" in capsys.readouterr().err
    monkeypatch.setenv("SLOTCON_TRACEBACK", "1")
    assert run_command(lambda: function(path)) == 1
    assert "Traceback (most recent call last)" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (DataError("three images: DataError: are gone"), "three images: DataError: are gone\n"),
        (UnreadableFileError("x.png is broken"), "x.png is broken\n"),
        (KeyError("label"), "KeyError: 'label'"),
        (UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid"), "UnicodeDecodeError: 'utf-8'"),
        (FileNotFoundError(errno.ENOENT, "absent", "y.png"), "y.png"),
    ],
)
def test_an_error_of_a_loading_worker_is_told_as_in_this_process(error, message, capsys):
    assert run_command(lambda: list(DataLoader(Broken(error), num_workers=1))) == 1
    err = capsys.readouterr().err
    assert f"error: {message}" in err or (message == "y.png" and message in err)
    assert "Traceback" not in err and "Caught" not in err


def test_traceback_may_stand_anywhere(run_tool, tmp_path):
    for arguments in (
        ["evaluate", "--traceback", "knn", "absent.pth", "--train", ".", "--images", "."],
        ["evaluate", "knn", "absent.pth", "--train", ".", "--images", ".", "--traceback"],
        ["train", "absent.py", "--traceback"],
        ["export", "--traceback", "absent.pth", tmp_path / "x.pth", "--to", "timm"],
    ):
        status, _, err = run_tool(*arguments)
        assert status == 1 and "Traceback (most recent call last)" in err
        assert err.count("error: ") == 1


@pytest.mark.parametrize("loop", ["epochs", "iterations"])
def test_what_a_dry_run_approves_trains(loop, images, tmp_path, monkeypatch, capsys):
    """Its step is the training's first one but for the number of images; it leaves no file."""
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    options = pretraining_options(images, tmp_path / "work", epochs=1)
    options[options.index("train_dataloader.batch_size=4")] = "train_dataloader.batch_size=2"
    if loop == "iterations":
        options.remove("train_cfg.max_epochs=1")
        options.append("train_cfg={'_delete_': True, 'type': 'IterBasedTrainLoop', 'max_iters': 2}")
        options += ["param_scheduler.by_epoch=False", "param_scheduler.convert_to_iter_based=False"]
        options.append("+log_processor.by_epoch=False")
    train(DEMO, cfg_options=options, dry_run=True)
    shown = capsys.readouterr().out
    assert "(2 of 2 images" in shown and not list(tmp_path.iterdir())
    train(DEMO, cfg_options=options, dry_run=True, step=False)
    assert "first step" not in capsys.readouterr().out
    train(DEMO, cfg_options=options)
    log = next((tmp_path / "work").glob("*/*.log")).read_text()
    first = log.partition(" loss: ")[2].partition(" ")[0]
    assert shown.partition("loss ")[2].startswith(f"{float(first):.4g}"[:4])


PYTHON_STYLE = """
from mmengine.config import read_base
from mmengine.dataset import default_collate
from mmengine.hooks import CheckpointHook
from mmengine.optim import OptimWrapper
from mmengine.runner import EpochBasedTrainLoop

from slotcon_plugin.datasets.data_preprocessor import TwoViewPreprocessor
from slotcon_plugin.datasets.samplers import ImageSampler
from slotcon_plugin.datasets.transforms import TwoViews
from slotcon_plugin.datasets.unlabeled_images import UnlabeledImages
from slotcon_plugin.models.slotcon import SlotCon
from slotcon_plugin.optim.lars import SlotConLARS
from slotcon_plugin.optim.schedulers import WarmupCosineLR

with read_base():
    from .parts import *

model.update(dict(type=SlotCon, data_preprocessor=dict(type=TwoViewPreprocessor)))
train_dataloader = dict(
    batch_size=4,
    num_workers=0,
    sampler=dict(type=ImageSampler, shuffle=True),
    collate_fn=dict(type=default_collate),
    dataset=dict(type=UnlabeledImages, source="SOURCE", views=dict(type=TwoViews, size=32)),
)
train_cfg = dict(type=EpochBasedTrainLoop, max_epochs=1)
optim_wrapper = dict(type=OptimWrapper, optimizer=dict(type=SlotConLARS, lr=1.0))
param_scheduler = dict(type=WarmupCosineLR, warmup=1, by_epoch=False)
default_hooks.update(dict(checkpoint=dict(type=CheckpointHook, interval=1)))
"""
PARTS = """
from slotcon_plugin.hooks.resume_hook import ResumeCheckHook
from slotcon_plugin.hooks.teacher_hook import TeacherHook
from slotcon_plugin.models.backbones import TorchvisionResNet
from slotcon_plugin.models.grouping_loss import GroupingLoss
from slotcon_plugin.models.head import PrototypeHead
from slotcon_plugin.models.mlp import PixelProjector, SlotPredictor
from slotcon_plugin.models.prototypes import Prototypes
from slotcon_plugin.models.slot_loss import SlotLoss

default_hooks = dict(teacher=dict(type=TeacherHook), resume_check=dict(type=ResumeCheckHook))
model = dict(
    backbone=dict(type=TorchvisionResNet, depth=18, num_stages=2),
    neck=dict(type=PixelProjector, in_channels=128, hidden_channels=16, out_channels=16),
    head=dict(
        type=PrototypeHead,
        prototypes=dict(type=Prototypes, num_prototypes=8, channels=16),
        group_loss=dict(type=GroupingLoss),
        slot_loss=dict(type=SlotLoss),
        predictor=dict(type=SlotPredictor, channels=16, hidden_channels=16),
    ),
)
"""


def test_a_config_of_classes_trains_and_resumes(images, tmp_path, monkeypatch, capsys):
    """MMEngine's new style: types are classes, bases are imported."""
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    (tmp_path / "parts.py").write_text(PARTS)
    config = tmp_path / "of_classes.py"
    config.write_text(PYTHON_STYLE.replace("SOURCE", str(images)))
    work = tmp_path / "work"
    train(config, work_dir=work, dry_run=True)
    assert "8 prototypes" in capsys.readouterr().out
    train(config, work_dir=work)
    assert (work / "epoch_1.pth").exists()
    longer = ["train_cfg.max_epochs=2", "model.type=mmengine.SlotCon"]
    status = run_command(lambda: train(config, work_dir=work, resume="auto", cfg_options=longer))
    assert status == 1 and "trained under another schedule" in capsys.readouterr().err


def test_another_method_on_our_images_is_a_pretraining(images, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "other_method.py").write_text("""
from mmengine.model import BaseModel
from mmengine.registry import MODELS


@MODELS.register_module(force=True)
class OtherMethod(BaseModel):
    def __init__(self, backbone, data_preprocessor=None):
        super().__init__(data_preprocessor)
        self.backbone = MODELS.build(backbone)

    def forward(self, inputs, data_samples=None, mode="tensor"):
        one, two = (self.backbone(view)[-1].mean((2, 3)) for view in inputs)
        return dict(loss=(one - two).square().mean())
""")
    config = tmp_path / "config.py"
    config.write_text(f"""
custom_imports = dict(imports=["slotcon_plugin", "other_method"])
model = dict(
    type="OtherMethod",
    backbone=dict(type="TorchvisionResNet", depth=18, num_stages=1),
    data_preprocessor=dict(type="TwoViewPreprocessor"),
)
train_dataloader = dict(
    batch_size=4,
    sampler=dict(type="ImageSampler"),
    collate_fn=dict(type="default_collate"),
    dataset=dict(type="UnlabeledImages", source={str(images)!r}, views=dict(size=32)),
)
train_cfg = dict(by_epoch=True, max_epochs=1)
optim_wrapper = dict(optimizer=dict(type="SGD", lr=0.01))
""")
    train(config, work_dir=tmp_path / "work", dry_run=True)
    assert "OtherMethod" in capsys.readouterr().out
    train(config, work_dir=tmp_path / "work")
    assert (tmp_path / "work" / "epoch_1.pth").exists()
    assert run_command(lambda: train(config, work_dir=tmp_path, compile=True, dry_run=True)) == 1
    assert "--compile is for pretraining with SlotCon" in capsys.readouterr().err
    sys.modules.pop("other_method")
