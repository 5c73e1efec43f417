"""The training loop with its real loader, ours as `tools/train.py` runs it and plainly."""

import tempfile
from pathlib import Path

from mmengine.registry import MODELS
from mmengine.runner import Runner
from plain_training import PlainTrainer
from plain_training import train as train_plainly

from slotcon_plugin.data.views import TwoViews
from slotcon_plugin.engine.launch import fit_to_machine
from slotcon_plugin.engine.options import read_config

CONFIGS = Path(__file__).resolve().parents[1] / "configs" / "pretrain"
Loop = tuple[list[float], list[float]]  # seconds of each step, and of waiting for its data


def loop_config(paths: list[str], device: str, batch: int, steps: int, workers: int, options=()):
    """On a GPU the R50 recipe for COCO in bfloat16; else the small one, in float32."""
    name = "slotcon_r50_coco.py" if device == "cuda" else "slotcon_r18_demo.py"
    cfg = read_config(CONFIGS / name, list(options))
    dataset = cfg.train_dataloader.dataset
    dataset.source, dataset.preset = paths, None
    cfg.train_dataloader.batch_size, cfg.train_dataloader.num_workers = batch, workers
    cfg.train_dataloader.persistent_workers = workers > 0
    cfg.train_dataloader.sampler.rounds = -(-batch * steps // len(paths))
    cfg.train_cfg.max_epochs = 1
    cfg.param_scheduler = dict(type="WarmupCosineLR", warmup=steps, by_epoch=False)
    cfg.default_hooks.checkpoint = None
    cfg.visualizer = None
    cfg.log_level = "ERROR"
    if device == "cuda":
        cfg.model.channels_last = cfg.model.compile = True
    return cfg


def run_ours(cfg) -> Loop:
    """Train with MMEngine's runner; times are its own, of `IterTimerHook`."""
    with tempfile.TemporaryDirectory() as folder:
        cfg.work_dir = folder
        fit_to_machine(cfg, "none", precision="bf16" if cfg.model.get("compile") else None)
        runner = Runner.from_cfg(cfg)
        runner.train()
        history = runner.message_hub.log_scalars
        return tuple(
            [float(value) for value in history[f"train/{name}"].data[0]]
            for name in ("time", "data_time")
        )


def run_plainly(cfg, paths: list[str], device: str, steps: int) -> Loop:
    """The same networks and sizes, the plain loop."""
    model = MODELS.build({**cfg.model, "compile": False, "channels_last": False})
    views = dict(cfg.train_dataloader.dataset.get("views") or {})
    views.pop("type", None)
    loader = cfg.train_dataloader
    trainer = PlainTrainer(model, device)
    return train_plainly(
        trainer, paths, TwoViews(**views), loader.batch_size, steps, loader.num_workers
    )
