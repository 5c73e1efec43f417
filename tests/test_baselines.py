"""Other methods, of mmpretrain, on this plugin's images: training, files, evaluation, benchmark."""

import json
import sys
from argparse import Namespace

import pytest
import torch
from colored import write_colored
from mmengine.config import Config
from mmengine.registry import MODELS
from tiny_training import assert_same, write_images
from torch import nn
from torchvision.models import resnet18

from benchmarks.small_benchmark import SEG, small_benchmark, write_benchmark, write_mini
from slotcon_plugin.apis.evaluate import evaluate
from slotcon_plugin.apis.export import export
from slotcon_plugin.apis.load import load
from slotcon_plugin.apis.replay import replay
from slotcon_plugin.apis.train import train
from slotcon_plugin.benchmark.check_plan import check_plan
from slotcon_plugin.benchmark.collect import build_table
from slotcon_plugin.benchmark.planner import Planner
from slotcon_plugin.benchmark.protocols import Protocols
from slotcon_plugin.benchmark.schema import read_benchmark
from slotcon_plugin.checkpoints import read_encoder
from slotcon_plugin.checkpoints.configured import ConfiguredEncoder
from slotcon_plugin.errors import CheckpointError, ConfigError, TrainingStopped
from slotcon_plugin.runtime.config_files import ROOT
from slotcon_plugin.runtime.config_options import read_config
from slotcon_plugin.runtime.safe_loading import load_checkpoint_safely

pytest.importorskip("mmpretrain", reason="the other methods are mmpretrain's")

METHODS = {"mocov2": "MoCo", "densecl": "DenseCL", "byol": "BYOL", "simsiam": "SimSiam"}


def tiny_options(method):
    """The small config with small images; one with all four stages, as torchvision needs."""
    changed = {
        "train_dataloader.batch_size": 4,
        "train_dataloader.num_workers": 0,
        "train_dataloader.persistent_workers": False,
        "train_dataloader.dataset.views.size": 32,
        "param_scheduler.warmup": 0,
        "train_cfg.max_epochs": 2,
        "default_hooks.checkpoint.interval": 1,
        "default_hooks.logger.interval": 1,
        "+default_hooks.feature_rank.images": 2,
    }
    if method == "densecl":
        changed["default_hooks.densecl.start_iters"] = 1
    if method == "mocov2":
        changed |= {"model.backbone.num_stages": 4, "model.neck.in_channels": 512}
    return changed


@pytest.mark.parametrize("name", [f"{m}_{of}" for m in METHODS for of in ("r50_coco", "r18_small")])
def test_the_same_images_views_batch_and_epochs_as_slotcon(name):
    own, slotcon = (read_config(one) for one in (name, f"slotcon_{name.partition('_')[2]}"))
    for part in ("train_dataloader", "train_cfg", "auto_scale_lr", "log_processor"):
        assert own[part] == slotcon[part]
    assert own.model.data_preprocessor == slotcon.model.data_preprocessor
    for key in ("type", "depth", "num_stages"):
        assert own.model.backbone.get(key) == slotcon.model.backbone.get(key)
    with torch.device("meta"):
        assert own.model.type == f"mmpretrain.{type(MODELS.build(own.model)).__name__}"


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    return write_images(tmp_path_factory.mktemp("images"), count=8)


@pytest.mark.parametrize("method", METHODS)
def test_a_baseline_from_training_to_evaluation(method, images, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    options = [f"{key}={value}" for key, value in tiny_options(method).items()]
    run = dict(config=f"{method}_r18_small", data=images, cfg_options=options)
    if method == "byol":  # whose momentum depends on the length
        train(**run, work_dir=tmp_path / "work", dry_run=True)
        printed = capsys.readouterr().out
        assert "model:         BYOL" in printed and "(2 of 4 images" in printed
        assert not (tmp_path / "work").exists()
    whole = train(**run, work_dir=tmp_path / "work")
    log = next(whole.glob("*/*.log")).read_text()
    assert f"{METHODS[method]} has no teacher that TeacherHook moves" in log
    assert "no images of groups are drawn: it is for SlotCon" in log
    assert "which need SlotCon's prototypes" in log
    lines = [json.loads(one) for one in next(whole.rglob("scalars.json")).read_text().splitlines()]
    steps = [line for line in lines if "loss" in line]
    assert len(steps) == 4 and all(line["rankme"] > 1 for line in steps)
    if method == "simsiam":  # the predictor's learning rate stays
        groups = load_checkpoint_safely(whole / "epoch_2.pth")["optimizer"]["param_groups"]
        rates = {group.get("fix_lr", False): group["lr"] for group in groups}
        assert rates[True] == pytest.approx(0.05 * 4 / 32) and rates[False] < rates[True] / 2

    train(**run, work_dir=tmp_path / "resumed", resume=whole / "epoch_1.pth")
    one, other = (load_checkpoint_safely(tmp_path / w / "epoch_2.pth") for w in ("work", "resumed"))
    for part in ("state_dict", "optimizer", "param_schedulers"):
        assert_same(one[part], other[part], part)

    checkpoint = whole / "epoch_2.pth"
    model = MODELS.build(Config.fromfile(next(whole.glob("*.py"))).model)
    model.load_state_dict(one["state_dict"])
    pixels = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        expected = model.eval().backbone(pixels)[-1]
        for target in ("openmmlab", "torchvision")[: 1 + (method == "mocov2")]:
            export(checkpoint, tmp_path / f"{target}.pth", to=target)
            state = torch.load(tmp_path / f"{target}.pth", weights_only=True)
            if target == "openmmlab":
                init = dict(type="Pretrained", checkpoint=str(tmp_path / "openmmlab.pth"))
                stages = model.backbone.stages
                shape = dict(num_stages=len(stages), out_indices=[len(stages) - 1])
                if len(stages) < 4:
                    shape |= dict(strides=(1, 2, 2), dilations=(1, 1, 1))
                net = MODELS.build(dict(type="mmdet.ResNet", depth=18, init_cfg=init, **shape))
                net.init_weights()
            else:
                net = resnet18()
                net.fc = nn.Identity()
                net.load_state_dict(state)
                net = nn.Sequential(*list(net.children())[:-2])
            net.eval()  # mmdet's does not return itself
            found = net(pixels)
            found = found if isinstance(found, torch.Tensor) else found[-1]
            torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
    meta = read_encoder(tmp_path / "openmmlab.pth").meta
    assert meta["origin"]["part"] == "backbone"
    assert meta["training"]["method"] == METHODS[method]
    assert "onedl-mmpretrain" in meta["versions"] or "mmpretrain" in meta["versions"]

    colored = write_colored(tmp_path / "colored", count=4)
    for name, numbers in (("train", "0 1 2"), ("val", "3")):
        (colored / f"{name}.txt").write_text("\n".join(numbers.split()))
    labeled = dict(images=colored / "images", labels=colored / "labels", labels_format="voc")
    lists = dict(list=colored / "val.txt", train_list=colored / "train.txt")
    found = evaluate("retrieval", checkpoint, **labeled, **lists, size=64, memory=50, device="cpu")
    assert 0 <= found["results"]["miou"] <= 100
    assert load(whole, device="cpu").features(images / "000.png").dense.shape[0] in (256, 512)
    with pytest.raises(CheckpointError, match="a full checkpoint of SlotCon is needed"):
        evaluate("unsupervised", checkpoint, **labeled, size=64, device="cpu")


def test_baselines_stand_in_a_benchmark(tmp_path):
    mini = write_mini(tmp_path / "mini")
    content = small_benchmark(mini, tmp_path / "out")
    given = {"train_dataloader.dataset.source": str(mini / "images")}
    four = {"model.backbone.num_stages": 4, "model.neck.in_channels": 512}
    content["pretrainings"] = {
        name: dict(config=f"{name}_r18_small", overrides=given | tiny_options(name) | four)
        for name in METHODS
    }
    content["pretrainings"]["three"] = dict(
        config="byol_r18_small",
        overrides=given | {"train_dataloader.batch_size": 4},
        transfers=["voc"],
    )
    content["transfers"] = {"voc": content["transfers"]["voc"]}
    assert content["transfers"]["voc"]["config"] == str(SEG)
    benchmark = read_benchmark(write_benchmark(tmp_path / "b.yaml", content))
    planner = Planner(benchmark, ROOT, Protocols(ROOT))
    plan = planner.plan()
    (problem,) = check_plan(benchmark, plan.jobs, planner.find, 0)
    assert "transfers.voc with pretrainings.three" in problem and "without layer4" in problem
    notes = "\n".join(build_table(benchmark, Protocols(ROOT), plan).notes)
    assert "mocov2: the method is MoCo, as mmpretrain has it" in notes
    assert not any(
        "draw_groups" in word for job in plan.jobs for s in job.steps for word in s.command
    )


def test_files_of_other_methods(tmp_path):
    """Their own layouts: the encoder that is handed on, and what is left out by name."""
    net, other, last = (resnet18().state_dict() for _ in range(3))
    body = {name: value for name, value in net.items() if not name.startswith("fc.")}

    def below(prefix, state):
        return {f"{prefix}{name}": value for name, value in state.items()}

    head = {"fc.0.weight": torch.ones(2, 2), "fc.2.bias": torch.ones(2)}
    moco = below("module.encoder_q.", body | head) | below("module.encoder_k.", other | head)
    moco3 = below("module.base_encoder.", net) | below("module.momentum_encoder.", other)
    heads = {"head.mlp.0.weight": torch.ones(2, 2), "head.last_layer.weight_g": torch.ones(2)}
    dino = {one: below("module.backbone.", of) | below("module.", heads) for one, of in
            (("teacher", body), ("student", other))}  # fmt: skip
    flat = below("teacher.backbone.", body) | below("student.backbone.", other)
    network = below("backbone.", body) | {"neck.fc0.weight": torch.ones(2, 2)}
    predictor = below("module.predictor.", head)
    files = {
        "moco": {"epoch": 3, "state_dict": moco | {"module.queue": last["fc.bias"]}},
        "moco3": {"state_dict": moco3 | {"module.predictor.0.weight": torch.ones(2, 2)}},
        "simsiam": {"state_dict": below("module.encoder.", body | head) | predictor},
        "dino": dino | {"epoch": 3, "args": Namespace(arch="resnet18")},
        "dino_flat": {"state_dict": flat | below("teacher.", heads)},
        "network": {"state_dict": network},
        "compiled": {"state_dict": below("_orig_mod.", network)},
        "lightning": {"state_dict": below("model.", network)},
        "compiled_part": {"state_dict": below("backbone._orig_mod.", body) | below("neck.", head)},
    }  # fmt: skip
    for name, content in files.items():
        torch.save(content, tmp_path / f"{name}.pth")
        encoder = read_encoder(tmp_path / f"{name}.pth")
        assert_same(encoder.state_dict, body, name)
        assert encoder.kind == "network" or name == "dino_flat"
        assert encoder.meta["origin"]["part"] == ("teacher" if "dino" in name else "backbone")
        assert encoder.meta["training"] == {"method": "not stated in the file"}
        assert not any(old.startswith("encoder_k") for old in encoder.old_names.values())
    for name in ("dino", "dino_flat"):
        state = read_encoder(tmp_path / f"{name}.pth", part="student").state_dict
        assert torch.equal(state["conv1.weight"], other["conv1.weight"])
    like = ConfiguredEncoder(dict(type="TimmEncoder", name="vit_tiny_patch16_224"))
    vit = like.build().state_dict()
    torch.save({"state_dict": below("module.base_encoder.", vit | head)}, tmp_path / "vit.pth")
    torch.save({"teacher": below("backbone.", vit) | heads, "student": {}}, tmp_path / "dino.pth")
    for name in ("vit", "dino"):
        assert_same(read_encoder(tmp_path / f"{name}.pth", like=like).state_dict, vit, name)
    with pytest.raises(CheckpointError, match="has no student"):
        read_encoder(tmp_path / "moco.pth", part="student")


def test_a_step_whose_loss_is_lost_is_repeated(images, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    changed = tiny_options("densecl") | {"optim_wrapper.optimizer.lr": 1e30}
    options = [f"{key}={value}" for key, value in changed.items()]
    with pytest.raises(TrainingStopped, match="not finite"):
        train("densecl_r18_small", images, work_dir=tmp_path, cfg_options=options)
    replay(tmp_path / "nonfinite_step" / "rank0.pth")
    assert "loss_single" in capsys.readouterr().out
    monkeypatch.setitem(sys.modules, "mmpretrain.models", None)  # as if it were not installed
    with pytest.raises(ConfigError, match=r"pip install 'slotcon_plugin\[onedl-baselines"):
        read_config("mocov2_r18_small")


def test_a_queue_of_a_broken_number_of_batches_is_refused(images, tmp_path, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    options = [f"{k}={v}" for k, v in (tiny_options("mocov2") | {"model.queue_len": 30}).items()]
    with pytest.raises(ConfigError, match=r"queue_len is 30, .* multiple .* 4: .*queue_len=32\."):
        train("mocov2_r18_small", images, work_dir=tmp_path, dry_run=True, cfg_options=options)
