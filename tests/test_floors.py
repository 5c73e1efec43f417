"""The floors of the house: who may import whom. See CONTRIBUTING.md for what each floor holds."""

import ast
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = "slotcon_plugin"
LONGEST = 300  # lines of a file; around 200 is a good moment to look again

# The first pattern that fits decides. The __init__.py of a package is named like the package.
FLOORS = [
    ("errors", 0),
    ("functional", 0),
    ("functional.*", 0),
    ("models.backbones", 1),
    ("models.mlp", 1),
    ("models.prototypes", 1),
    ("models.losses", 1),
    ("models.teacher", 1),
    ("models.head", 2),
    ("models.slotcon", 2),
    ("models", 2),
    ("optim.lars", 1),
    ("optim.schedulers", 2),
    ("optim", 2),
    ("data.preprocessor", 2),
    ("data.*", 1),
    ("data", 2),
    ("weights.rules", 0),
    ("weights.tables", 0),
    ("weights.literals", 0),
    ("weights.digest", 0),
    ("weights.architecture", 1),
    ("weights.momentum", 1),
    ("weights.*", 2),
    ("weights", 2),
    ("engine", 2),
    ("engine.*", 2),
    ("registry", 2),
    ("transfer", 2),
    ("transfer.detectron2_route", 3),
    ("transfer.*", 2),
    ("evaluation.batches", 2),  # these four run during pretraining too, in a hook
    ("evaluation.memory", 2),
    ("evaluation.retrieval", 2),
    ("evaluation.segmentation", 2),
    ("evaluation", 3),
    ("evaluation.*", 3),
    ("progress", 3),
    ("benchmark", 3),
    ("benchmark.*", 3),
    ("pictures.painting", 0),
    ("chain", 3),
    ("chain.*", 3),
    ("pictures", 3),
    ("pictures.*", 3),
    ("", 2),  # the package itself: it registers its parts
]
# Libraries that a floor may import, besides those of the floors under it and Python's own.
LIBRARIES = {
    0: {"torch", "numpy", "scipy"},
    1: {"torchvision", "PIL", "simplejpeg"},
    2: {"mmengine", "safetensors"},
    3: {
        "mmcv",
        "mmdet",
        "mmseg",
        "detectron2",
        "cv2",
        "faiss",
        "matplotlib",
        "pycocotools",
        "sklearn",
        "tqdm",
        "yaml",
    },
}


def name_of(path):
    """`functional.losses` for slotcon_plugin/functional/losses.py; the package's own name is ''."""
    parts = path.relative_to(ROOT / PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


SOURCES = {name_of(path): path for path in sorted((ROOT / PACKAGE).rglob("*.py"))}


def floor_of(module):
    for pattern, floor in FLOORS:
        below = pattern.removesuffix("*")
        if module == pattern or (pattern.endswith(".*") and module.startswith(below)):
            return floor
    return None


def imports_of(source, module, is_package, modules):
    """(line, imported name) of every import, also inside functions; relative names made absolute.

    `from . import losses` is an import of the module `losses` if there is one, else of the package.
    """
    here = [PACKAGE, *module.split(".")] if module else [PACKAGE]
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            base = here[: len(here) - node.level + is_package] if node.level else []
            target = ".".join([*base, *filter(None, [node.module])])
            for alias in node.names:
                inside = f"{target}.{alias.name}".removeprefix(f"{PACKAGE}.")
                is_module = target.split(".")[0] == PACKAGE and inside in modules
                yield node.lineno, f"{PACKAGE}.{inside}" if is_module else target


def breaches(source, module, is_package=False, modules=frozenset(SOURCES)):
    """What is wrong with a module's imports, each in words."""
    floor = floor_of(module)
    allowed = set().union(*(LIBRARIES[below] for below in range(floor + 1)))
    for line, name in imports_of(source, module, is_package, modules):
        top = name.split(".")[0]
        if top == PACKAGE:
            other = name.removeprefix(PACKAGE).removeprefix(".")
            above = floor_of(other)
            if above is not None and above > floor:
                yield (
                    f"line {line}: imports {name} of floor {above}, but is on floor {floor}: calls "
                    "go down. Pass the value in, or move the code to the floor where it belongs."
                )
        elif top not in allowed and top not in sys.stdlib_module_names:
            yield (
                f"line {line}: imports {top}; floor {floor} may import only "
                f"{', '.join(sorted(allowed))} and Python's own. Move the code up, or pass its "
                "result in."
            )


@pytest.mark.parametrize("module", SOURCES)
def test_module_keeps_to_its_floor(module):
    path = SOURCES[module]
    assert floor_of(module) is not None, (
        f"{path.relative_to(ROOT)} is on no floor: add a line ({module!r}, floor) to FLOORS in "
        "tests/test_floors.py. 0: pure tensor functions; 1: parts with state, data, optimiser; "
        "2: glue to MMEngine; 3: uses with mmdet, mmseg, detectron2."
    )
    found = list(breaches(path.read_text(encoding="utf-8"), module, path.name == "__init__.py"))
    assert not found, f"{path.relative_to(ROOT)}\n  " + "\n  ".join(found)


def test_every_line_of_the_table_is_used():
    for pattern, _ in FLOORS:
        below = pattern.removesuffix("*")
        fits = [
            name
            for name in SOURCES
            if name == pattern or (".*" in pattern and name.startswith(below))
        ]
        assert fits, f"no module fits {pattern!r} any more: remove it from FLOORS"


def test_nobody_imports_the_doors():
    """tools/ and configs/ are doors: they import, and are run, but nobody imports them."""
    for path in [
        *SOURCES.values(),
        *(ROOT / "tools").glob("*.py"),
        *(ROOT / "tests").rglob("*.py"),
    ]:
        for line, name in imports_of(path.read_text(encoding="utf-8"), "", True, SOURCES):
            assert name.split(".")[0] not in ("tools", "configs"), (
                f"{path.relative_to(ROOT)}:{line} imports {name}: move what it needs from there "
                f"into {PACKAGE}/, or run the tool as a process"
            )


def test_files_stay_small():
    for path in [
        *SOURCES.values(),
        *(ROOT / "tools").glob("*.py"),
        *(ROOT / "configs").rglob("*.py"),
    ]:
        lines = len(path.read_text(encoding="utf-8").splitlines())
        assert lines <= LONGEST, (
            f"{path.relative_to(ROOT)} has {lines} lines, more than {LONGEST}: divide it by what "
            "its parts do"
        )
        assert path.stem not in ("utils", "util", "helpers", "misc"), (
            f"{path.relative_to(ROOT)}: a helper lives beside its user, under a name that says "
            "what it does"
        )


@pytest.mark.parametrize(
    ("module", "source", "part"),
    [
        ("functional.grouping", "import torchvision", "imports torchvision; floor 0"),
        ("functional.grouping", "def f():\n    from mmengine import Config", "line 2"),
        ("functional.grouping", "from ..models.losses import SlotLoss", "floor 1"),
        ("functional.grouping", "from .. import registry", "of floor 2"),
        ("models.losses", "from . import head", "of floor 2"),
        ("models.losses", "from slotcon_plugin.models.head import PrototypeHead", "of floor 2"),
        ("models.head", "import mmcv.ops", "imports mmcv"),
    ],
)
def test_a_breach_is_seen(module, source, part):
    modules = {"functional.grouping", "models", "models.losses", "models.head", "registry", ""}
    (found,) = breaches(source, module, modules=modules)
    assert part in found


def test_what_is_allowed_is_not_a_breach():
    source = "import os, torch\nfrom PIL import Image\nfrom ..functional import losses\n"
    assert not list(breaches(source, "models.losses"))
