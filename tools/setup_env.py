"""Set up .venv for the Makefile's commands, with nothing but Python >= 3.10 and a configured pip.

    python3 tools/setup_env.py lint|core|full

lint: ruff and import-linter. core: pretraining and the demo. full: also mmcv with its ops, mmdet,
mmseg and the tests' tools. Versions come from constraints/pinned.txt, packages from the extras of
setup.py. It can be stopped at any time and run again.

mmcv must be compiled for the installed torch, which the caches of pip and uv do not consider. Its
wheels are kept in $SLOTCON_WHEELS or ~/.cache/slotcon_plugin/wheels, in one folder for each torch,
Python and platform. CUDA ops are compiled if torch sees a GPU and nvcc is installed, or with
FORCE_CUDA=1 TORCH_CUDA_ARCH_LIST=...
"""

import argparse
import ast
import fcntl
import hashlib
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
STAMP = VENV / "slotcon_setup.json"  # what is installed; missing during an installation
NAME = "slotcon_plugin"  # the prompt of an activated .venv, by which this program recognizes it
PINNED = ROOT / "constraints" / "pinned.txt"
EXCLUDED = ROOT / "constraints" / "excluded.txt"
LEVELS = {  # time and space, requirements, check
    "lint": ("10 s", ["ruff", "import-linter"], ""),
    "core": (
        "1-3 min, 5 GB",
        ["ninja", "--editable", ".[onedl,demo,lint]"],
        "import torchvision, mmengine, cv2, skimage, sklearn",
    ),
    "full": (
        "1-4 min, 6 GB, and once per machine about 7 min to compile mmcv's ops on 2 cores",
        ["--editable", ".[all]"],
        "import mmdet, mmseg, mmcv._ext, torch; from mmcv.ops import nms; "
        "nms(torch.tensor([[0., 0., 1., 1.]]), torch.ones(1), 0.5)",
    ),
}
PIP_TO_UV = {  # uv does not read pip's configuration
    "index-url": "UV_DEFAULT_INDEX",
    "extra-index-url": "UV_INDEX",
    "find-links": "UV_FIND_LINKS",
    "trusted-host": "UV_INSECURE_HOST",
    "cert": "SSL_CERT_FILE",
}
# Prints the name of a folder of wheels.
WHEEL_FOLDER = """import os, sys, sysconfig, torch
cuda = os.environ.get("FORCE_CUDA") == "1"
if torch.cuda.is_available():
    from torch.utils.cpp_extension import CUDA_HOME
    cuda |= CUDA_HOME is not None
platform = sysconfig.get_platform().replace("-", "_").replace(".", "_")
python = f"cp{sys.version_info[0]}{sys.version_info[1]}"
print(f"torch{torch.__version__}-{python}-{platform}" + "-cuda" * cuda)"""
LOCKS = []


def say(text):
    print(f"setup: {text}", file=sys.stderr, flush=True)


def run(*command, error, **options):
    """Run a command in the repository; stop with a message if it fails. Returns its output."""
    words = [str(word) for word in command]
    done = subprocess.run(words, cwd=ROOT, text=True, pass_fds=LOCKS, **options)
    if done.returncode:
        sys.exit(f"setup: {error}")
    return done.stdout


def lock(folder):
    """Lock a folder until this program and those that it started have ended."""
    handle = os.open(folder, os.O_RDONLY)
    LOCKS.append(handle)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        say(f"waiting for another setup, which works in {folder}")
        fcntl.flock(handle, fcntl.LOCK_EX)
    except OSError:
        pass  # a file system without locks


def uv_environment():
    """The environment for uv, with the settings of pip's configuration."""
    command = (PYTHON, "-m", "pip", "config", "list")
    listed = run(*command, error="pip does not work, see above", stdout=subprocess.PIPE)
    found = {"UV_PYTHON_DOWNLOADS": "never", "UV_INDEX_STRATEGY": "unsafe-best-match"}  # as pip
    for kind in ("global", "install", ":env:"):  # the later ones have priority
        for name, value in re.findall(rf"^{kind}\.([\w-]+)=('.*')$", listed, re.MULTILINE):
            if name in PIP_TO_UV:
                separator = "," if name == "find-links" else " "
                found[PIP_TO_UV[name]] = separator.join(ast.literal_eval(value).split())
    return {**found, **os.environ}


def install(level):
    """Install a level, and those before it."""
    pip = (PYTHON, "-m", "pip", "-q", "install", "-c", PINNED)
    run(*pip, "setuptools", "wheel", "uv", error="pip cannot install, see above")
    uv = [VENV / "bin" / "uv", "pip", "install", "--python", PYTHON, "--no-build-isolation"]
    uv += ["-c", PINNED, "--overrides", EXCLUDED]
    uv += [] if sys.stdout.isatty() else ["--quiet"]
    wheel = ""
    for name in {"lint": ["lint"], "core": ["core"], "full": ["core", "full"]}[level]:
        _, requirements, check = LEVELS[name]
        if name == "full":
            wheel = mmcv_wheel()
            requirements = [wheel, *requirements]
        run(*uv, *requirements, error="uv cannot install, see above", env=uv_environment())
    hint = f" If mmcv is the cause, delete {wheel} and run again." if wheel else ""
    error = f"everything is installed but does not import, see above.{hint}"
    run(PYTHON, "-W", "ignore", "-c", check, error=error)


def mmcv_wheel():
    """The path of mmcv's wheel for .venv; it is compiled if there is none."""
    version = re.search(r"^onedl-mmcv==([^\s;]+)", PINNED.read_text(), re.MULTILINE)[1]
    command = (PYTHON, "-W", "ignore", "-c", WHEEL_FOLDER)
    name = run(*command, error="torch does not import, see above", stdout=subprocess.PIPE).strip()
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    base = Path(os.environ.get("SLOTCON_WHEELS") or f"{cache}/slotcon_plugin/wheels")
    folder = base.expanduser() / name
    folder.mkdir(parents=True, exist_ok=True)
    lock(folder)
    wheels = sorted(folder.glob(f"onedl_mmcv-{version}-*.whl"))
    if wheels:
        return wheels[-1]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    jobs = max(1, min(os.cpu_count(), memory // (3 << 29)))  # a compiler needs up to 1.5 GB
    env = {"CFLAGS": "-g0 -O2", "MAX_JOBS": str(jobs), **os.environ, "MMCV_WITH_OPS": "1"}
    env["PATH"] = f"{PYTHON.parent}:{env['PATH']}"  # ninja is there
    if not name.endswith("-cuda"):
        env["CUDA_VISIBLE_DEVICES"] = ""
    with tempfile.TemporaryDirectory(dir=folder) as temp:
        say(f"compiling mmcv {version} for {name}")
        # pip's cache could return a wheel for another torch.
        pip = (PYTHON, "-m", "pip", "wheel", "--no-cache-dir", "--no-deps", "--no-build-isolation")
        error = "mmcv did not compile, see above. It needs a C++ compiler and Python's headers: "
        error += "apt install g++ python3-dev (Debian, Ubuntu)"
        binary = ("--no-binary", "onedl-mmcv")
        run(*pip, *binary, "-w", temp, f"onedl-mmcv=={version}", error=error, env=env)
        (wheel,) = Path(temp).glob("*.whl")
        return wheel.rename(folder / wheel.name)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("level", choices=LEVELS)
    level = parser.parse_args().level
    lock(ROOT)
    base = f"{ROOT} {sys.version_info[0]}.{sys.version_info[1]}"
    files = [PINNED, EXCLUDED, ROOT / "setup.py", Path(__file__)]
    key = hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()
    rank = ["", *LEVELS].index
    try:
        stamp = json.loads(STAMP.read_text())
    except (OSError, ValueError):
        stamp = {}
    had = stamp["level"] if stamp.get("base") == base and PYTHON.exists() else ""
    if had and stamp["key"] == key and rank(had) >= rank(level):
        return
    config = VENV / "pyvenv.cfg"
    if config.exists() and not STAMP.exists() and NAME not in config.read_text():
        sys.exit(f"setup: {VENV} was not made by this program. Move it away.")
    level = max(level, had, key=rank)  # an outdated full environment stays a full one
    say(f"{'updating' if had else 'making'} .venv for '{level}': {LEVELS[level][0]}")
    started = time.monotonic()
    STAMP.unlink(missing_ok=True)
    if not had:
        python = getattr(sys, "_base_executable", None) or sys.executable  # also in a .venv
        error = "venv failed, see above. Debian, Ubuntu: apt install python3-venv"
        run(python, "-m", "venv", "--clear", "--prompt", NAME, VENV, error=error)
    install(level)
    STAMP.write_text(json.dumps({"base": base, "level": level, "key": key}))
    say(f".venv is ready for '{level}' after {time.monotonic() - started:.0f} s")


if __name__ == "__main__":
    if sys.version_info < (3, 10):  # noqa: UP036 - the user's own Python may be any
        sys.exit(f"setup: Python >= 3.10 is needed, {sys.executable} is {sys.version.split()[0]}")
    main()
