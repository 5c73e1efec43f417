"""Run the tests of the core with other versions of Python and the libraries: `make test-versions`.

    python tests/versions.py [lowest] [newest] [upstream] [--keep]

Each environment is made by uv in build/versions, from setup.py's ranges, and removed again; its
interpreter must be on this machine. Prints a row of docs/install.md for each.
"""

import argparse
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tools"))
from setup_env import uv_environment  # noqa: E402

BUILD = ROOT / "build" / "versions"
UV = Path(sys.executable).with_name("uv")
TOOLS = ("pytest", "pytest-xdist", "scikit-image", "scikit-learn", "scipy", "tqdm")
# Name -> Python, how uv chooses versions, what is installed with the package.
ENVIRONMENTS = {
    "lowest": ("3.10", "lowest-direct", [".[onedl]", "matplotlib>=3.7"]),
    "newest": ("3.13", "highest", [".[onedl]"]),
    "upstream": ("3.11", "highest", [".", "mmengine==0.10.7", "setuptools<81"]),
}
DECODERS = "tests/test_parity.py::test_the_published_records_pass"  # three of them are of mmseg
RECORDS = sorted(ROOT.glob("tests/golden/[!d]*proc.json"))  # those without a decoder
SHOWN = ("torch", "torchvision", "onedl-mmengine", "mmengine", "numpy", "pillow")
SHOWN += ("opencv-python-headless", "tensorboard")
# Not test_loss_curve: with another torch the initial weights are other random numbers.
CORE = [
    *("alignment", "config_files", "config_options", "crops", "dense", "grouping", "hooks"),
    *("hostile_checkpoints", "imports", "kernels", "lars", "lean_mlp", "losses"),
    *("model", "parity", "photometric", "precise_bn", "preprocessor", "resume", "sampler"),
    *("schedules", "sources", "teacher", "train_tool", "training_state", "views", "work_dir"),
]


def run(*words: object, **options: str) -> subprocess.CompletedProcess:
    """Run a program in the repository and return what it printed."""
    environment = uv_environment() | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", **options}
    words = list(map(str, words))
    return subprocess.run(words, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True)


def test(name: str) -> str:
    """Make an environment and test it; a row of the table."""
    version, resolution, requirements = ENVIRONMENTS[name]
    folder = BUILD / name
    python = folder / "bin" / "python"
    shutil.rmtree(folder, ignore_errors=True)
    if run(UV, "venv", "-q", "--python", version, folder).returncode:
        return f"| {name} | {version} | | not run: this machine has no Python {version} |"
    install = (UV, "pip", "install", "-q", "--python", python)
    if run(*install, *requirements, "--resolution", resolution).returncode or (
        run(*install, *TOOLS).returncode
    ):
        return f"| {name} | {version} | | not run: not installed |"
    code = "from importlib.metadata import version as v, PackageNotFoundError\n"
    code += f"for n in {SHOWN}:\n try: print(n, v(n))\n except PackageNotFoundError: pass"
    versions = run(python, "-c", code).stdout.strip().replace("\n", ", ")
    # The package is the clone's, not the installed copy.
    files = [f"tests/test_{one}.py" for one in CORE]
    pytest = (python, "-m", "pytest", "-q", "-n", "2", "--deselect", DECODERS)
    tests = run(*pytest, *files, PYTHONPATH=str(ROOT))
    print(tests.stdout)
    last = tests.stdout.strip().splitlines()[-1].strip("= ")
    failed = run(python, "benchmarks/parity.py", *RECORDS).returncode
    last += "; published records " + ("failed" if failed else "reproduced")
    full = run(python, "-c", "import platform; print(platform.python_version())").stdout.strip()
    return f"| {name} | {full} | {versions} | {last} |"


def main() -> int:
    """Test the chosen environments; the exit status is 1 if a test failed in one."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(ENVIRONMENTS))
    parser.add_argument("--keep", action="store_true", help="do not remove the environments")
    args = parser.parse_args()
    if unknown := set(args.names) - set(ENVIRONMENTS):
        parser.error(f"{', '.join(unknown)}: there are {', '.join(ENVIRONMENTS)}")
    rows = []
    for name in args.names or ENVIRONMENTS:
        try:
            rows.append(test(name))
        finally:
            if not args.keep:
                shutil.rmtree(BUILD / name, ignore_errors=True)
    print("\n".join(rows))
    return int(any(" failed" in row or "error" in row for row in rows))


if __name__ == "__main__":
    sys.exit(main())
