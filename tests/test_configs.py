"""Pretraining configs: each trains and has the paper's numbers. Conventions of all configs."""

import re
from pathlib import Path

import pytest
import torch
import yaml
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS, PARAM_SCHEDULERS
from mmengine.runner import Runner
from tiny_training import write_images

from benchmarks.processes import CONFIGS, ROOT
from slotcon_plugin.apis.own_images import follow_rules
from slotcon_plugin.apis.train import train
from slotcon_plugin.errors import ConfigError
from slotcon_plugin.runtime.config_options import hooks_of, read_config
from slotcon_plugin.runtime.fit_machine import fit_to_machine
from slotcon_plugin.runtime.safe_loading import load_checkpoint_safely

CONTINUAL = "decon_fpn_convnext_tiny_coco"  # needs weights to start from
NAMES = sorted(path.stem for path in CONFIGS.glob("*.py") if path.stem != CONTINUAL)
ALL = sorted(path for path in CONFIGS.parent.glob("*/**/*.py") if "_base_" not in path.parts)
# The paper's recipes: prototypes, epochs, preset, images.
RECIPES = {
    "slotcon_r50_coco": (256, 800, "coco", 118_287),
    "slotcon_r50_coco_k27": (27, 800, "coco", 118_287),
    "slotcon_r50_cocoplus": (256, 800, "coco+", 241_690),
    "slotcon_r50_in1k_100e": (2048, 100, "imagenet", 1_281_167),
    "slotcon_r50_in1k_200e": (2048, 200, "imagenet", 1_281_167),
    "decon_fpn_r50_coco": (256, 800, "coco", 118_287),
    "decon_fcn_r50_coco": (256, 800, "coco", 118_287),
}
SMALL = {
    "train_dataloader.batch_size": 2,
    "train_dataloader.num_workers": 0,
    "train_cfg.max_epochs": 1,
    "default_hooks.logger.interval": 1,
    "model.neck.hidden_channels": 32,
    "model.head.predictor.hidden_channels": 32,
    "model.head.prototypes.num_prototypes": 8,
}
SMALL_DECODER = {
    "model.decoder_neck.hidden_channels": 32,
    "model.decoder_head.predictor.hidden_channels": 32,
    "model.decoder_head.prototypes.num_prototypes": 8,
}


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """Four images in every layout that a preset knows, and in a folder."""
    root = tmp_path_factory.mktemp("data")
    for folder in ("train2017", "unlabeled2017", "train/n01440764"):
        write_images(root / folder, count=4)
    return root


@pytest.fixture
def on_the_cpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


def train_small(cfg: Config, data: Path, work_dir: Path) -> Runner:
    """Shrink a config, point it at the images and train an epoch."""
    cfg.merge_from_dict(SMALL | (SMALL_DECODER if "decoder" in cfg.model else {}))
    schedules = cfg.param_scheduler
    (schedules[0] if isinstance(schedules, list) else schedules).warmup = 0
    cfg.train_dataloader.dataset.source = str(data)
    cfg.train_dataloader.dataset.views = dict(size=64)
    cfg.work_dir = str(work_dir)
    list(follow_rules(cfg, fit_to_machine))
    fit_to_machine(cfg)
    runner = Runner.from_cfg(cfg)
    runner.train()
    return runner


@pytest.mark.filterwarnings("ignore:.*the whole dataset has.*")
@pytest.mark.parametrize("name", NAMES)
def test_every_config_trains(name, data, tmp_path, on_the_cpu):
    runner = train_small(read_config(CONFIGS / f"{name}.py"), data, tmp_path)
    assert runner.iter >= 2
    saved = load_checkpoint_safely(tmp_path / "epoch_1.pth")["state_dict"]
    assert all(torch.isfinite(tensor).all() for tensor in saved.values())
    assert list(tmp_path.rglob("events.out.tfevents.*"))  # not in the folder of another run
    first = next(name for name in saved if re.fullmatch(r"backbone\..*weight", name))
    assert not torch.equal(saved[first], saved[f"teacher.{first}"])  # both moved, the teacher less
    scalars = runner.message_hub.log_scalars
    parts = [scalars[name].current() for name in scalars if name.startswith("train/loss_")]
    assert scalars["train/loss"].current() == pytest.approx(sum(parts))
    assert len(parts) == (4 if "decoder" in runner.cfg.model else 2)


def test_a_config_without_our_bases_needs_only_the_import(data, tmp_path, on_the_cpu):
    """A config as other libraries have it: torch's SGD, and TeacherHook as a custom hook."""
    file = tmp_path / "foreign.py"
    file.write_text("""
custom_imports = dict(imports=["slotcon_plugin"])
model = dict(
    type="SlotCon",
    backbone=dict(type="TorchvisionResNet", depth=18, num_stages=3),
    neck=dict(type="PixelProjector", in_channels=256, hidden_channels=32, out_channels=16),
    head=dict(
        type="PrototypeHead",
        prototypes=dict(type="Prototypes", num_prototypes=8, channels=16),
        group_loss=dict(type="GroupingLoss"),
        slot_loss=dict(type="SlotLoss"),
        predictor=dict(type="SlotPredictor", channels=16, hidden_channels=32),
    ),
    data_preprocessor=dict(type="TwoViewPreprocessor"),
)
train_dataloader = dict(
    batch_size=4,
    num_workers=0,
    sampler=dict(type="ImageSampler", shuffle=True),
    collate_fn=dict(type="default_collate"),
    dataset=dict(type="UnlabeledImages", source="replaced", views=dict(size=64)),
)
train_cfg = dict(by_epoch=True, max_epochs=1)
optim_wrapper = dict(optimizer=dict(type="SGD", lr=0.01))
custom_hooks = [dict(type="TeacherHook")]
""")
    cfg = Config.fromfile(file)
    cfg.train_dataloader.dataset.source = str(data / "train2017")
    cfg.work_dir = str(tmp_path / "work")
    Runner.from_cfg(cfg).train()
    saved = load_checkpoint_safely(tmp_path / "work" / "epoch_1.pth")["state_dict"]
    student, teacher = saved["head.prototypes.weight"], saved["teacher.prototypes.weight"]
    assert torch.allclose(student, teacher, atol=0.1) and not torch.equal(student, teacher)


@pytest.mark.parametrize("name", NAMES)
def test_headers_of_pretraining_configs(name):
    header = (CONFIGS / f"{name}.py").read_text().split('"""')[1]
    for word in ("Paper:", "arXiv 2205.15288", "Command:", "Data:", "Expected:"):
        assert word in header
    for mentioned in re.findall(r"configs/pretrain/\w+\.py", header):
        assert (ROOT / mentioned).name == f"{name}.py"


@pytest.mark.parametrize("name", RECIPES)
def test_recipes_are_the_paper_s(name):
    prototypes, epochs, preset, images = RECIPES[name]
    cfg = read_config(CONFIGS / f"{name}.py")
    assert cfg.train_cfg.max_epochs == epochs
    assert cfg.train_dataloader.dataset.preset == preset
    assert cfg.train_dataloader.batch_size * 8 == cfg.auto_scale_lr.base_batch_size == 512
    assert cfg.train_dataloader.drop_last
    optimizer = cfg.optim_wrapper.optimizer
    assert optimizer.lr == 1.0 * 512 / 256
    assert (optimizer.momentum, optimizer.trust_coefficient) == (0.9, 0.001)
    assert optimizer.weight_decay == 1e-5
    assert (cfg.param_scheduler.warmup, cfg.param_scheduler.final) == (5, 1e-6)
    with torch.device("meta"):  # full size, without its memory
        model = MODELS.build(cfg.model)
    assert model.head.prototypes.weight.shape == (prototypes, 256)
    assert model.head.group_loss_weight == 0.5

    header = (CONFIGS / f"{name}.py").read_text().split('"""')[1]
    per_epoch = images // 512
    for number in (images, per_epoch, per_epoch * epochs):
        assert f"{number:,}" in header
    assert f"{per_epoch * epochs * 512 / 1e6:.1f}" in header


def depth_of(path: Path) -> int:
    bases = Config._get_base_files(str(path))
    return 1 + max(map(depth_of, (path.parent / base for base in bases)), default=-1)


@pytest.mark.parametrize("path", ALL, ids=lambda path: path.stem)
def test_conventions_of_openmmlab(path):
    """The libraries' tools choose the work_dir and build the visualizer by its name; hooks have
    names, and custom_hooks is free for the user; at most three levels of bases."""
    cfg = Config.fromfile(path)
    assert not {"work_dir", "custom_hooks"} & cfg.keys()
    assert cfg.visualizer.name == "visualizer"
    assert depth_of(path) <= 3
    for mentioned in re.findall(r"\b(\w+\.py)\b", path.read_text().split('"""')[1]):
        assert any(folder.joinpath(mentioned).exists() for folder in (path.parent, ROOT / "tools"))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (
            "pretrain/slotcon_r50_coco",
            "LossGuard AverageOutputs RuntimeInfo IterTimer DistSamplerSeed Teacher ResumeCheck "
            "Diagnostics FeatureRank Logger ParamScheduler Checkpoint GroupImages UnreadableImages",
        ),
        (
            "det/mask_rcnn_r50_fpn_syncbn_1x_coco",
            "LossGuard RuntimeInfo Backbone IterTimer DistSamplerSeed ResumeCheck "
            "Diagnostics Logger ParamScheduler PreciseBN Checkpoint",
        ),
        (
            "seg/fcn_r50_ade20k",
            "LossGuard RuntimeInfo Backbone IterTimer DistSamplerSeed ResumeCheck "
            "Diagnostics Logger ParamScheduler Checkpoint",
        ),
    ],
)
def test_order_of_hooks(name, expected):
    """MMEngine runs hooks by priority, those of equal priority in the order of the config."""
    runner = Runner.__new__(Runner)
    runner._hooks = []
    runner.register_hooks(Config.fromfile(CONFIGS.parent / f"{name}.py").default_hooks)
    names = [type(hook).__name__.removesuffix("Hook") for hook in runner._hooks]
    assert names == expected.split()


def test_metafiles_are_the_configs_with_published_results():
    """mim reads them. The results are those of references.yaml, and marked as published."""
    index = yaml.safe_load((ROOT / "model-index.yml").read_text())
    files = [yaml.safe_load((ROOT / path).read_text()) for path in index["Import"]]
    models = {model["Name"]: model for file in files for model in file["Models"]}
    small = {path.stem for path in ALL if re.search("_(mini|tiny|demo)$", path.stem)}
    assert models.keys() == {path.stem for path in ALL} - small
    references = yaml.safe_load((CONFIGS.parent / "benchmark" / "references.yaml").read_text())
    rows = dict(
        slotcon_r50_coco_k27="slotcon-stuff",
        slotcon_r50_cocoplus="slotcon-cocoplus-800",
        slotcon_r50_in1k_100e="slotcon-in1k-100",
        slotcon_r50_in1k_200e="slotcon-in1k-200",
    )
    columns = {
        ("COCO", "box AP"): "box_ap",
        ("COCO", "mask AP"): "mask_ap",
        ("Cityscapes", "mIoU"): "city",
        ("VOC 2012 aug", "mIoU"): "voc",
        ("ADE20K", "mIoU"): "ade",
        ("COCO-Stuff 27", "mIoU"): "stuff_miou",
        ("COCO-Stuff 27", "pixel accuracy"): "stuff_accuracy",
    }
    for name, model in models.items():
        cfg = Config.fromfile(ROOT / model["Config"])
        assert Path(model["Config"]).stem == name
        assert model["In Collection"] in {one["Name"] for f in files for one in f["Collections"]}
        metadata, results = model["Metadata"], model.get("Results", [])
        assert cfg.train_cfg.get("max_iters") == metadata.get("Iterations")
        assert cfg.train_cfg.get("max_epochs") == metadata.get("Epochs")
        assert cfg.auto_scale_lr.base_batch_size == metadata["Batch Size"]
        assert not results or metadata["Results From"].startswith("published, not measured")
        published = references[rows.get(name, "slotcon-coco-800")]["results"]
        for result in results:
            for metric, value in result["Metrics"].items():
                assert published[columns[result["Dataset"], metric]] == value


@pytest.mark.parametrize("name", ["slotcon_convnext_tiny_coco", "slotcon_vit_small_coco"])
def test_recipes_with_adamw(name, tmp_path):
    """Weight decay rises tenfold, and stays 0 for all parameters with one axis and positions."""
    pytest.importorskip("timm")
    cfg = read_config(CONFIGS / f"{name}.py")
    assert cfg.optim_wrapper.optimizer.lr == pytest.approx(1.5e-4 * 512 / 256)
    assert cfg.train_dataloader.batch_size * 8 == cfg.auto_scale_lr.base_batch_size == 512
    cfg.merge_from_dict({"model.backbone.drop_path_rate": 0.0})
    model = MODELS.build(cfg.model)
    assert not any(isinstance(m, torch.nn.modules.batchnorm._BatchNorm) for m in model.modules())
    optim = dict(cfg.optim_wrapper, type="OptimWrapper")
    for option in ("dtype", "loss_scale"):
        del optim[option]
    wrapper = build_optim_wrapper(model, optim)
    sizes = {p: name for name, p in model.named_parameters()}
    decayed = [g["weight_decay"] > 0 for g in wrapper.optimizer.param_groups for _ in g["params"]]
    params = [p for group in wrapper.optimizer.param_groups for p in group["params"]]
    for p, has_decay in zip(params, decayed, strict=True):
        is_exempt = p.ndim == 1 or sizes[p].endswith(("pos_embed", "cls_token"))
        assert has_decay != is_exempt, sizes[p]
    schedule = dict(cfg.param_scheduler[1])
    schedule.pop("convert_to_iter_based")
    schedule = PARAM_SCHEDULERS.build(
        schedule | dict(optimizer=wrapper.optimizer, T_max=800, by_epoch=True)
    )
    for _ in range(800):
        wrapper.optimizer.step()
        schedule.step()
    ends = {round(group["weight_decay"], 6) for group in wrapper.optimizer.param_groups}
    assert ends == {0.0, 0.4}


def test_the_continual_recipe_of_decon(tmp_path):
    """From timm's weights: the decoder's heads alone at first, no encoder head; two steps."""
    timm = pytest.importorskip("timm")
    pytest.importorskip("mmdet")
    torch.save(timm.create_model("convnext_atto").state_dict(), tmp_path / "atto.pth")
    config = CONFIGS / f"{CONTINUAL}.py"
    images = write_images(tmp_path / "images", count=4)
    cfg = read_config(config)
    assert [hook for hook in hooks_of(cfg).values() if hook["type"] == "FreezeHook"]
    assert cfg.model.encoder_loss_weight == 0 and len(cfg.model.decoder_head) == 4
    head = dict(cfg.model.decoder_head[0])
    head["prototypes"] = dict(type="Prototypes", num_prototypes=8, channels=16)
    head["predictor"] = dict(type="SlotPredictor", channels=16, hidden_channels=16)
    changed = {
        "model.backbone.name": "convnext_atto",
        "model.decoder.in_channels": [40, 80, 160, 320],
        "model.decoder.out_channels": 16,
        "model.decoder_neck": dict(in_channels=16, hidden_channels=16, out_channels=16),
        "model.decoder_head": [head] * 4,
        "train_dataloader.dataset.source": str(images),
        "train_dataloader.dataset.preset": None,
        "+train_dataloader.dataset.views": dict(type="TwoViews", size=64),
        "train_dataloader.batch_size": 4,
        "train_dataloader.num_workers": 0,
        "train_dataloader.persistent_workers": False,
        "train_cfg.max_epochs": 2,
        "param_scheduler.0.warmup": 0,
        "default_hooks.freeze.epochs": 1,
        "default_hooks.checkpoint.interval": 1,
        "default_hooks.group_images": None,
        "default_hooks.feature_rank": None,
    }
    options = [f"{key}={value!r}" for key, value in changed.items()]
    with pytest.raises(ConfigError, match="No backbone is named"):
        train(config, work_dir=tmp_path / "work", cfg_options=options)
    path = train(
        config, work_dir=tmp_path / "work", backbone=tmp_path / "atto.pth", cfg_options=options
    )
    state = load_checkpoint_safely(path / "epoch_1.pth")
    weights = state["state_dict"]
    start = torch.load(tmp_path / "atto.pth", weights_only=True)
    trained = load_checkpoint_safely(path / "epoch_2.pth")["state_dict"]
    for name in ("stem.0.weight", "stages.3.blocks.0.mlp.fc1.weight"):
        assert torch.equal(weights[f"backbone.{name}"], start[name])
        assert not torch.equal(trained[f"backbone.{name}"], start[name])
    assert "convnext_atto" in state["meta"]["backbone"]
    heads = {int(name.split(".")[1]) for name in weights if name.startswith("decoder_heads.")}
    assert heads == {0, 1, 2, 3} and not any(name.startswith("head.") for name in weights)
