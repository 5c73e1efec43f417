"""Installation: version ranges here, the exact versions tested in constraints/pinned.txt.

MMEngine has two distributions, which install the same import package `mmengine` and overwrite each
other: upstream's `mmengine`, and its maintained continuation `onedl-mmengine`. The same is true of
mmcv, mmdet, mmseg and mmpretrain. Therefore none is installed unless an extra `onedl…` names it;
all other extras fit both.
"""

import re
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).resolve().parent
VERSION = re.search(r'= "(.+)"', (ROOT / "slotcon_plugin" / "version.py").read_text("utf-8"))[1]
CITATION = (ROOT / "CITATION.cff").read_text("utf-8")
# The repository's address: the line `repository-code: URL` of CITATION.cff, if there is one
ADDRESS = (re.findall(r"^repository-code: *['\"]?([^\s'\"]+)", CITATION, re.MULTILINE) or [None])[0]

# mmcv must be compiled with its ops, against the torch that is installed: see tools/setup_env.py.
# It is written for OpenCV 4.
MMCV = ["onedl-mmcv>=2.3", "opencv-python-headless<5"]
ONEDL = ["onedl-mmengine>=0.10.10"]
DET = ["pycocotools>=2.0.7"]
SEG = ["ftfy", "regex"]
ONEDL_DET = [*ONEDL, *MMCV, "onedl-mmdetection>=3.5", *DET]
ONEDL_SEG = [*ONEDL, *MMCV, "onedl-mmsegmentation>=1.4", *SEG]
ONEDL_BASELINES = [*ONEDL, *MMCV, "onedl-mmpretrain>=1.3.6"]  # DenseCL, MoCo v2, BYOL, SimSiam
DEMO = ["matplotlib>=3.7", "scikit-image>=0.22", "scikit-learn>=1.3", "scipy>=1.11", "tqdm"]
EXPORT = ["safetensors>=0.4"]
EVAL = ["scipy>=1.11", "tabulate>=0.9", "tqdm"]  # slotcon evaluate
VISUALIZE = ["jinja2>=3.1", "matplotlib>=3.7", "scikit-learn>=1.3", "tqdm"]  # slotcon visualize
FAST = ["simplejpeg>=1.7"]  # decodes JPEG straight into arrays; without it Pillow does
TIMM = ["timm>=1.0.16"]  # timm's encoders, and the check of an export to timm
HUB = ["huggingface_hub>=0.34", *EXPORT, *TIMM]  # slotcon export --to hub
ONNX = ["onnx>=1.17", "onnxruntime>=1.20", "onnxscript>=0.3"]  # slotcon export --to onnx
SOURCES = ["datasets>=3"]  # images of a Hugging Face data set
LOGGERS = ["mlflow-skinny>=2.19", "wandb>=0.19"]  # slotcon train --logger
NOTEBOOK = ["ipykernel>=6", "nbclient>=0.10", "nbformat>=5.9"]  # docs/tutorial.ipynb
DOCS = ["mkdocs-material>=9.5", "mkdocstrings[python]>=0.27"]  # make docs
TEST = ["pytest>=8", "pytest-xdist>=3.5", *DEMO, *EVAL, *EXPORT, *FAST, *VISUALIZE, *TIMM]
TEST += [*HUB, *ONNX, *SOURCES, *LOGGERS, *NOTEBOOK, *DOCS]
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


def long_description() -> str:
    """README.md, whose links to files are absolute; without an address of the files, plain text."""
    readme, file = (ROOT / "README.md").read_text("utf-8"), r"\((?!https?:|#)([^)]+)\)"
    if ADDRESS is None:
        readme = re.sub(rf"!\[[^]]*]{file}\n*(\*.*?\*\n\n)?", "", readme, flags=re.DOTALL)
        return re.sub(rf"\[([^]]*)]{file}", r"\1", readme)
    readme = re.sub(rf"(!\[[^]]*]){file}", rf"\1({ADDRESS}/raw/HEAD/\2)", readme)
    return re.sub(rf"]{file}", rf"]({ADDRESS}/blob/HEAD/\1)", readme)


setup(
    name="slotcon_plugin",
    version=VERSION,
    description="SlotCon self-supervised pretraining for the OpenMMLab libraries",
    long_description=long_description(),
    long_description_content_type="text/markdown",
    author="The slotcon_plugin contributors",
    keywords=[
        "self-supervised learning",
        "object-centric representation",
        "dense prediction",
        "MMEngine",
    ],
    project_urls={"Paper": "https://arxiv.org/abs/2205.15288"}
    | ({"Source": ADDRESS, "Changelog": f"{ADDRESS}/blob/HEAD/CHANGELOG.md"} if ADDRESS else {}),
    classifiers=[
        "Development Status :: 4 - Beta",
        "Intended Audience :: Science/Research",
        "Operating System :: POSIX :: Linux",
        *(
            f"Programming Language :: Python :: 3{minor}"
            for minor in ("", ".10", ".11", ".12", ".13")
        ),
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
        "Topic :: Scientific/Engineering :: Image Recognition",
    ],
    license="Apache-2.0",
    python_requires=">=3.10",
    packages=find_packages(include=["slotcon_plugin", "slotcon_plugin.*"]),
    py_modules=["slotcon_tools"],
    entry_points={"console_scripts": ["slotcon = slotcon_tools:main"]},
    # .mim: links to what the repository has beside the package; the wheel and the sdist get files
    package_data={"slotcon_plugin": ["*/web/*", "*/templates/*", ".mim/*", ".mim/**/*"]},
    exclude_package_data={"slotcon_plugin": [".mim/tools/setup_env.py", "*.pyc"]},
    install_requires=[
        "torch>=2.7",
        "torchvision>=0.22",
        "opencv-python-headless>=4.8",  # onedl-mmengine imports cv2 without asking for it
        "numpy>=1.26",
        "pillow>=10.1",
        "psutil>=5.9",
        "tensorboard>=2.14",
    ],
    extras_require={
        "onedl": ONEDL,
        "onedl-det": ONEDL_DET,
        "onedl-seg": ONEDL_SEG,
        "onedl-baselines": ONEDL_BASELINES,
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
        "benchmark": BENCHMARK,
        "docs": DOCS,
        "test": TEST,
        "lint": LINT,
        "dev": DEV,
        "all": sorted({*ONEDL_DET, *ONEDL_SEG, *ONEDL_BASELINES, *DEV}),
    },
)
