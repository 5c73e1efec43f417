"""Compile mmcv's ops once for this machine's torch and Python, and keep the wheel.

    .venv/bin/python tools/build_mmcv.py        # prints the wheel's path as the last line

Run it with a Python that has torch, setuptools (80), wheel and ninja; `make test` does. Wheels are
kept outside the clone, in $SLOTCON_WHEELS or ~/.cache/slotcon_plugin/wheels, in one folder for each
torch, Python and platform, because a wheel serves exactly the torch it was compiled against. An
interrupted build goes on where it stopped. CUDA ops are compiled when torch sees a GPU and nvcc is
there, or with FORCE_CUDA=1 TORCH_CUDA_ARCH_LIST=...
"""

import argparse
import fcntl
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
import time
from pathlib import Path

PINNED = Path(__file__).resolve().parents[1] / "constraints" / "pinned.txt"
PACKAGE = "onedl-mmcv"


def say(text):
    print(text, file=sys.stderr, flush=True)


def fail(text):
    say(f"build_mmcv: {text}")
    raise SystemExit(1)


def pinned_version():
    found = re.search(rf"^{PACKAGE}==([^\s;]+)", PINNED.read_text(encoding="utf-8"), re.MULTILINE)
    if not found:
        fail(f"{PINNED} pins no {PACKAGE}; add it to constraints/chosen.txt and run `make lock`")
    return found.group(1)


def wants_cuda(torch):
    if os.environ.get("FORCE_CUDA") == "1":
        return True
    if not torch.cuda.is_available():
        return False
    from torch.utils.cpp_extension import CUDA_HOME

    if CUDA_HOME is None:
        say("build_mmcv: a GPU is here but no CUDA toolkit (nvcc): compiling the CPU ops only.")
    return CUDA_HOME is not None


def cache_folder(torch, cuda):
    """One folder for each ABI: torch and its build tag, Python tag, platform, CUDA or not."""
    base = os.environ.get("SLOTCON_WHEELS")
    if not base:
        cache = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
        base = os.path.join(cache, "slotcon_plugin", "wheels")
    python = f"cp{sys.version_info.major}{sys.version_info.minor}"
    platform = re.sub(r"[.-]", "_", sysconfig.get_platform())
    name = f"torch{torch.__version__}-{python}-{platform}" + ("-cuda" if cuda else "")
    return Path(base).expanduser() / name


def hold_lock(folder):
    """Two set-ups on one machine compile once.

    The compilers inherit the lock: a build whose parent was killed is waited for, not disturbed.
    """
    lock = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT, 0o644)
    meter = None
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError:
            if meter is None:
                say("build_mmcv: another process compiles the same wheel; waiting for it.")
                meter = Meter(folder / "build.log")
            meter.wait()
    os.set_inheritable(lock, True)
    for leftover in [*folder.glob("unpack-*"), *folder.glob("wheel-*")]:
        shutil.rmtree(leftover)  # of a process that was killed
    return lock


class Meter:
    """Tells how far the compilation is: on a terminal each second, in a log each minute."""

    def __init__(self, log):
        self.log = log
        self.terminal = sys.stderr.isatty()
        self.started = self.told = time.monotonic()

    def wait(self):
        """One second."""
        time.sleep(1)
        if self.terminal:
            print(f"\r{self.line()} ", end="", file=sys.stderr, flush=True)
        elif time.monotonic() - self.told > 60:
            self.told = time.monotonic()
            say(self.line())

    def close(self):
        say(("\r" if self.terminal else "") + self.line())

    def line(self):
        """`34 of 78 files, 2 m 10 s`, from the last [34/78] that ninja wrote."""
        text = self.log.read_text(errors="replace") if self.log.exists() else ""
        done = re.findall(r"^\s*\[(\d+)/(\d+)\]", text, re.MULTILINE)
        seconds = int(time.monotonic() - self.started)
        files = f"{done[-1][0]} of {done[-1][1]} files" if done else "starting"
        return f"compiling mmcv's ops: {files}, {seconds // 60} m {seconds % 60:02d} s"


def compile_jobs():
    """As many compilers as cores, but no more than memory carries: each takes up to 1.5 GB."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return int(os.environ.get("MAX_JOBS") or max(1, min(cores, memory // (3 << 29))))


def check_compiler():
    if not shutil.which(os.environ.get("CXX", "c++").split()[0]):
        fail("no C++ compiler; mmcv's ops must be compiled. Debian, Ubuntu: apt install g++")
    header = Path(sysconfig.get_path("include")) / "Python.h"
    if not header.exists():
        fail(f"{header} is missing: install Python's headers (apt install python3-dev)")


def unpack_source(version, folder):
    """The source, unpacked once: what an interrupted build compiled in it is kept."""
    source = folder / "build" / f"{PACKAGE.replace('-', '_')}-{version}"
    if source.exists():
        return source
    with tempfile.TemporaryDirectory(dir=folder, prefix="unpack-") as temp:
        say(f"build_mmcv: downloading the source of {PACKAGE} {version}")
        command = [sys.executable, "-m", "pip", "download", "-qq", "--no-deps", "--dest", temp]
        command += ["--no-binary", PACKAGE, "--no-build-isolation", f"{PACKAGE}=={version}"]
        if subprocess.run(command, stdout=sys.stderr).returncode:
            fail(f"could not download the source of {PACKAGE} {version}: see pip's message above")
        (archive,) = Path(temp).glob("*.tar.gz")
        with tarfile.open(archive) as tar:
            if hasattr(tarfile, "data_filter"):
                tar.extractall(temp, filter="data")
            else:
                tar.extractall(temp)
        source.parent.mkdir(exist_ok=True)
        os.rename(Path(temp) / source.name, source)
    return source


def build(source, folder, cuda, lock):
    """Compile into a temporary folder, then move the wheel in: one that is there is whole."""
    environment = dict(os.environ, MMCV_WITH_OPS="1", MAX_JOBS=str(compile_jobs()))
    # Without debug symbols it takes less than half the time.
    environment.setdefault("CFLAGS", "-g0 -O2")
    # ninja lies beside this Python.
    environment["PATH"] = os.path.dirname(sys.executable) + os.pathsep + environment["PATH"]
    if not cuda:
        environment["CUDA_VISIBLE_DEVICES"] = ""
    log = folder / "build.log"
    with tempfile.TemporaryDirectory(dir=folder, prefix="wheel-") as temp, log.open("w") as output:
        command = [sys.executable, "-m", "pip", "wheel", "-v", "--no-deps", "--no-build-isolation"]
        command += ["--wheel-dir", temp, str(source)]
        process = subprocess.Popen(
            command, stdout=output, stderr=output, env=environment, pass_fds=[lock]
        )
        meter = Meter(log)
        while process.poll() is None:
            meter.wait()
        meter.close()
        if process.returncode:
            return None
        (wheel,) = Path(temp).glob("*.whl")
        os.replace(wheel, folder / wheel.name)
        return folder / wheel.name


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--version", help=f"of {PACKAGE} (default: as pinned)", default=pinned_version()
    )
    version = parser.parse_args().version
    try:
        import torch
    except ImportError:
        fail(f"{sys.executable} has no torch to compile against; install torch first")
    cuda = wants_cuda(torch)
    folder = cache_folder(torch, cuda)
    folder.mkdir(parents=True, exist_ok=True)
    lock = hold_lock(folder)
    wheels = sorted(folder.glob(f"{PACKAGE.replace('-', '_')}-{version}-*.whl"))
    if not wheels:
        check_compiler()
        say(
            f"build_mmcv: compiling mmcv {version} with its ops for torch {torch.__version__}: "
            f"about {'30 minutes (CUDA)' if cuda else '7 minutes'} on 2 cores, once. "
            "Stop it at any time; the next run goes on.\n"
            f"build_mmcv: log: {folder / 'build.log'}"
        )
        resumed = (folder / "build").exists()
        wheel = build(unpack_source(version, folder), folder, cuda, lock)
        if wheel is None and resumed:
            say("build_mmcv: the interrupted build could not be continued; starting it anew.")
            shutil.rmtree(folder / "build")
            wheel = build(unpack_source(version, folder), folder, cuda, lock)
        if wheel is None:
            tail = (folder / "build.log").read_text(errors="replace").splitlines()[-30:]
            fail("mmcv did not compile. The log's end:\n  " + "\n  ".join(tail))
        shutil.rmtree(folder / "build")
        wheels = [wheel]
    print(wheels[-1])


if __name__ == "__main__":
    main()
