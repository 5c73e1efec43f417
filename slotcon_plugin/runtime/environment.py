"""What a result depends on besides the code and the config: versions of packages, processor."""

import platform
import re
import subprocess
from contextlib import suppress
from importlib import metadata
from pathlib import Path

import torch

from ..version import __version__

# Names of distributions. OpenMMLab's packages have two: its own, and OneDL's continuation.
PACKAGES = (
    *("torchvision", "onedl-mmengine", "onedl-mmcv", "onedl-mmdetection", "onedl-mmsegmentation"),
    *("mmengine", "mmcv", "mmdet", "mmsegmentation", "detectron2"),
    *("onedl-mmpretrain", "mmpretrain", "numpy", "pillow", "simplejpeg", "snakemake", "timm"),
)


def collect_versions(repository: Path | None = None) -> dict[str, str]:
    """The versions of Python, this package, torch and those of PACKAGES that are installed.

    Takes milliseconds: no package is imported and, unlike MMEngine's `collect_env`, no compiler is
    started. If `repository` is in a git checkout, its commit is added as `commit`, with `-dirty`
    after local changes.
    """
    found = {
        "slotcon_plugin": __version__,
        "python": platform.python_version(),
        # With the build, e.g. +cu130, which its metadata lack; of a subclass of str.
        "torch": str(torch.__version__),
    }
    for name in PACKAGES:
        with suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    if repository is not None:
        command = ["git", "-C", str(repository), "describe", "--always", "--dirty"]
        with suppress(OSError, subprocess.CalledProcessError):  # no git, or not a checkout
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            found["commit"] = done.stdout.strip()
    return found


def processor_name() -> str:
    """The CPU's model name."""
    with suppress(OSError):  # only Linux has the file
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
        if found := re.search(r"^model name\s*:(.+)", text, re.MULTILINE):
            return found[1].strip()
    return platform.processor() or platform.machine()
