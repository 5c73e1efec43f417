"""Training and evaluation by detectron2's own trainer."""

from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

from ..checkpoints.named_networks import last_of_work_dir
from ..errors import ConfigError
from ..runtime.launch import announce
from ..runtime.scalars import write_metrics
from ..runtime.work_dir import check_writable, claim, find_replaced, move_aside


def train_detectron2(
    config: str | Path,
    options: Sequence[str] = (),
    backbone: str | None = None,
    num_gpus: int = 1,
    resume: bool = False,
    eval_only: bool = False,
    work_dir: str | Path | None = None,
    out: str | Path | None = None,
    overwrite: bool = False,
    parts: str = "all",
) -> None:
    """Train Mask R-CNN with detectron2's own trainer and evaluate it, or only evaluate it.

    Args:
        config: a detectron2 config, .yaml.
        options: detectron2's alternating keys and values, which replace entries of the config.
        backbone: an exported file, a checkpoint, a work dir, 'zoo:NAME', 'supervised'
            (torchvision's ImageNet weights) or 'none' (random); None takes the config's
            MODEL.WEIGHTS.
        num_gpus: processes, one per GPU; 0 or 1 on a CPU.
        resume: continue from the last checkpoint in the work dir.
        eval_only: evaluate MODEL.WEIGHTS instead of training.
        work_dir: folder of checkpoints and logs; by default SLOTCON_WORK_DIR or
            work_dirs/detectron2_NAME.
        out: write the metrics to this file, as JSON.
        overwrite: use a work dir with checkpoints of an earlier training, which are moved into a
            folder in it. Without it this is an error, unless `resume`. The same is true of `out`.
        parts: "all": a pretrained FPN in the file is loaded too; "encoder": the encoder alone.

    Raises:
        SlotConError: detectron2 is not installed, the config or a file cannot be used, data are
            missing, or the backbone was not loaded completely.
    """
    if out:
        check_writable(out, "--out", inputs=[config, backbone], overwrite=overwrite or resume)
    try:
        from detectron2.engine import launch
    except ImportError as error:
        raise ConfigError(
            f"detectron2 cannot be imported ({error}). Its installation is described on "
            "https://detectron2.readthedocs.io/en/latest/tutorials/install.html. Without it, "
            "configs/det/mask_rcnn_r50_fpn_syncbn_1x_coco.py trains mmdet's Mask R-CNN."
        ) from None
    if backbone is not None:
        backbone = last_of_work_dir(backbone, announce)
    given = (config, list(options), backbone, num_gpus, resume, eval_only, work_dir, out)
    given += (parts,)
    from ..transfer import detectron2_route as route

    cfg = route.read_yaml(config, list(options), work_dir)
    with nullcontext() if eval_only else claim(cfg.OUTPUT_DIR):
        if not (resume or eval_only):
            sources = [backbone or cfg.MODEL.WEIGHTS]
            replaced = find_replaced(cfg.OUTPUT_DIR, overwrite=overwrite, sources=sources)
            move_aside(replaced, cfg.OUTPUT_DIR, announce)
        launch(_run, num_gpus, dist_url="auto", args=given)


def _run(config, options, backbone, num_gpus, resume, eval_only, work_dir, out, parts) -> None:
    """The work of each process."""
    from detectron2.checkpoint import DetectionCheckpointer
    from detectron2.engine import default_setup

    from ..transfer import detectron2_route as route

    cfg = route.read_yaml(config, options, work_dir)
    route.check_batch(cfg, num_gpus)
    route.register_data(cfg)
    if eval_only:
        route.check_trained(cfg.MODEL.WEIGHTS)
    else:
        source = route.use_backbone(cfg, backbone, parts)
    last = route.check_resume(cfg.OUTPUT_DIR) if resume else None
    cfg.freeze()
    default_setup(cfg, SimpleNamespace(config_file=str(config), eval_only=eval_only))
    if eval_only:
        model = route.Trainer.build_model(cfg)
        route.check_fits(model, cfg.MODEL.WEIGHTS)
        DetectionCheckpointer(model, save_dir=cfg.OUTPUT_DIR).load(cfg.MODEL.WEIGHTS)
        metrics = route.Trainer.test(cfg, model)
    else:
        trainer = route.Trainer(cfg)
        if last is not None:
            route.check_fits(trainer.model, last)
        trainer.resume_or_load(resume=resume)
        if trainer.start_iter == 0:
            depth = cfg.MODEL.RESNETS.DEPTH
            for line in route.check_backbone(trainer.model, source, depth, parts).splitlines():
                print(f"[slotcon] {line}", flush=True)
        metrics = trainer.train()
    if metrics and out:  # only the first process has metrics
        write_metrics(metrics, out)
