"""SlotCon's training loop beside those of other methods, as mmpretrain ships them."""

import gc
import time
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch
from mmengine.config import Config
from mmengine.registry import DATASETS, DefaultScope

from benchmarks.measuring import Timed, race
from benchmarks.processes import CONFIGS
from benchmarks.speed_data import SIZES, worker_pair, write_jpegs
from benchmarks.speed_loop import BlockClock, Loop, loop_config, one_epoch, run_ours
from benchmarks.speed_report import timed_row
from benchmarks.speed_settings import Report, Rows, Settings
from slotcon_plugin.datasets.transforms import TwoViews
from slotcon_plugin.runtime.config_options import read_config
from slotcon_plugin.runtime.fit_machine import has_bfloat16_instructions


class Method(NamedTuple):
    """Where its configs are, and the encoder's passes for an image in a step, each of one view."""

    shipped: str  # in mmpretrain's folder of configs
    baseline: str  # in configs/pretrain/baselines, without the size
    forward: int
    backward: int


SLOTCON, FASTEST = "SlotCon", "SlotCon, bfloat16"
PASSES = Method("", "", 4, 2)  # SlotCon's
METHODS = {
    "DenseCL": Method("densecl/densecl_resnet50_8xb32-coslr-200e_in1k.py", "densecl", 2, 1),
    "MoCo v2": Method("mocov2/mocov2_resnet50_8xb32-coslr-200e_in1k.py", "mocov2", 2, 1),
    "BYOL": Method("byol/byol_resnet50_16xb256-coslr-200e_in1k.py", "byol", 4, 2),
}


def shipped_config(
    method: Method, folder: Path, batch: int, steps: int, workers: int, size: int, model: str
) -> Config:
    """mmpretrain's config: its dataset, pipeline, preprocessor, optimizer and hooks.

    The networks are those of `model`, "r50_coco" or "r18_small", in configs/pretrain/baselines, so
    that the encoder is SlotCon's. Beside them only the images and sizes are changed.

    Args:
        folder: of the images, which are repeated for `steps` of `batch` images.
        workers: of the loader.
        size: of the views, in pixels.
    """
    import mmpretrain

    cfg = Config.fromfile(Path(mmpretrain.__file__).parent / ".mim" / "configs" / method.shipped)
    cfg.model = read_config(CONFIGS / "baselines" / f"{method.baseline}_{model}.py").model
    del cfg.model.data_preprocessor  # the runner takes mmpretrain's
    one_epoch(cfg, batch, workers)
    dataset = cfg.train_dataloader.dataset
    (views,) = [step for step in dataset.pipeline if step.type == "MultiView"]
    for crop in (step for view in views.transforms for step in view):
        if crop.type == "RandomResizedCrop":
            crop.scale = size
    images = dict(type="CustomDataset", data_root=str(folder), with_label=False)
    rounds = -(-batch * steps // len(list(folder.iterdir())))
    cfg.train_dataloader.dataset = dict(
        type="RepeatDataset", times=rounds, dataset={**images, "pipeline": dataset.pipeline}
    )
    return cfg


def method_rows(settings: Settings, folder: Path, report: Report) -> Rows:
    """Views in a worker, then the loops with their data loaders, in alternation.

    Ours is SlotCon with channels last, as slotcon_r18_own. All compute in float32, on a GPU in
    bfloat16; the last row is SlotCon in bfloat16, on a GPU compiled, beside SlotCon as above, if
    the device computes in bfloat16.
    """
    on_gpu, batch = settings.device == "cuda", settings.loop_batch
    recipe = on_gpu and not settings.quick
    model, size = ("r50_coco", 224) if recipe else ("r18_small", 64 if settings.quick else 128)
    steps, warm_up = settings.loop_steps(settings.plain_blocks)
    folder = folder / "methods"
    copies = 1 if settings.quick else 16
    paths = write_jpegs(folder, *SIZES[0], copies)
    photographs = range(0, len(paths), copies)

    def ours(fastest: bool) -> Config:
        arguments = paths, settings.device, batch, steps, settings.workers, settings.quick
        cfg = loop_config(*arguments, compiled=settings.compiled)
        cfg.model.channels_last = True
        cfg.model.compile &= fastest
        return cfg

    sizes = folder, batch, steps, settings.workers, size, model
    configs = {name: partial(shipped_config, one, *sizes) for name, one in METHODS.items()}
    for names in (("MoCo v2", "DenseCL"), ("BYOL",)):  # of one pipeline
        title = f"two views of {size} pixels in a worker: {', '.join(names)}"
        report(f"methods: {title}")
        views = TwoViews(size=size), configs[names[0]]().train_dataloader.dataset
        times = _race_of_workers(paths, photographs, *views, settings.rounds)
        yield timed_row("methods", title, times, None, len(photographs), "images/s/core")
    configs[SLOTCON] = partial(ours, False)
    if on_gpu or has_bfloat16_instructions():
        configs[FASTEST] = partial(ours, True)
    unit = "images/s" if on_gpu else "images/s/core"  # other work disturbs CPU time less
    seconds = {name: [] for name in configs}  # for an image
    for number in range(min(settings.rounds // 2, 2 if on_gpu else 3) or 1):
        for name in configs if number % 2 else reversed(configs):
            precision = "bf16" if on_gpu or name == FASTEST else "off"
            loop = _loop(configs[name](), f"{name} {number}", precision, settings, warm_up)
            speed = loop.speed if on_gpu else loop.speed_a_core
            report(f"methods: {name}, {speed:.1f} {unit}, {loop.wait:.1%} of the time waiting")
            seconds[name].append(1 / speed)
    loops = f"loop of {batch}, {'R50' if recipe else 'R18'}, {size} pixels"
    passes = f"{PASSES.forward} forward, {PASSES.backward} backward"
    for name, method in METHODS.items():
        title = f"{loops}: {name}, {method.forward} forward, {method.backward} backward ({passes})"
        times = Timed(seconds[SLOTCON], seconds[name])
        yield timed_row("methods", title, times, images=1, unit=unit)
    if FASTEST in seconds:
        times = Timed(seconds[FASTEST], seconds[SLOTCON])
        yield timed_row("methods", f"{loops}: {FASTEST}", times, images=1, unit=unit)


def _race_of_workers(paths, chosen, draws: TwoViews, config: dict, rounds: int) -> Timed:
    """Our views of the chosen images, and those of mmpretrain's dataset."""
    with DefaultScope.overwrite_default_scope("mmpretrain"):
        dataset = DATASETS.build(config)
    ours, _ = worker_pair([paths[i] for i in chosen], draws)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as in a worker
    times = race(ours, lambda: [dataset[i] for i in chosen], rounds, clock=time.process_time)
    torch.set_num_threads(threads)
    return times


def _loop(cfg: Config, name: str, precision: str, settings: Settings, warm_up: int) -> Loop:
    gc.collect()
    torch.cuda.empty_cache()
    cfg.experiment_name = name  # runners of one name would share their logs
    clock = BlockClock(settings.device, settings.block)
    run_ours(cfg, clock, precision)
    return clock.summary(settings.loop_batch, warm_up, settings.plain_blocks)
