"""Evaluation of detectors and segmentation networks that `apis.train` trained."""

from functools import partial
from pathlib import Path

from ..checkpoints.fill import check_state_dict
from ..checkpoints.left_out import LeftOut
from ..checkpoints.named_networks import last_of_work_dir
from ..runtime.config_options import read_config
from ..runtime.explain_errors import explained_errors
from ..runtime.fit_batch import fit_batch_norm
from ..runtime.fit_machine import fit_loggers, fit_to_processes, fit_workers
from ..runtime.launch import announce, leave_processes, process_number
from ..runtime.process_state import CheckedRunner, process_state_kept
from ..runtime.safe_loading import load_checkpoint_safely, safe_loader
from ..runtime.scalars import note_images, write_metrics
from ..runtime.work_dir import check_writable
from ..transfer.annotations import check_annotations
from ..transfer.data_layout import check_layout
from ..transfer.fit_transfer import keep_only_test
from ..transfer.own_data import follow_data, is_own
from ..transfer.resnet_facts import facts_of_checkpoint
from .own_images import choose_images
from .train import default_work_dir


def test(
    config: str | Path,
    checkpoint: str | Path,
    work_dir: str | Path | None = None,
    out: str | Path | None = None,
    allow_missing: list[str] | None = None,
    cfg_options: list[str] | None = None,
    launcher: str = "none",
    data: str | Path | None = None,
    overwrite: bool = False,
) -> dict[str, float]:
    """Evaluate a checkpoint on a config's test set, and print the metrics.

    Args:
        config: a config file with a test set, such as those in configs/det and configs/seg.
        checkpoint: exactly the weights of the config's model, but for `allow_missing`; or a work
            dir, of which the last good checkpoint is read.
        work_dir: folder of the log; None: the config's.
        out: a JSON file for the metrics; those that are not finite are null in it.
        allow_missing: as of `apis.train.train`.
        cfg_options: as of `apis.train.train`.
        launcher: as of `apis.train.train`.
        data: the folder of a config with `own_data`, as configs/seg/fcn_own.py; None: the config's.
        overwrite: replace `out` if it is there; otherwise this is an error.

    Returns:
        The metrics by the names that the log has.
    """
    if out and process_number(launcher) == 0:
        check_writable(out, "--out", inputs=[config, checkpoint], overwrite=overwrite)
    checkpoint = last_of_work_dir(checkpoint, partial(announce, launcher=launcher))
    weights = load_checkpoint_safely(checkpoint)
    cfg = read_config(config, cfg_options)
    choose_images(cfg, config, data)
    if is_own(cfg):
        for line in follow_data(cfg, known=facts_of_checkpoint(weights, checkpoint)):
            announce(line, launcher)
    cfg.work_dir = str(work_dir or cfg.get("work_dir") or default_work_dir(config))
    cfg.load_from, cfg.resume = str(checkpoint), False
    cfg.allow_missing = allow_missing or cfg.get("allow_missing") or []
    left_out = LeftOut(cfg.allow_missing)
    keep_only_test(cfg, str(config))
    check_layout(cfg)
    lines = [*fit_to_processes(cfg, launcher), *fit_batch_norm(cfg)]
    for line in (*lines, *fit_workers(cfg), *fit_loggers(cfg)):
        announce(line, launcher)
    known = {cfg.load_from: weights}
    with process_state_kept(), safe_loader(known=known), explained_errors(cfg):
        runner = CheckedRunner.from_cfg(cfg)
        check_state_dict(runner.model, weights, cfg.load_from, left_out)
        left_out.check_used()
        for line in left_out.lines():
            announce(line, launcher)
        for line in check_annotations(cfg, lambda name: getattr(runner, name).dataset):
            announce(line, launcher)
        runner.show_log()
        metrics = runner.test()
    if process_number(launcher) == 0:
        note_images(cfg.work_dir, evaluated=len(runner.test_dataloader.dataset))
        print("\n".join(f"{name}: {value:.4g}" for name, value in metrics.items()))
        if out:
            write_metrics(metrics, out)
    leave_processes()
    return metrics
