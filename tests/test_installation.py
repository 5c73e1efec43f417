"""The wheel and the sdist are complete, and the wheel trains without the clone."""

import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from email import message_from_bytes
from pathlib import Path

import pytest
from PIL import Image

from benchmarks.processes import ROOT
from slotcon_plugin.installation import check_installation, extras_of
from slotcon_plugin.runtime.explain_errors import describe

NOT_COPIED = (".*", "work_dirs", "build", "dist", "data", "*.egg-info", "__pycache__")
OWN = """
_base_ = "slotcon_plugin::pretrain/slotcon_r18_demo.py"
train_dataloader = dict(batch_size=4, num_workers=0, dataset=dict(source="images"))
train_cfg = dict(max_epochs=1)
param_scheduler = dict(warmup=0)
"""
WITHOUT_TORCH = """
import sys
import slotcon_tools
try:
    slotcon_tools.main()
finally:
    assert "torch" not in sys.modules and "slotcon_plugin" not in sys.modules
"""
WITHOUT_MMENGINE = """
import sys
from importlib.machinery import PathFinder
find = PathFinder.find_spec
PathFinder.find_spec = lambda name, *rest: None if name == "mmengine" else find(name, *rest)
import slotcon_plugin
"""


def run(*words, cwd, status=0, **settings):
    """A program's output, without the clone on Python's path."""
    environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "VIRTUAL_ENV")}
    environment |= {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1", **settings}
    words = [str(word) for word in words]
    both = dict(stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    done = subprocess.run(words, cwd=cwd, env=environment, timeout=300, **both)
    assert done.returncode == status, done.stdout
    return done.stdout


@pytest.fixture(scope="module")
def dist(tmp_path_factory):
    """A folder with the sdist, and the wheel that was built from it."""
    pytest.importorskip("build", reason="needs slotcon_plugin[dev]")
    folder = tmp_path_factory.mktemp("installation")
    ignore = shutil.ignore_patterns(*NOT_COPIED)

    def ignored(path, names):
        return ignore(path, names) - {".mim", ".gitignore", ".pre-commit-config.yaml"}

    shutil.copytree(ROOT, folder / "source", symlinks=True, ignore=ignored)
    command = (sys.executable, "-m", "build", "--no-isolation", "-o", folder / "dist")
    run(*command, folder / "source", cwd=folder)
    return folder / "dist"


@pytest.fixture(scope="module")
def installed(dist, tmp_path_factory):
    """The Python of an environment with the wheel; the libraries are this environment's."""
    folder = tmp_path_factory.mktemp("environment")
    run(sys.executable, "-m", "venv", "--without-pip", folder, cwd=folder)
    python = folder / "bin" / "python"
    (wheel,) = dist.glob("*.whl")
    pip = (sys.executable, "-m", "pip", "--python", python, "install", "--no-deps", "--no-index")
    run(*pip, wheel, cwd=folder)
    (site,) = folder.glob("lib/python*/site-packages")
    (libraries,) = Path(sys.prefix).glob("lib/python*/site-packages")
    (site / "libraries.pth").write_text(str(libraries))  # of which no .pth is read: no clone
    return python


def test_the_wheel_has_configs_and_tools(dist):
    (wheel,) = dist.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        metadata = message_from_bytes(archive.read(next(n for n in names if "METADATA" in n)))
    here = {
        str(p.relative_to(ROOT))
        for n in ("configs", "tools", "zoo")
        for p in (ROOT / n).rglob("*.*")
    }
    here = {name for name in here if not name.endswith((".pyc", "setup_env.py"))}
    prefix = "slotcon_plugin/.mim/"
    assert {n.removeprefix(prefix) for n in names if n.startswith(prefix)} == (
        here | {"model-index.yml"}
    )
    assert {name.partition("/")[0].partition("-")[0] for name in names} == {
        "slotcon_plugin",
        "slotcon_tools.py",
    }
    needed = [one for one in metadata.get_all("Requires-Dist") if "extra ==" not in one]
    assert not [one for one in needed if "mm" in one]  # MMEngine is the user's choice
    links = re.findall(r"\]\(([^)]+)\)", metadata.get_payload())
    assert links and all(link.startswith(("https://", "#")) for link in links)


def test_the_sdist_is_complete(dist):
    (sdist,) = dist.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        found = {member.name.partition("/")[2] for member in archive if member.isfile()}
    assert {"Makefile", "constraints/pinned.txt", "tests/test_lars.py"} <= found
    pytest.importorskip("twine")
    run(sys.executable, "-m", "twine", "check", "--strict", *dist.iterdir(), cwd=dist)
    pytest.importorskip("check_manifest")
    if not shutil.which("git"):
        pytest.skip("check-manifest compares with git")
    source = dist.parent / "source"
    for command in (("init", "-q"), ("add", "-A")):
        run("git", *command, cwd=source)
    run(sys.executable, "-m", "check_manifest", "--no-build-isolation", cwd=source)


def test_help_imports_no_torch(installed, tmp_path):
    listed = run(installed, "-c", WITHOUT_TORCH, "--help", cwd=tmp_path)
    names = re.findall(r"^  (\w+)  ", listed, re.MULTILINE)
    assert {"train", "test", "list", "dist_train", "benchmark"} <= set(names)
    assert not {"command_line", "setup_env", "launcher_common"} & set(names)
    for name in names:
        if not name.endswith("_train"):
            text = run(installed, "-c", WITHOUT_TORCH, name, "--help", cwd=tmp_path)
            assert text.startswith(f"usage: slotcon {name} ")
    assert "usage: " in run(installed.parent / "slotcon", "dist-train", "--help", cwd=tmp_path)
    said = run(installed.parent / "slotcon", "traim", cwd=tmp_path, status=1)
    assert said == "slotcon: there is no command traim. Did you mean train? " + (
        "slotcon --help lists all.\n"
    )
    said = run(installed.parent / "slotcon", "--data", "a", "train", cwd=tmp_path, status=1)
    assert said == "slotcon: --data is no command, and options follow it: slotcon COMMAND --data.\n"


@pytest.mark.slow
def test_the_wheel_trains(installed, tmp_path):
    """An epoch with a config elsewhere that is based on one of the package."""
    (tmp_path / "images").mkdir()
    for i in range(4):
        image = Image.effect_noise((96, 80), 40 + i)
        image.convert("RGB").save(tmp_path / "images" / f"{i}.png")
    (tmp_path / "own.py").write_text(OWN)
    said = run(installed.parent / "slotcon", "train", "own.py", cwd=tmp_path)
    assert "results are in work_dirs/own" in said
    assert (tmp_path / "work_dirs" / "own" / "epoch_1.pth").is_file()
    (site,) = installed.parents[1].glob("lib/python*/site-packages")
    script = site / "slotcon_plugin" / ".mim" / "tools" / "dist_train.sh"
    assert os.access(script, os.X_OK)  # the benchmark starts it


def test_without_mmengine(installed, tmp_path):
    said = run(installed, "-c", WITHOUT_MMENGINE, cwd=tmp_path, status=1).splitlines()[-1]
    assert "has no mmengine" in said
    assert "'slotcon_plugin[onedl]'" in said and "pip install mmengine" in said


def test_tools_with_a_python_that_lacks_everything(installed, tmp_path):
    bare = Path(os.path.realpath(installed))
    for command in ((bare, ROOT / "tools" / "train.py"), (bare, "-m", "slotcon_plugin", "train")):
        said = run(*command, "none.py", cwd=ROOT, status=1).splitlines()[-1]
        if "has no torch" not in said:
            pytest.skip(f"{bare} has torch")
        assert "make setup" in said or "bin/activate" in said


def test_two_distributions_of_one_package_are_noticed(tmp_path, monkeypatch):
    check_installation()
    for name in ("mmengine", "onedl_mmengine"):
        (tmp_path / f"{name}-0.10.7.dist-info").mkdir()
        metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: 0.10.7\n"
        (tmp_path / f"{name}-0.10.7.dist-info" / "METADATA").write_text(metadata)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.warns(UserWarning, match="onedl-mmengine 0.10.7 and mmengine 0.10.7 are") as found:
        check_installation()
    assert len(found) == 1


def test_a_missing_library_is_named_with_its_extras():
    if not extras_of("sklearn"):
        pytest.skip("the package is not installed: there is no metadata with its extras")
    missing = ModuleNotFoundError("No module named 'sklearn'", name="sklearn.cluster")
    extras = "pip install 'slotcon_plugin[demo]', also with [visualize]."
    assert describe(missing) == f"No module named 'sklearn'. It comes with {extras}"
    assert "--traceback" in describe(ModuleNotFoundError("No module named 'x'", name="x"))
