"""What must be installed, looked at before it is imported."""

import os
import re
import sys
import warnings
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

NEEDED = ("torch", "torchvision", "mmengine", "cv2", "numpy", "PIL", "psutil", "tensorboard")
# Distributions that install the same import package over each other.
RIVALS = {
    "mmengine": ("onedl-mmengine", "mmengine", "mmengine-lite"),
    "mmcv": ("onedl-mmcv", "mmcv", "mmcv-lite", "mmcv-full"),
    "mmdet": ("onedl-mmdetection", "mmdet"),
    "mmseg": ("onedl-mmsegmentation", "mmsegmentation"),
    "mmpretrain": ("onedl-mmpretrain", "mmpretrain"),
}
# Import names of libraries that extras install under another name.
DISTRIBUTIONS = {"sklearn": "scikit-learn", "skimage": "scikit-image", "yaml": "pyyaml"}
DISTRIBUTIONS |= {"mlflow": "mlflow-skinny"} | {name: names[0] for name, names in RIVALS.items()}
FOR_DEVELOPERS = {"all", "dev", "docs", "lint", "test"}
ROOT = Path(__file__).resolve().parents[1]  # of a clone


def check_installation() -> None:
    """Raise a ModuleNotFoundError if something is missing; warn of rival distributions.

    The distribution of MMEngine is the user's choice, so that none is installed over another.
    """
    if missing := [name for name in NEEDED if find_spec(name) is None]:
        raise ModuleNotFoundError(
            f"slotcon_plugin cannot be used with {sys.executable}, which has no "
            f"{', '.join(missing)}. {_advice(missing)}",
            name=missing[0],
        )
    if os.environ.get("LOCAL_RANK", "0") != "0":
        return
    for package, names in RIVALS.items():
        found = [f"{name} {version}" for name in names if (version := _version(name))]
        if len(found) > 1:
            both = " ".join(name.partition(" ")[0] for name in found)
            warnings.warn(
                f"{' and '.join(found)} are installed: they overwrite each other's files of "
                f"`{package}`. Keep one: pip uninstall {both}, then install the one that you want.",
                stacklevel=3,
            )


def _advice(missing: list[str]) -> str:
    venv = ROOT / ".venv"
    if (venv / "bin" / "python").exists() and Path(sys.prefix) != venv:
        return f"Run `source {venv}/bin/activate`, or start with {venv}/bin/python."
    if (ROOT / "Makefile").exists():
        return "Run `make setup`, which installs everything into .venv."
    if missing == ["mmengine"]:
        return (
            "Install one of its two distributions: the maintained one by pip install "
            "'slotcon_plugin[onedl]', or upstream's by pip install mmengine."
        )
    return "Run pip install 'slotcon_plugin[onedl]'."


def extras_of(module: str) -> list[str]:
    """The extras of this package that install a library, by the name that is imported."""
    wanted = re.compile(rf"{re.escape(DISTRIBUTIONS.get(module, module))}(?![\w.-])", re.IGNORECASE)
    try:
        asked = [one for one in metadata.requires("slotcon_plugin") or () if wanted.match(one)]
    except metadata.PackageNotFoundError:  # a clone that is not installed
        return []
    found = [extra for one in asked for extra in re.findall(r"""extra == ['"]([\w-]+)""", one)]
    return [extra for extra in dict.fromkeys(found) if extra not in FOR_DEVELOPERS]


def where_from(error: ImportError) -> str:
    """The extra that installs what could not be imported, as a sentence; "" if there is none."""
    if not (extras := extras_of(str(error.name).split(".")[0])):
        return ""
    also = f", also with [{'], ['.join(extras[1:])}]" * (len(extras) > 1)
    return f"It comes with pip install 'slotcon_plugin[{extras[0]}]'{also}."


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
