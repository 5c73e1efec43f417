"""What a result depends on besides the code and the config: versions of packages, processor."""

import platform
import subprocess
from importlib import metadata
from pathlib import Path

import torch

from ..version import __version__

# Names of distributions. OpenMMLab's packages have two: its own, and OneDL's continuation.
PACKAGES = (
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
    "pillow",
    "simplejpeg",
    "snakemake",
)


def collect_versions(repository: Path | None = None) -> dict[str, str]:
    """The versions of Python, this package, torch and those of PACKAGES that are installed.

    Takes milliseconds: no package is imported and, unlike MMEngine's `collect_env`, no compiler is
    started.

    Args:
        repository: a folder in a git checkout, whose commit is added as `commit`.
    """
    found = {
        "slotcon_plugin": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,  # with the build, e.g. +cu130, which its metadata lack
    }
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    if repository is not None and (commit := _commit(repository)):
        found["commit"] = commit
    return {name: str(version) for name, version in found.items()}  # torch's is a class of its own


def _commit(repository: Path) -> str:
    """The checkout's commit, with `-dirty` after local changes; "" without git."""
    command = ["git", "-C", str(repository), "describe", "--always", "--dirty"]
    try:
        done = subprocess.run(command, capture_output=True, text=True)
    except OSError:
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def processor_name() -> str:
    """The CPU's model name."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
