"""The plan of a training with measured times: hours, memory, disk and arithmetic."""

import copy
import gc
import os
import resource
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import torch
from mmengine.config import Config
from PIL import Image

from ..checkpoints.metadata import lookup
from ..datasets.sources import PRESETS
from ..runtime.amp import precision_of
from ..runtime.config_options import read_config
from ..runtime.config_rules import POSITIVE, check_value, whole
from ..runtime.device_peaks import peak_flops
from ..runtime.fit_machine import global_batch
from ..runtime.launch import cores_each
from ..runtime.scalars import write_metrics
from ..runtime.text_formats import describe_bytes, describe_duration
from ..runtime.work_dir import check_writable
from .first_step import FEW
from .step_times import WARM_UP, StepTimes, time_steps
from .train import train
from .training_plan import Rehearsed, rehearse_training, table

MADE_IMAGES, MADE_SIZE = 64, (640, 480)  # in place of images that are not there; pixels
FEWEST = WARM_UP + 2  # steps, if they take long
EVERY = 15  # seconds between two lines about the remaining time


def plan(
    config: str | Path,
    gpus: int | None = None,
    data: str | Path | Sequence[str | Path] | None = None,
    epochs: int | None = None,
    budget: str | None = None,
    steps: int = 10,
    max_minutes: float = 5,
    backbone: str | Path | None = None,
    amp: str | None = None,
    auto_scale_lr: bool | None = None,
    compile: bool = False,
    cfg_options: list[str] | None = None,
    out: str | Path | None = None,
    overwrite: bool = False,
) -> dict:
    """Time steps of a training on this machine and print what the whole training takes.

    It is a dry run and `step_times.time_steps`, in one process: one GPU or the CPU. Nothing is
    written but `out`. Images of a preset that are not there are replaced by made ones, which is
    printed. If a batch does not fit, or all steps would take longer than `max_minutes`, smaller
    batches are timed. Ctrl-C ends the timing and gives the plan from the steps that were timed.

    Args:
        gpus: processes of the training that is planned, one for each GPU, with the config's batch
            in each of them; of a config with `total_batch_size` it is divided among them. None: 1.
        steps: number of timed steps, of which the median and the spread are printed.
        max_minutes: the time for these steps, with those that are not timed before them.
        out: also write the numbers, as JSON.
        overwrite: replace `out` if it is there; otherwise this is an error.

    For the other arguments see `train`. Returns the numbers: seconds, images, bytes and FLOPs; None
    for what cannot be known.
    """
    for name, value in (("--gpus", 1 if gpus is None else gpus), ("--steps", steps)):
        check_value(name, value, whole(1))
    check_value("--max-minutes", max_minutes, POSITIVE)
    if out is not None:
        check_writable(out, "--out", inputs=[config, backbone], overwrite=overwrite)
    with ExitStack() as at_end:
        if data is None:
            data, more = _made_images(read_config(config, cfg_options), at_end)
            cfg_options = [*(cfg_options or []), *more]
        measured = _Measured(gpus or 1, steps, 60 * max_minutes)
        options = dict(data=data, epochs=epochs, backbone=backbone, amp=amp, compile=compile)
        options |= dict(budget=budget, auto_scale_lr=auto_scale_lr, cfg_options=cfg_options)
        train(config, overwrite=True, dry_run=measured, **options)  # nothing is replaced
    if out is not None:
        write_metrics(measured.numbers, out)
    return measured.numbers


class _Measured:
    """What `train` calls in place of `rehearse`; `numbers` are those of `plan`."""

    def __init__(self, processes: int, steps: int, max_seconds: float) -> None:
        self.processes, self.steps, self.max_seconds = processes, steps, max_seconds
        self.numbers: dict = {}

    def __call__(self, cfg: Config, processes: int, start: dict | None, step: bool) -> str:
        found = rehearse_training(cfg, processes, start)
        rows, cost = found.rows, found.cost
        del rows["resume"]
        print(f"{table(rows)}\n", flush=True)
        batch = cfg.train_dataloader.batch_size
        timed = self._timed_batch(cfg, found)
        trial = copy.deepcopy(cfg)
        trial.train_dataloader.batch_size = timed
        gc.collect()  # the Runner of the first step, which refers to itself
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
        times = self._time(trial, start)
        one = times.images_per_second  # of one process
        seen = -(-found.iterations // cfg.optim_wrapper.get("accumulative_counts", 1))
        seen *= global_batch(cfg, processes)
        seconds = seen / one
        device = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"
        precision = precision_of(cfg.optim_wrapper)
        peak = peak_flops(device, precision)
        mfu = found.flops * one / peak if found.flops and peak else None
        self.numbers = dict(
            device=device,
            processes=processes,
            seconds_alone=seconds,
            seconds=seconds / processes,
            images_seen=seen,
            images_per_second=one,
            data_wait=times.data_wait,
            step_seconds=times.step * batch / timed,
            spread=times.spread,
            timed_steps=len(times.seconds),
            timed_batch_size=timed,
            batch_size=batch,
            memory_estimated=cost and cost.memory,
            memory_measured=_peak_memory(),
            flops_per_image=found.flops,
            mfu=mfu,
        )
        return table(self._rows(times, batch, precision, peak))

    def _timed_batch(self, cfg: Config, found: Rehearsed) -> int:
        """The configured batch size, or a smaller one that fits and of which FEWEST steps can be
        taken in the given time."""
        batch = cfg.train_dataloader.batch_size
        accumulated = cfg.optim_wrapper.get("accumulative_counts", 1)
        step = found.seconds / max(found.images, 1) * accumulated  # of one image
        affordable = int(self.max_seconds / max(step * FEWEST, 1e-9))
        fits = found.cost.largest_batch if found.cost and not found.cost.fits else batch
        return min(max(min(affordable, fits), FEW), batch)

    def _time(self, cfg: Config, start: dict | None) -> StepTimes:
        """The times of steps; after Ctrl-C those so far, if there are any."""
        began = said = time.monotonic()
        latest, taken = None, 0

        def watch(times: StepTimes, left: int) -> None:
            nonlocal latest, taken, said
            latest, taken, now = times, taken + 1, time.monotonic()
            if now - said > EVERY and left:
                rest = min(left * (now - began) / taken, self.max_seconds - (now - began))
                print(f"{left} steps to time, about {describe_duration(max(rest, 0))}", flush=True)
                said = now

        print("timing steps; Ctrl-C gives the plan from those timed so far", flush=True)
        try:
            return time_steps(cfg, start, self.steps, self.max_seconds, watch)
        except KeyboardInterrupt:
            if latest is None or not latest.seconds:
                raise
            return latest

    def _rows(self, times: StepTimes, batch: int, precision: str, peak: float | None) -> dict:
        found, cpu = self.numbers, self.numbers["device"] == "CPU"
        timed, count = found["timed_batch_size"], found["timed_steps"]
        fewer = f" (not {self.steps}: --max-minutes)" * (count < self.steps)
        spread = ", ± not known from one step"
        if times.spread is not None:
            spread = f", ± {times.spread:.0%} (half the distance between the quartiles)"
        this = "this CPU" if cpu else f"this {found['device']}"
        rows = {
            "timed": f"{count} step{'s' * (count > 1)}{fewer} of {times.images} images on {this}: "
            f"{times.step:.3g} s each{spread}"
        }
        if timed < batch:
            rows["scaled"] = (
                f"{timed} instead of {batch} images in a batch, which would take too long or not "
                "fit; hours assume that a step's time grows with its images (--max-minutes)"
            )
        load, cores = os.getloadavg()[0], cores_each()
        if load > 1.5 * cores:
            rows["busy"] = f"load {load:.0f} on {cores} cores: other work makes these times longer"
        alone = describe_duration(found["seconds_alone"])
        rows["images/s"] = f"{found['images_per_second']:.3g}, of one process"
        rows["data"] = f"{found['data_wait']:.0%} of the time is spent waiting for images"
        rows["time"] = f"{alone} with {this} alone, without evaluations and checkpoints"
        if found["processes"] > 1:
            each, many = describe_duration(found["seconds"]), found["processes"]
            rows["time"] += f"; {each} with {many} such {'machines' if cpu else 'GPUs'}: "
            rows["time"] += f"{many} times as fast, communication not measured, {batch} images each"
        kind = "resident memory of this process" if cpu else "of the GPU allocated"
        rows["peak memory"] = f"{describe_bytes(found['memory_measured'])} {kind}"
        rows["peak memory"] += f", measured with {timed} images in a batch" * (timed < batch)
        if found["flops_per_image"]:
            each = found["flops_per_image"]
            rows["arithmetic"] = f"{each / 1e9:,.3g} GFLOP an image, {each * batch / 1e12:,.3g} "
            rows["arithmetic"] += "TFLOP a step of one process"
        if found["mfu"] is not None:
            rows["MFU"] = f"{found['mfu']:.1%} of {peak / 1e12:g} TFLOP/s ({precision}, dense)"
        elif not cpu:
            why = "its peak is not in runtime/device_peaks.py" if peak is None else "see arithmetic"
            rows["MFU"] = f"not known: {why}"
        if cpu:
            rows["of a GPU"] = (
                "hours, images/s, waiting, peak memory and MFU cannot be known from a CPU: run "
                "this there. Length, disk and arithmetic are the same on a GPU, and the estimated "
                f"memory in {precision}, to which its libraries add their own"
            )
        return rows


def _peak_memory() -> int:
    """Bytes that this process had at most: of the GPU, or without one resident in memory."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024  # Linux counts KiB


def _made_images(cfg: Config, at_end: ExitStack) -> tuple[Path | None, list[str]]:
    """A folder of noise images in place of a preset's that are not there, and the --cfg-options
    that make epochs of them as long; or None and no options."""
    loader = cfg.get("train_dataloader") or {}
    source, preset = (lookup(loader, f"dataset.{name}") for name in ("source", "preset"))
    if preset not in PRESETS or not isinstance(source, str) or Path(source).expanduser().exists():
        return None, []
    folder = Path(at_end.enter_context(tempfile.TemporaryDirectory(prefix="slotcon_images_")))
    count, made = PRESETS[preset][1], max(MADE_IMAGES, loader.get("batch_size", 1))
    random, (width, height) = np.random.default_rng(0), MADE_SIZE
    blocks = np.ones((16, 16, 1), np.uint8)
    for number in range(made):
        pixels = np.kron(random.integers(0, 156, (height // 16, width // 16, 3), np.uint8), blocks)
        pixels += random.integers(0, 100, pixels.shape, np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.jpg", quality=90)
    print(
        f"{source} is not there: {made} made images of {width} x {height} pixels stand for the "
        f"{count:,} of {preset}",
        flush=True,
    )
    return folder, [f"+train_dataloader.sampler.rounds={max(round(count / made), 1)}"]
