"""Set up .venv for one of the Makefile's commands. Needs Python >= 3.10 and nothing installed.

    python3 tools/setup_env.py lint|core|full

lint: ruff. core: pretraining and the demo. full: also mmcv with its ops, mmdet, mmseg and pytest.
Versions come from constraints/pinned.txt, the sets from the extras of setup.py. Stop it at any time
and run it again.
"""

import argparse
import fcntl
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
STAMP = VENV / "slotcon_setup.json"  # what is installed, or that an installation is under way
PINNED = ROOT / "constraints" / "pinned.txt"
EXCLUDED = ROOT / "constraints" / "excluded.txt"
LEVELS = {  # name: (rank, extra of setup.py, what it takes)
    "lint": (0, None, "ruff alone, about 10 s"),
    "core": (1, "demo", "torch and MMEngine, 1-3 min, 5 GB"),
    "full": (
        2,
        "all",
        "torch, mmcv, mmdet, mmseg and pytest, 1-4 min, 6 GB, "
        "and once per machine about 7 min to compile mmcv's ops",
    ),
}
CHECKS = {
    "lint": "",
    "core": "import torch, torchvision, mmengine, cv2, skimage, sklearn; "
    "torchvision.ops.nms(torch.zeros(1, 4), torch.ones(1), 0.5)",
    "full": "import torch, mmdet, mmseg, mmcv._ext; from mmcv.ops import nms; "
    "nms(torch.tensor([[0., 0., 1., 1.]]), torch.ones(1), 0.5)",
}


def say(text):
    print(f"set-up: {text}", flush=True)


def fail(text):
    print(f"set-up: {text}", file=sys.stderr)
    raise SystemExit(1)


def fingerprint():
    """Changes with everything that decides what is installed and where."""
    parts = [str(ROOT), f"{sys.version_info.major}.{sys.version_info.minor}"]
    for path in (PINNED, EXCLUDED, ROOT / "setup.py", Path(__file__)):
        parts.append(path.read_text(encoding="utf-8"))
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def read_stamp():
    try:
        return json.loads(STAMP.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}


def write_stamp(**values):
    values.update(root=str(ROOT), python=f"{sys.version_info.major}.{sys.version_info.minor}")
    temporary = STAMP.with_suffix(".tmp")
    temporary.write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")
    os.replace(temporary, STAMP)


def reason_to_rebuild(stamp):
    """Why the .venv that is there cannot be updated in place, or None."""
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    if stamp.get("state") == "installing":
        return "the last set-up was interrupted while packages were written"
    if not PYTHON.exists():
        return "its Python is gone"
    if stamp.get("root", str(ROOT)) != str(ROOT):
        return "the clone has moved"
    config = (VENV / "pyvenv.cfg").read_text(encoding="utf-8")
    found = re.search(r"^version(?:_info)?\s*=\s*(\d+\.\d+)", config, re.MULTILINE)
    if not found or found.group(1) != version:
        return f"it has Python {found.group(1) if found else 'unknown'}, asked for is {version}"
    return None


def make_venv():
    """A new, empty .venv. The stamp is written first, so an interrupted one is known as such."""
    VENV.mkdir(exist_ok=True)
    write_stamp(state="installing")
    for entry in VENV.iterdir():
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        elif entry != STAMP:
            entry.unlink()
    base = getattr(sys, "_base_executable", None) or sys.executable  # also from an activated .venv
    if subprocess.run([base, "-m", "venv", str(VENV)]).returncode:
        fail(
            "this Python cannot make virtual environments (its message is above). "
            "Debian, Ubuntu: apt install python3-venv"
        )


def pip(*arguments, quiet=True):
    command = [str(PYTHON), "-m", "pip", *arguments]
    if quiet:
        command += ["--quiet", "--disable-pip-version-check"]
    return subprocess.run(command, cwd=str(ROOT)).returncode == 0


def pip_settings():
    """What uv needs to know of pip's configuration: it does not read it."""
    command = [str(PYTHON), "-m", "pip", "config", "list"]
    listed = subprocess.run(command, stdout=subprocess.PIPE, text=True).stdout
    found = dict(re.findall(r"^(?::env:|[\w-]+)\.([\w-]+)='(.*)'$", listed, re.MULTILINE))
    environment = {
        "UV_PYTHON_DOWNLOADS": "never",
        "UV_LINK_MODE": os.environ.get("UV_LINK_MODE", ""),
    }
    if "index-url" in found:
        environment["UV_DEFAULT_INDEX"] = found["index-url"]
    if "cert" in found:
        environment["SSL_CERT_FILE"] = found["cert"]
    return {name: value for name, value in environment.items() if value and name not in os.environ}


def uv(requirements):
    program = VENV / "bin" / "uv"
    if not program.exists():
        return False
    command = [str(program), "pip", "install", "--python", str(PYTHON), "--no-build-isolation"]
    command += ["--constraints", str(PINNED), "--overrides", str(EXCLUDED), *requirements]
    if not sys.stdout.isatty():
        command.append("--quiet")
    environment = dict(os.environ, **pip_settings())
    return subprocess.run(command, cwd=str(ROOT), env=environment).returncode == 0


def install(requirements):
    """With uv; with pip where uv cannot reach an index that pip is configured for."""
    if uv(requirements):
        return
    say("uv did not succeed; trying the same with pip (slower)")
    arguments = ["install", "--no-build-isolation", "--constraint", str(PINNED), *requirements]
    if not pip(*arguments, quiet=False):
        fail("pip did not succeed either; its message is above. Check the network and run again.")
    excluded = re.findall(r"^([\w-]+) ;", EXCLUDED.read_text(encoding="utf-8"), re.MULTILINE)
    installed = [name for name in excluded if pip("show", name)]
    if installed:  # pip has no way to leave a dependency out; the other build lost files it shared
        pip("uninstall", "--yes", *installed)
        pip(
            "install",
            "--force-reinstall",
            "--no-deps",
            "--constraint",
            str(PINNED),
            "opencv-python-headless",
        )


def build_mmcv():
    """The wheel's path; compiled now if this machine has none for this torch."""
    command = [str(PYTHON), "tools/build_mmcv.py"]
    result = subprocess.run(command, cwd=str(ROOT), stdout=subprocess.PIPE, text=True)
    if result.returncode:
        fail("without mmcv's ops the transfer libraries do not run: see above")
    return result.stdout.strip().splitlines()[-1]


def install_level(level):
    """The package's extra, editable. The stamp says 'installing' only while files are written."""
    key = fingerprint()

    def step(*requirements):
        write_stamp(state="installing")
        install(requirements)
        write_stamp(state="partial")

    write_stamp(state="installing")
    basics = ("install", "--constraint", str(PINNED), "setuptools", "wheel")
    if not pip(*basics, "uv") and not pip(*basics):
        fail("pip cannot reach a package index: see above. Check the network and run again.")
    write_stamp(state="partial")
    if level == "lint":
        step("ruff")
    else:
        step("ninja", "--editable", f".[{LEVELS['core'][1]}]")
    if level == "full":
        wheel = build_mmcv()
        step(wheel, "--editable", f".[{LEVELS['full'][1]}]")
    if CHECKS[level]:
        result = subprocess.run([str(PYTHON), "-W", "ignore", "-c", CHECKS[level]], cwd=str(VENV))
        if result.returncode:
            hint = f" If mmcv is at fault, delete {wheel} and run again." if level == "full" else ""
            fail(f"everything is installed but does not import; Python's message is above.{hint}")
    write_stamp(state="done", level=level, key=key)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("level", choices=list(LEVELS))
    level = parser.parse_args().level
    if sys.version_info < (3, 10):  # noqa: UP036 - the user's own Python may be any
        fail(f"Python >= 3.10 is needed, {sys.executable} is {sys.version.split()[0]}")
    lock = os.open(str(ROOT), os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        say("another set-up of this clone is running; waiting for it.")
        fcntl.flock(lock, fcntl.LOCK_EX)
    except OSError:
        pass  # a file system without locks
    stamp = read_stamp()
    have = LEVELS[stamp["level"]][0] if stamp.get("state") == "done" else -1
    current = PYTHON.exists() and stamp.get("key") == fingerprint()
    if current and have >= LEVELS[level][0]:
        return
    started = time.monotonic()
    if have > LEVELS[level][0]:
        level = stamp["level"]  # an outdated full environment stays a full one
    takes = LEVELS[level][2]
    if not VENV.exists():
        say(f"making .venv for '{level}': {takes}")
        make_venv()
    else:
        reason = reason_to_rebuild(stamp)
        if reason and not stamp:
            fail(f"{VENV} is not this script's and cannot be used: {reason}. Move it away.")
        if reason:
            say(f"making .venv anew, because {reason}, for '{level}': {takes}")
            make_venv()
        else:
            say(f"bringing .venv up to date for '{level}': {takes}")
    install_level(level)
    say(f".venv is ready for '{level}' after {time.monotonic() - started:.0f} s")


if __name__ == "__main__":
    main()
