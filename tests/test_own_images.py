"""Trainings on one's own images: --data, --epochs, --budget, and the rules of the own configs."""

import copy
import json
import os
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from PIL import Image
from tiny_training import write_images
from torch import nn

from benchmarks.processes import CONFIGS
from slotcon_plugin.apis.export import export
from slotcon_plugin.apis.own_images import choose_images, choose_length, follow_rules
from slotcon_plugin.apis.test import test as run_test
from slotcon_plugin.apis.train import train
from slotcon_plugin.checkpoints.metadata import MEASURED
from slotcon_plugin.errors import ConfigError, DataError
from slotcon_plugin.runtime.config_options import read_config
from slotcon_plugin.runtime.config_rules import LOADERS
from slotcon_plugin.runtime.fit_batch import fit_batch_norm
from slotcon_plugin.runtime.fit_machine import fit_to_machine
from slotcon_plugin.runtime.recipe_rules import Budget, Setup, derive, fill_auto
from slotcon_plugin.runtime.safe_loading import load_checkpoint_safely
from slotcon_plugin.transfer.annotations import check_annotations
from slotcon_plugin.transfer.fill_backbone import fill_backbone
from slotcon_plugin.transfer.own_data import follow_data
from slotcon_plugin.transfer.resnet_facts import ResNetFacts, facts_of_config

SMALL = {
    "model.neck.hidden_channels": 32,
    "model.neck.out_channels": 16,
    "model.head.prototypes.channels": 16,
    "model.head.predictor.channels": 16,
    "model.head.predictor.hidden_channels": 32,
}


def test_data_and_epochs_of_a_pretraining(run_tool, tmp_path):
    write_images(tmp_path / "images", count=40)
    (tmp_path / "list.txt").write_text("images/000.png\nimages/001.png\n")
    small = CONFIGS / "slotcon_r18_small.py"
    options = ("--dry-run", "--no-step", "--work-dir", tmp_path / "work", "--epochs", 3)
    status, out, err = run_tool("train", small, "--data", tmp_path / "images", *options)
    assert status == 0, err
    assert "images:        40\n" in out
    assert "3 epochs of 1 iterations" in out
    assert "warm-up of 0.6 epochs instead of 5: a fifth of the training" in out
    status, _, err = run_tool("train", small, "--data", tmp_path / "absent", *options)
    assert status == 1
    assert f"{tmp_path / 'absent'} does not exist" in err
    assert "DATA_ROOT" not in err  # the config's folder is not used

    cfg = read_config(CONFIGS / "slotcon_r50_cocoplus.py")
    choose_images(cfg, "the config", [tmp_path / "images", str(tmp_path / "list.txt")])
    dataset = cfg.train_dataloader.dataset
    assert (len(dataset.source), dataset.preset) == (2, None)
    assert not list(choose_length(cfg, "the config", 25, None))
    assert (cfg.train_cfg.max_epochs, cfg.param_scheduler.warmup) == (25, 5)


def test_heads_and_schedules_in_lists_follow_the_rules(tmp_path):
    cfg = read_config(CONFIGS / "decon_fcn_r18_own.py")
    choose_images(cfg, "own", write_images(tmp_path / "images", count=40))
    cfg.train_dataloader.batch_size = 16
    assert not list(choose_length(cfg, "own", 12, None, []))
    listed = copy.deepcopy(cfg)
    listed.model.decoder_head = [listed.model.decoder_head]
    listed.param_scheduler = [listed.param_scheduler]
    untrained = copy.deepcopy(listed)
    fill_auto(untrained)
    assert untrained.model.decoder_head[0].prototypes.num_prototypes == 64
    for one in (cfg, listed):
        list(follow_rules(one, fit_to_machine))
    heads = cfg.model.head, cfg.model.decoder_head, listed.model.decoder_head[0]
    assert [head.prototypes.num_prototypes for head in heads] == [32, 32, 32]
    assert listed.param_scheduler[0].warmup == cfg.param_scheduler.warmup == 2


def test_a_budget_of_a_fixed_recipe(tmp_path):
    cfg = read_config(CONFIGS / "slotcon_r18_small.py")
    choose_images(cfg, "small", write_images(tmp_path / "images", count=40))
    with pytest.raises(ConfigError, match=r"--budget and --cfg-options train_cfg\.max_epochs both"):
        list(choose_length(cfg, "small", None, "3h", ["train_cfg.max_epochs=5"]))
    with pytest.raises(ConfigError, match=r"--epochs and --cfg-options train_cfg\.max_epochs both"):
        list(choose_length(cfg, "small", 3, None, ["train_cfg.max_epochs=5"]))
    assert not list(choose_length(cfg, "small", None, "10epochs"))
    lines = list(follow_rules(cfg, fit_to_machine))
    assert (cfg.train_cfg.max_epochs, cfg.param_scheduler.warmup) == (10, 2)
    assert [line.split()[0] for line in lines] == ["epochs", "warm-up"]
    assert (cfg.train_dataloader.batch_size, cfg.optim_wrapper.optimizer.lr) == (32, 2.0)


def test_data_and_epochs_are_for_pretrainings():
    cfg = read_config(CONFIGS.parent / "seg" / "fcn_r18_tiny.py")
    with pytest.raises(ConfigError, match=r"--data names the images of a pretraining, but fcn"):
        choose_images(cfg, "fcn", "images")
    for epochs, budget in ((3, None), (None, "3h")):
        with pytest.raises(ConfigError, match=r"fcn is train_cfg.max_iters \(100\)"):
            list(choose_length(cfg, "fcn", epochs, budget))
    cfg.train_cfg = dict(type="EpochBasedTrainLoop", max_epochs=12)
    with pytest.raises(ConfigError, match=r"train_cfg\.max_epochs=N"):
        list(choose_length(cfg, "fcn", 3, None))


RECIPES = [  # images, processes, budget, seconds of an image -> values of `Recipe`
    ((118_287, 8, "paper", None), dict(batch=64, epochs=800, prototypes=256, lr=2.0, warmup=5)),
    ((118_287, 1, "paper", None), dict(batch=512, base=512, rounds=1, momentum=0.99)),
    ((1_281_167, 8, "paper", None), dict(batch=64, epochs=200, lr=2.0, momentum=0.99)),
    ((2_000_000, 8, "12h", 0.0006), dict(batch=64, epochs=32, prototypes=512, interval=3)),
    ((100_000, 8, "800epochs", None), dict(batch=64, epochs=800, prototypes=256)),
    ((701, 1, "30epochs", None), dict(batch=32, epochs=30, prototypes=64, lr=2.0, warmup=5)),
    ((701, 1, "30 Epochs", None), dict(momentum=0.99, interval=3)),
    ((183, 1, "45min", 0.1), dict(batch=16, epochs=138, prototypes=32, momentum=0.99)),
    ((30, 1, "200epochs", None), dict(batch=16, rounds=1, epochs=200, lr=1.9)),
    ((7, 1, "200epochs", None), dict(batch=16, rounds=3, epochs=200, interval=20)),
    ((1, 1, "60epochs", None), dict(batch=16, rounds=16, momentum=0.9, warmup=10)),
    ((7, 8, "200epochs", None), dict(batch=2, rounds=3, base=16)),
    ((30, 3, "200epochs", None), dict(batch=4, rounds=1, base=12)),
    ((10_000, 1, "45min", 0.05), dict(batch=64, epochs=4, lr=2.0)),  # 512 would be 95 steps
    ((30, 1, "2h", None), dict(epochs=1)),  # not timed
]


@pytest.mark.parametrize(("setup", "expected"), RECIPES)
def test_rules(setup, expected):
    images, processes, budget, seconds = setup
    setup = Setup(images, processes, 1, Budget.read(budget), seconds)
    recipe, lines = derive(setup)
    found = recipe._asdict()
    assert {name: found[name] for name in expected} == pytest.approx(expected, rel=0.01)
    # The loader has a batch in each epoch, and nothing is longer than the budget.
    length = -(-images * recipe.rounds // processes) // recipe.batch
    assert length >= 1
    if seconds:
        steps = recipe.epochs * length
        assert steps * recipe.batch * processes * seconds <= setup.budget.seconds
    assert {line.split()[0] for line in lines} >= {"batch", "epochs", "prototypes", "learning"}


def test_given_values_are_kept_and_the_others_follow():
    setup = Setup(183, 1, 2, Budget.read("10epochs"))
    recipe, lines = derive(setup, batch=64, lr=0.5, prototypes=27)
    assert (recipe.batch, recipe.lr, recipe.prototypes) == (64, 0.5, 27)
    assert recipe.decoder_prototypes == 27
    assert (recipe.base, recipe.rounds, recipe.epochs) == (128, 1, 10)
    assert not [line for line in lines if line.split()[0] in ("batch", "learning", "prototypes")]
    assert "10 steps; 600 or more" in next(line for line in lines if line.startswith("epochs"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("45", "--budget is '45', expected a number with its unit, as 45min, 3h"),
        ("45m", "There are: days, epochs, h, min"),
        ("45mim", "Did you mean min?"),
        ("2.5epochs", "expected a whole number of epochs above 0"),
        ("0min", "expected a time above 0"),
        ("1h30", "expected a number with its unit"),
        ("-3h", "expected a number with its unit"),
        ("", "expected a number with its unit"),
    ],
)
def test_wrong_budgets(text, message):
    with pytest.raises(ConfigError, match=re.escape(message)):
        Budget.read(text)


def test_a_pretraining_within_a_budget(run_tool, tmp_path):
    """On five images, for three seconds; resumed as it began, and not with another image."""
    images, work = write_images(tmp_path / "images", count=5), tmp_path / "work"
    command = [CONFIGS / "slotcon_r18_own.py", "--data", images, "--work-dir", work, "--resume"]
    small = dict(SMALL, **{"train_dataloader.batch_size": 4, "train_dataloader.num_workers": 0})
    small["train_dataloader.dataset.views.size"] = 32
    command += ["--cfg-options", *(f"{key}={value}" for key, value in small.items())]
    status, out, err = run_tool("train", *command, "--budget", "0.05min")
    assert status == 0, err
    epochs = int(re.search(r"epochs ([\d,]+): 90% of 0.05min", out)[1].replace(",", ""))
    assert out.index("timing steps for the budget of 0.05min: at most") < out.index("timed: ")
    assert "] batch 4: " not in out  # given
    saved = load_checkpoint_safely(work / f"epoch_{epochs}.pth")
    assert saved["state_dict"]["head.prototypes.weight"].shape[0] == 16
    assert "layer4.1.bn2.weight" in {key.removeprefix("backbone.") for key in saved["state_dict"]}

    status, out, err = run_tool("train", *command, "--dry-run")
    assert status == 0, err
    assert (
        f"as in the checkpoint: train_dataloader.sampler.rounds 1, train_cfg.max_epochs {epochs}"
        in out
    )
    status, _, err = run_tool("train", *command, "--dry-run", "--budget", "1h")
    assert status == 1
    assert "--budget 1h: the training that is resumed had the budget 0.05min" in err
    write_images(images, count=6)
    status, _, err = run_tool("train", *command)
    assert status == 1
    assert "the number of images was 5, now 6" in err


def write_labeled(root: Path) -> Path:
    """Six images of 96 x 64 pixels to train and to evaluate, with maps and COCO files."""
    rng = np.random.default_rng(0)
    for split in ("train", "val"):
        for folder in ("images", "labels"):
            (root / folder / split).mkdir(parents=True)
        content = dict(images=[], annotations=[])
        content["categories"] = [dict(id=7, name="disk"), dict(id=3, name="box")]
        for i in range(6):
            pixels = rng.integers(0, 90, (64, 96, 3), dtype=np.uint8)
            labels = np.zeros((64, 96), np.uint8)
            for number, category in enumerate((3, 7), 1):
                x, y = int(rng.integers(0, 64)), int(rng.integers(0, 32))
                pixels[y : y + 32, x : x + 32] = 200, 60 * number, 90
                labels[y : y + 32, x : x + 32] = number
                corners = [x, y, x + 32, y, x + 32, y + 32, x, y + 32]
                one = dict(id=2 * i + number, image_id=i, category_id=category, iscrowd=0)
                one |= dict(bbox=[x, y, 32, 32], area=32 * 32, segmentation=[corners])
                content["annotations"].append(one)
            Image.fromarray(pixels).save(root / "images" / split / f"{i}.png")
            Image.fromarray(labels).save(root / "labels" / split / f"{i}.png")
            content["images"].append(dict(id=i, file_name=f"{i}.png", width=96, height=64))
        (root / "labels" / f"{split}.json").write_text(json.dumps(content))
    return root


def write_listed(root: Path) -> list[str]:
    """One COCO file of all images of `write_labeled`, and lists that select four and three of
    them; one object has a run-length encoded mask. Returns the options for them."""
    write_labeled(root)
    whole = dict(images=[], annotations=[], info={})
    for number, split in enumerate(("train", "val")):
        content = json.loads((root / "labels" / f"{split}.json").read_text())
        for row in content["images"]:
            name = f"{split}/{row['file_name']}"
            whole["images"].append(row | dict(id=10 * row["id"] + number, file_name=name))
        for one in content["annotations"]:
            changes = dict(id=10 * one["id"] + number, image_id=10 * one["image_id"] + number)
            whole["annotations"].append(one | changes)
    (last,) = [one for one in whole["annotations"] if one["id"] == 41]  # of val/1
    x, y = last["bbox"][:2]
    counts = [64 * x + y, *[32, 32] * 31, 32, 64 * (96 - x - 31) - y - 32]
    last["segmentation"] = dict(size=[64, 96], counts=counts)
    (root / "all.json").write_text(json.dumps(whole | dict(categories=content["categories"])))
    (root / "few.txt").write_text("".join(f"train/{i}\n" for i in range(4)))
    (root / "rest.txt").write_text("# with suffix, too\nval/0.png\n\nval/1\nval/5\n")
    return [f"own_data.{key}" for key in ("labels=all.json", "train=few.txt", "val=rest")]


SHORT = ["train_cfg.max_iters=2", "train_cfg.val_interval=2", "total_batch_size=2"]
SHORT += ["train_dataloader.num_workers=0", "val_dataloader.num_workers=0"]
FEW_BOXES = ["model.train_cfg.rcnn.sampler.num=16", "model.train_cfg.rpn_proposal.max_per_img=20"]
FEW_BOXES += ["model.test_cfg.rpn.max_per_img=10", "default_hooks.precise_bn.iterations=1"]


@pytest.mark.parametrize(
    ("config", "options", "metric"),
    [
        ("seg/fcn_own", [], "mIoU"),
        ("det/mask_rcnn_own", FEW_BOXES, "coco/segm_mAP"),
    ],
)
def test_own_labels(config, options, metric, run_tool, tmp_path):
    """Classes come from the data; tools/test.py takes the config that the work dir has."""
    pytest.importorskip(dict(seg="mmseg", det="mmdet")[config[:3]])
    root, work = tmp_path / "own", tmp_path / "work"
    if options:
        options = options + write_listed(root)
    else:
        write_labeled(root)
    file = CONFIGS.parent / f"{config}.py"
    command = (file, "--data", os.path.relpath(root), "--backbone", "none", "--work-dir", work)
    status, out, err = run_tool("train", *command, "--cfg-options", *SHORT, *options)
    assert status == 0, err
    words = "6 images to train, 6 to evaluate, 3 classes, the values 0 to 2"
    if options:
        words = "4 images to train, 3 to evaluate, 2 categories of all.json"
        assert "ResNet-18, poly2mask=True for run-length encoded masks, unless" in out
    assert f"data: {words}" in out
    status, out, err = run_tool("test", work / file.name, work / "iter_2.pth")
    assert status == 0, err
    assert f"\n{metric}: " in out
    saved = load_checkpoint_safely(work / "iter_2.pth")
    key = "roi_head.bbox_head.fc_cls.bias" if options else "decode_head.conv_seg.bias"
    assert len(saved["state_dict"][key]) == 3  # of a detector with the background
    assert set(saved["meta"]["dataset_meta"]["classes"]) >= ({"disk", "box"} if options else set())


def own_config(root: Path, config: str = "seg/fcn_own", *options: str):
    return read_config(CONFIGS.parent / f"{config}.py", [f"own_data.root={root}", *options])


def test_values_that_follow_from_labels(tmp_path):
    pytest.importorskip("mmseg")
    pytest.importorskip("mmdet")
    root = write_labeled(tmp_path / "own")
    found = follow_data(own_config(root))[0]
    assert "3 classes, the values 0 to 2 of the maps without names" in found
    shutil.copytree(root, tmp_path / "gaps")
    for path in (tmp_path / "gaps" / "labels").glob("*/*.png"):
        Image.fromarray(np.array(Image.open(path)) * 3).save(path)
    found = follow_data(own_config(tmp_path / "gaps"))[0]
    assert "7 classes, the values 0 to 6 of the maps, of which 4 do not occur, without" in found
    (root / "classes.txt").write_text("ground\nbox\ndisk\n\n")
    cfg = own_config(root, "seg/fcn_own", "model.backbone.depth=50", "train_cfg.max_iters=7")
    follow_data(cfg)
    assert cfg.train_dataloader.dataset.metainfo.classes == ("ground", "box", "disk")
    assert cfg.train_dataloader.dataset.data_prefix.img_path == "images/train"
    assert cfg.test_dataloader.dataset.data_prefix.seg_map_path == "labels/val"
    assert (cfg.model.decode_head.num_classes, cfg.train_cfg.max_iters) == (3, 7)
    assert (cfg.model.backbone.depth, cfg.model.decode_head.in_channels) == (50, 2048)
    assert cfg.train_dataloader.dataset.pipeline[3].crop_size == (64, 64)
    assert (cfg.total_batch_size, cfg.optim_wrapper.optimizer.lr) == (4, pytest.approx(0.08))
    assert cfg.train_cfg.val_interval == 142  # of 714 iterations
    lists = tmp_path / "lists"
    for folder in ("images", "labels"):
        shutil.copytree(root / folder / "train", lists / folder)
    (lists / "train.txt").write_text("0\n1\n2\n")
    (lists / "val.txt").write_text("3\n")
    cfg = own_config(lists)
    assert "3 images to train, 1 to evaluate" in follow_data(cfg)[0]
    assert cfg.val_dataloader.dataset.ann_file == "val.txt"
    cfg = own_config(root, "det/mask_rcnn_own")
    follow_data(cfg, known=ResNetFacts(depth=50))
    assert cfg.model.roi_head.mask_head.num_classes == 2
    assert cfg.model.neck.in_channels == [256, 512, 1024, 2048]
    assert cfg.val_dataloader.dataset.ann_file == "labels/val.json"
    assert cfg.val_evaluator.ann_file == str(root / "labels" / "val.json")
    used = {key: cfg[key] for key in (*LOADERS, "model", "train_cfg", "param_scheduler")}
    assert "'auto'" not in str(used)


def write_dilated(folder, contracted):
    """An encoder with a dilated stage, its checkpoint and its exported file."""
    torch.manual_seed(0)
    options = dict(strides=(1, 2, 2, 1), dilations=(1, 1, 1, 2), contract_dilation=contracted)
    encoder = MODELS.build(dict(type="TorchvisionResNet", depth=18, **options)).eval()
    for p in encoder.parameters():
        nn.init.uniform_(p, 0.5, 1.5) if p.ndim == 1 else None  # a norm that is 0 hides its block
    weights = {f"backbone.{name}": value for name, value in encoder.state_dict().items()}
    weights["head.weight"] = torch.zeros(2)
    files = folder / "epoch_1.pth", folder / "encoder.pth"
    torch.save(dict(meta={MEASURED: options}, state_dict=weights), files[0])
    export(*files, "openmmlab")
    return encoder, files


@pytest.mark.parametrize("contracted", [False, True])
def test_the_network_of_labels_computes_the_features_of_its_file(tmp_path, contracted):
    """A dilated stage's first block has the dilation that it had in the pretraining."""
    pytest.importorskip("mmseg")
    encoder, files = write_dilated(tmp_path, contracted)
    root = write_labeled(tmp_path / "own")
    init_default_scope("mmseg")
    images = torch.randn(1, 3, 64, 96)
    for file in map(str, files):
        found = {}
        for options in ([], [f"model.backbone.contract_dilation={not contracted}"]):
            cfg = own_config(root, "seg/fcn_own", *options)
            follow_data(cfg, file)
            fit_batch_norm(cfg)
            net = MODELS.build(cfg.model).eval()
            fill_backbone(net, cfg.model, file)
            with torch.no_grad():
                found[cfg.model.backbone.contract_dilation] = net.backbone(images)[-1]
        with torch.no_grad():
            expected = encoder(images)[-1]
        torch.testing.assert_close(found[contracted], expected)
        assert (found[not contracted] - expected).abs().max() > 0.1  # as the option has it


def test_what_follows_from_a_file_is_known_later(tmp_path, capsys):
    """Where a training resumes, by any way, or loads, and in slotcon test, without the file."""
    pytest.importorskip("mmseg")
    root = write_labeled(tmp_path / "own")
    few = ["train_cfg.max_iters=2", "train_cfg.val_interval=2", "optim_wrapper.optimizer.lr=0.01"]
    few += ["default_hooks.checkpoint.interval=1", f"own_data.root={root}"]
    config, work = CONFIGS.parent / "seg" / "fcn_own.py", tmp_path / "work"
    _, (_, encoder) = write_dilated(tmp_path, contracted=False)

    def trained(name, *options, **rest):
        train(config, work_dir=tmp_path / name, cfg_options=[*few, *options], **rest)
        cfg = Config.fromfile(tmp_path / name / "fcn_own.py")
        return cfg.model.backbone.contract_dilation

    assert trained("work", backbone=encoder) is False
    first = work / "iter_1.pth"
    assert trained("loaded", f"load_from={first}", backbone="none") is False
    assert trained("resumed", resume=first, backbone="none") is False
    assert trained("named", f"load_from={first}", "resume=True", backbone="none") is False
    (work / "iter_2.pth").unlink()
    assert trained("work", "resume=True", backbone="none") is False
    capsys.readouterr()
    run_test(config, work / "iter_2.pth", work_dir=tmp_path / "test", data=root)
    assert "contract_dilation=False," in capsys.readouterr().out


def test_what_the_config_of_a_resnet_says():
    assert ResNetFacts() == (18, True)
    for dilations in ([1, 1, 1, 1], "damaged", 2, None):
        assert facts_of_config(dict(depth=50, dilations=dilations), "a.pth") == (50, True)
    for dilations in ((1, 1, 1, 2), [1, [2]]):
        assert facts_of_config(dict(depth=50, dilations=dilations), "a.pth") == (50, False)
    for backbone in ("damaged", [1], {}, dict(depth=17), dict(depth=[18]), dict(depth="x")):
        with pytest.raises(ConfigError, match=r"a\.pth is no ResNet: .*expected one of 18, 34, 50"):
            facts_of_config(backbone, "a.pth")


def test_a_list_selects_images_of_a_coco_file(tmp_path):
    """Dataset and metric read what a COCO file of these images alone would have."""
    pytest.importorskip("mmdet")
    from mmengine.registry import DATASETS, METRICS, init_default_scope

    init_default_scope("mmdet")

    root = tmp_path / "own"
    options = write_listed(root)
    cfg = own_config(root, "det/mask_rcnn_own", *options)
    follow_data(cfg)
    names = {"train": [f"train/{i}" for i in range(4)], "val": ["val/0", "val/1", "val/5"]}
    whole = json.loads((root / "all.json").read_text())
    for split, chosen in names.items():
        images = [row for row in whole["images"] if row["file_name"][:-4] in chosen]
        ids = {row["id"] for row in images}
        objects = [one for one in whole["annotations"] if one["image_id"] in ids]
        dataset = DATASETS.build(cfg[f"{split}_dataloader"].dataset)
        paths = [dataset.get_data_info(i)["img_path"] for i in range(len(dataset))]
        found = [os.path.relpath(path, root / "images")[:-4] for path in paths]
        assert found == chosen
        if split == "val":
            api = METRICS.build(cfg.val_evaluator)._coco_api
            assert [*api.imgs] == [row["id"] for row in images]
            assert api.dataset == whole | dict(images=images, annotations=objects)
    (line, *_) = check_annotations(cfg)
    assert line.endswith("all.json: 8 objects of 2 classes, 4 images")
    wrong = [
        ("own_data.labels=labels", DataError, r"few\.txt is a list of images, .*own_data\.labels="),
        (
            "own_data.val=few",
            DataError,
            r"train=few\.txt \(all.json\) .*val=few .* 4 images in com",
        ),
        ("own_data.val=strange", DataError, r"1 of 2 names are .*all\.json: 9\. .*as train/0\.png"),
        ("own_data.val=empty", DataError, r"empty\.txt cannot be read: the file is empty"),
    ]
    (root / "strange.txt").write_text("9\nval/0\n")
    (root / "empty.txt").touch()
    for option, error, message in wrong:
        with pytest.raises(error, match=message):
            follow_data(own_config(root, "det/mask_rcnn_own", *options, option))
    cfg = own_config(root, "det/mask_rcnn_own", "own_data.train=train.json")
    assert "6 images to train" in follow_data(cfg)[0]
    assert not cfg.train_dataloader.dataset.pipeline[1].poly2mask
    assert cfg.val_evaluator.backend_args is None


def test_images_that_are_trained_on_are_not_evaluated(tmp_path):
    root = write_labeled(tmp_path / "own")
    for split in ("train", "val"):
        shutil.copytree(root, tmp_path / split)
    for folder in ("images", "labels"):
        shutil.rmtree(tmp_path / "val" / folder / "val")
        (tmp_path / "val" / folder / "val").symlink_to("train")
    (tmp_path / "lists").mkdir()
    for folder in ("images", "labels"):
        shutil.copytree(root / folder / "train", tmp_path / "lists" / folder)
    (tmp_path / "lists" / "train.txt").write_text("0\n1\n2\n")
    (tmp_path / "lists" / "val.txt").write_text("2\n3\n")
    for config, folder, options, message in (
        (
            "seg/fcn_own",
            "lists",
            [],
            r"train=train \(train\.txt\) and .*val=val \(val\.txt\) have 1 ",
        ),
        (
            "seg/fcn_own",
            "val",
            [],
            r"\(folder\) .* 6 images in common, of 6 .* 6 .*images/train/0\.png",
        ),
        (
            "seg/fcn_own",
            "train",
            ["own_data.val=train"],
            "own_data.val=train .* 6 images in common",
        ),
        (
            "det/mask_rcnn_own",
            "train",
            ["own_data.val=train"],
            r"val=train \(labels/train\.json\) hav",
        ),
    ):
        with pytest.raises(DataError, match=message):
            follow_data(own_config(tmp_path / folder, config, *options))


def test_labels_that_do_not_fit(tmp_path):
    pytest.importorskip("mmseg")
    with pytest.raises(DataError, match=r"Missing or empty.*\n.*absent\n.*\nExpected: a folder"):
        follow_data(own_config(tmp_path / "absent"))
    root = write_labeled(tmp_path / "own")
    with pytest.raises(ConfigError, match="--data names 2 paths, expected one folder with labels"):
        choose_images(own_config(root), "fcn_own", [root, root])
    cases = [
        (lambda: (root / "classes.txt").write_text("a\nb\n"), "has the values 2 .* classes 0 to 1"),
        (
            lambda: (root / "classes.txt").write_text("a\na\nb\n"),
            "one name on each line, each once",
        ),
        (lambda: (root / "classes.txt").unlink(), None),
        (lambda: (root / "labels/train/3.png").unlink(), r"1 of 12 files .*are missing:\n.*3\.png"),
        (lambda: (root / "images/train/3.png").unlink(), None),
        (lambda: (root / "images/val/x.jpg").write_bytes(b""), r"has 1 \.jpg, 6 \.png, expected"),
        (lambda: shutil.rmtree(root / "images/val"), r"Missing or empty.*\n.*images/val"),
    ]
    for change, message in cases:
        change()
        if message is not None:
            with pytest.raises(DataError, match=message):
                cfg = own_config(root)
                follow_data(cfg)
                check_annotations(cfg)
