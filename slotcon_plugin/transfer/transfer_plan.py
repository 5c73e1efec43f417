"""What a detection or segmentation training is going to do, before it does it."""

from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from mmengine.runner import Runner

from ..runtime.launch import global_batch
from ..runtime.training_plan import as_text, start_rows
from .data_layout import check_listed_files
from .fill_backbone import fill_backbone


def describe_transfer(cfg: Config, world_size: int) -> str:
    """Build the model and the data, fill the backbone, and say in a few lines what training is.

    Args:
        cfg: config, already fitted to the machine.
        world_size: number of processes.

    Raises:
        SlotConError: a backbone that does not fit, or files that are missing.
    """
    init_default_scope(cfg.get("default_scope", "mmengine"))
    model = MODELS.build(cfg.model)
    loader = Runner.build_dataloader(cfg.train_dataloader, seed=cfg.randomness.seed)
    check_listed_files(loader.dataset, cfg)
    weights = [p.numel() for p in model.parameters() if p.requires_grad]
    source = [h.get("source") for h in cfg.get("custom_hooks") or [] if h.type == "BackboneHook"]
    backbone = "from the checkpoint"
    if source and not cfg.get("load_from"):
        backbone = fill_backbone(model, cfg.model, source[0]).removeprefix("backbone: ")
    unit = "iterations" if "max_iters" in cfg.train_cfg else "epochs"
    length = cfg.train_cfg.get("max_iters") or cfg.train_cfg.get("max_epochs")
    rows = {
        "images": f"{len(loader.dataset):,}",
        "model": f"{type(model).__name__}, {sum(weights) / 1e6:.1f} M trained weights",
        "backbone": backbone,
        "batch": f"{global_batch(cfg, world_size)} = {world_size} processes x "
        f"{cfg.train_dataloader.batch_size} images",
        "length": f"{length:,} {unit}, evaluation every {cfg.train_cfg.get('val_interval', 1):,}",
    }
    return as_text(rows | start_rows(cfg, world_size))
