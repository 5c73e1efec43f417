"""Installation: version ranges here, the exact versions tested in constraints/pinned.txt.

MMEngine comes from `onedl-mmengine`, the maintained continuation of OpenMMLab's package. Both
install the import package `mmengine` and must never be installed side by side. In an environment
that holds the upstream packages (mmengine, mmcv, mmdet, mmsegmentation), keep them:
`pip install --no-deps -e .`
"""

import re
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).resolve().parent
INIT = (ROOT / "slotcon_plugin" / "version.py").read_text(encoding="utf-8")
README = ROOT / "README.md"

# mmcv must be compiled with its ops, against the torch that is installed: see tools/setup_env.py.
DET = ["onedl-mmcv>=2.3", "onedl-mmdetection>=3.5", "pycocotools>=2.0.7"]
SEG = ["onedl-mmcv>=2.3", "onedl-mmsegmentation>=1.4", "ftfy", "regex"]
DEMO = ["matplotlib>=3.7", "scikit-image>=0.22", "scikit-learn>=1.3", "scipy>=1.11", "tqdm"]
EXPORT = ["safetensors>=0.4"]
EVAL = ["scipy>=1.11", "tabulate>=0.9", "tqdm"]  # tools/evaluate.py
VISUALIZE = ["jinja2>=3.1", "matplotlib>=3.7", "scikit-learn>=1.3", "tqdm"]  # tools/visualize.py
FAST = ["simplejpeg>=1.7"]  # decodes JPEG straight into arrays; without it Pillow does
TIMM = ["timm>=1.0"]  # timm's encoders, and the check of an export to timm
HUB = ["huggingface_hub>=0.30", *EXPORT]  # tools/export.py --to hub
ONNX = ["onnx>=1.17", "onnxruntime>=1.20", "onnxscript>=0.3"]  # tools/export.py --to onnx
SOURCES = ["datasets>=3"]  # images of a Hugging Face data set
LOGGERS = ["mlflow-skinny>=2.19", "wandb>=0.19"]  # tools/train.py --logger
BASELINES = ["onedl-mmpretrain>=1.3.6"]  # DenseCL, MoCo v2, BYOL, SimSiam
NOTEBOOK = ["ipykernel>=6", "nbclient>=0.10", "nbformat>=5.9"]  # docs/tutorial.ipynb
DOCS = ["mkdocs-material>=9.5", "mkdocstrings[python]>=0.27"]  # make docs
TEST = ["pytest>=8", "pytest-xdist>=3.5", *DEMO, *EVAL, *EXPORT, *FAST, *VISUALIZE, *TIMM]
TEST += [*HUB, *ONNX, *SOURCES, *LOGGERS, *BASELINES, *NOTEBOOK, *DOCS]
# tools/benchmark.sh. Snakemake itself asks for Python 3.11.
BENCHMARK = [
    "jinja2>=3.1",
    "matplotlib>=3.7",
    "pandas>=2.1",
    "pydantic>=2.7",
    "pyyaml>=6",
    "snakemake>=9; python_version >= '3.11'",
    "snakemake-executor-plugin-slurm>=2; python_version >= '3.11'",
    "tabulate>=0.9",
]
LINT = ["import-linter>=2.3", "ruff"]
PACKAGING = ["build>=1.2", "check-manifest>=0.50", "twine>=6"]
DEV = [*TEST, *LINT, *BENCHMARK, *PACKAGING, "pre-commit", "ninja", "setuptools", "uv", "wheel"]

setup(
    name="slotcon_plugin",
    version=re.search(r'^__version__ = "(.+)"$', INIT, re.MULTILINE).group(1),
    description="SlotCon self-supervised pretraining for the OpenMMLab libraries",
    long_description=README.read_text(encoding="utf-8") if README.exists() else "",
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.10",
    packages=find_packages(include=["slotcon_plugin", "slotcon_plugin.*"]),
    package_data={"slotcon_plugin": ["*/web/*", "*/templates/*"]},
    install_requires=[
        "torch>=2.7",
        "torchvision>=0.22",
        "onedl-mmengine>=0.10.10",
        "opencv-python-headless>=4.8,<5",  # onedl-mmengine imports cv2 without asking for it
        "numpy>=1.26",
        "pillow>=10.1",
        "psutil>=5.9",
        "tensorboard>=2.14",
    ],
    extras_require={
        "benchmark": BENCHMARK,
        "det": DET,
        "seg": SEG,
        "demo": DEMO,
        "eval": EVAL,
        "export": EXPORT,
        "visualize": VISUALIZE,
        "fast": FAST,
        "timm": TIMM,
        "hub": HUB,
        "onnx": ONNX,
        "sources": SOURCES,
        "loggers": LOGGERS,
        "baselines": BASELINES,
        "docs": DOCS,
        "test": TEST,
        "lint": LINT,
        "dev": DEV,
        "all": sorted({*DET, *SEG, *DEV}),
    },
)
