"""What a job's result file says: figures, and everything about how they came about."""

import contextlib
import json
import platform
import subprocess
import sys
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path

from ..runtime.scalars import last_losses, peak_gpu_memory
from .job_clock import peak_of_children
from .jobs import Job
from .measures import read_measures

BORN = "born"  # the file with a name that a job's folder gets when it begins from nothing
PACKAGES = (
    "slotcon_plugin",
    "torch",
    "torchvision",
    "onedl-mmengine",
    "onedl-mmcv",
    "onedl-mmdetection",
    "onedl-mmsegmentation",
    "mmengine",
    "mmcv",
    "mmdet",
    "mmsegmentation",
    "detectron2",
    "numpy",
    "snakemake",
)


def describe(job: Job, root: Path, counted: dict, device: str) -> dict:
    """The content of a job's result file.

    Args:
        job: the job, all its steps complete.
        root: the repository's root folder.
        counted: of `Clock.content`.
        device: of `device_name`.
    """
    folder = Path(job.folder)
    metrics, measures = {}, {}
    if (folder / "figures.json").is_file():
        metrics = json.loads((folder / "figures.json").read_text(encoding="utf-8"))
        measures = read_measures(job.about["kind"], job.about["column"], metrics)
    return dict(
        job=job.name,
        born=(folder / BORN).read_text(encoding="utf-8"),
        rule=job.rule,
        digest=job.digest,
        about=job.about,
        seed=job.about.get("transfer_seed", job.about["seed"]),
        measures=measures,
        metrics=metrics,
        losses=last_losses(folder),
        deviations=job.deviations,
        length=job.length,
        unit=job.unit,
        seconds=round(counted["seconds"], 1),
        starts=counted["starts"],
        peak_memory_mib=round(max(counted["peak_mib"], peak_of_children())),
        images=read_images(folder, metrics),
        peak_gpu_memory_mib=peak_gpu_memory(folder),
        bytes=sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()),
        device=device,
        gpus=job.gpus,
        cores=job.cores,
        environment=job.environment,
        commands=[step.command for step in job.steps],
        versions=versions(root),
        finished=datetime.now(timezone.utc).isoformat(timespec="seconds"),
    )


def read_images(folder: Path, metrics: dict) -> dict[str, int]:
    """How many images a job's training and evaluation read, as far as they noted it."""
    scored = metrics.get("data")  # tools/evaluate.py's
    found = {"evaluated": scored["test"]["images"]} if isinstance(scored, dict) else {}
    for file in (folder / "images.json", folder / "test" / "images.json"):
        if file.is_file():
            found |= json.loads(file.read_text(encoding="utf-8"))
    return found


def versions(root: Path) -> dict[str, str]:
    """The versions of what a result depends on, without importing it; of a checkout its commit."""
    found = {"python": platform.python_version()}
    command = ["git", "-C", str(root), "describe", "--always", "--dirty"]
    with contextlib.suppress(OSError):
        told = subprocess.run(command, capture_output=True, text=True)
        if told.returncode == 0:
            found["commit"] = told.stdout.strip()
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    if "slotcon_plugin" not in found:  # used from its folder
        from ..version import __version__

        found["slotcon_plugin"] = __version__
    return found


def device_name(gpus: int, environment: dict[str, str]) -> str:
    """The name of the GPU that a job's environment shows, or the CPU's."""
    if gpus:
        ask = [sys.executable, "-c", "import torch; print(torch.cuda.get_device_name())"]
        told = subprocess.run(ask, env=environment, stdout=subprocess.PIPE, text=True)
        return f"{gpus} x {told.stdout.strip() or 'unknown GPU'}"
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if "model name" in line)
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
