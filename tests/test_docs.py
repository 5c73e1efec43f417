"""What the documentation names exists: links, files, Python names, targets, options, entries."""

import ast
import functools
import importlib
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS

from benchmarks.processes import ROOT
from slotcon_plugin.benchmark.schema import read_benchmark
from slotcon_plugin.runtime.config_files import find_config
from slotcon_plugin.runtime.config_options import read_config

PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")),
    ROOT / "benchmarks" / "README.md",
    *sorted((ROOT / "docs").glob("*.md")),
    *sorted((ROOT / "docs").glob("*.ipynb")),
]
HEADERS = sorted((ROOT / "configs").rglob("*.py"))  # each begins with its command
FOLDERS = "benchmarks|configs|constraints|docs|slotcon_plugin|tests|tools"
FILE = re.compile(rf"(?<![\w./-])(?:{FOLDERS})/[\w./-]*\w\.(?:json|md|png|py|sh|txt|ya?ml)\b")
COMMAND = re.compile(
    r"(?<![\w./-])(?:((?:tools|benchmarks)/\w+\.(?:py|sh))|"  # the file of a tool
    r"(?:slotcon|-m slotcon_plugin) ([a-z]\w*))([^`|#\n]*)"  # or its name, and the arguments
)
# Commands that take a config -> its place among their arguments.
CONFIGS = dict.fromkeys(("train", "test", "plan", "dist_train", "benchmark", "train_detectron2"), 0)
CONFIGS["slurm_train"] = 2
OPTION = re.compile(r"(?<![\w-])--[a-z][a-z-]*")
# The scripts pass their options on; Snakemake has options of its own.
PASSED_TO = {"tools/dist_train.sh": "tools/train.py", "tools/slurm_train.sh": "tools/train.py"}
PASSED_TO["tools/benchmark.sh"] = "tools/benchmark.py"
SUB_COMMANDS = {
    "tools/evaluate.py": ("unsupervised", "overcluster", "retrieval", "probe", "knn", "rank")
}
SNAKEMAKE = {"--cores", "--executor", "--keep-going", "--profile", "--resources"}
PIP = {"--no-deps", "--no-build-isolation", "--no-cache-dir"}
PROGRAMS = ("speed", "precision_curves", "published_curves", "kill_benchmark", "fuzz")
OTHERS = {"--logdir", "--nproc-per-node", "--backend-store-uri", *PIP}  # TensorBoard's, …


def read(page: Path) -> str:
    """A page with continued lines of commands joined; of CHANGELOG's table only the new names.

    Of a notebook the cells, of a config the commands in its header.
    """
    text = page.read_text(encoding="utf-8")
    if page.suffix == ".ipynb":
        fence = {"code": "```python\n{}\n```", "markdown": "{}"}
        cells = json.loads(text)["cells"]
        text = "\n".join(fence[one["cell_type"]].format("".join(one["source"])) for one in cells)
    elif page.suffix == ".py":
        header = ast.get_docstring(ast.parse(text)) or ""
        text = "".join(re.findall(r"^Command:.*?(?=^Data:)", header, re.MULTILINE | re.DOTALL))
    text = text.replace("\\\n", " ")
    return re.sub(r"^\|[^|]*\|", "|", text, flags=re.M) if page.stem == "CHANGELOG" else text


def each_page(test):
    return pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)(test)


@functools.cache
def help_of(*command: str) -> str:
    program = "bash" if command[0].endswith(".sh") else sys.executable
    words = [program, *command, "--help"]
    return subprocess.run(words, capture_output=True, text=True, cwd=ROOT, check=True).stdout


def commands(page: Path) -> Iterator[tuple[str, str]]:
    """The commands on a page: the file of the tool, and its arguments."""
    for file, name, words in COMMAND.findall(read(page)):
        scripts = [f"tools/{name}.{end}" for end in ("py", "sh")]
        found = file or next((one for one in scripts if (ROOT / one).exists()), None)
        assert found, f"there is no command slotcon {name}"
        yield found, words


def config_of(tool: str, words: str) -> str | None:
    """The config that a command names; None for a placeholder or a file of one's own."""
    place = CONFIGS.get(Path(tool).stem)
    arguments = words.split()
    if place is None or len(arguments) <= place or arguments[place].startswith("-"):
        return None
    config = arguments[place]
    is_own = config.isupper() or config.startswith(("my", "own", "/", "work_dirs")) or "…" in config
    return None if is_own else config


def known_options(tool: str, words: str = "") -> set[str]:
    """The options of a tool, or of its sub-command that `words` names."""
    tool = PASSED_TO.get(tool, tool)
    commands = SUB_COMMANDS.get(tool, ())
    named = [(command,) for command in commands if command in words.split()]
    shown = [help_of(tool, *command) for command in named or [(), *zip(commands)]]
    options = set(OPTION.findall(" ".join(shown)))
    return options | SNAKEMAKE if tool == "tools/benchmark.py" else options


def slugs(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", read(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_the_site_is_built_without_a_warning(tmp_path):
    """Links and anchors between all pages, the navigation, and the docstrings of the reference."""
    pytest.importorskip("mkdocs")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "-d", tmp_path]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    fetched = re.findall(r"<(?:script|link|img)[^>]*https?:", (tmp_path / "index.html").read_text())
    assert not fetched
    assert "Pretrain on" in (tmp_path / "index.html").read_text()


@each_page
def test_links(page):
    for link in re.findall(r"\]\(([^)\s]+)\)", read(page)):
        if link.startswith("http"):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        assert not anchor or anchor in slugs(target), link


@each_page
def test_files(page):
    missing = {name for name in FILE.findall(read(page)) if not (ROOT / name).exists()}
    assert not missing


@each_page
def test_python(page):
    """Dotted names and imports; blocks of Python can be parsed."""
    text = read(page)
    names = set(
        re.findall(r"(?<![\w/])slotcon_plugin(?:\.[a-z]\w*)+(?!\.?\w)", text, re.IGNORECASE)
    )
    for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL):
        block = re.sub(r"^[!%].*$", "", block, flags=re.MULTILINE)  # a notebook's commands
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.ImportFrom):
                names |= {f"{node.module}.{alias.name}" for alias in node.names}
    for name in names:
        module, _, attribute = name.rpartition(".")
        try:
            importlib.import_module(name)
        except ModuleNotFoundError:
            assert hasattr(importlib.import_module(module), attribute), name


def test_the_config_in_the_readme(tmp_path):
    """It builds, with mmdet's ResNet, and a Runner would have the hook that moves the teacher."""
    pytest.importorskip("mmdet")
    shown = re.findall(r"```python\n(custom_imports.*?)```", read(ROOT / "README.md"), re.DOTALL)
    (tmp_path / "shown.py").write_text(shown[0])
    cfg = Config.fromfile(tmp_path / "shown.py")
    with torch.device("meta"):
        model = MODELS.build(cfg.model)
    assert model.num_prototypes == 256
    assert cfg.custom_hooks == [dict(type="TeacherHook")]


def test_the_benchmark_file_in_the_docs(tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    (shown,) = re.findall(r"```yaml\n(.*?)```", read(ROOT / "docs" / "benchmark.md"), re.DOTALL)
    (tmp_path / "shown.yaml").write_text(shown)
    benchmark = read_benchmark(tmp_path / "shown.yaml")
    assert [len(benchmark.pretrainings), len(benchmark.transfers)] == [5, 4]


@each_page
def test_targets_of_make(page):
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    commands = re.findall(r"(?:^|`)make ([a-z-]+)", read(page), re.MULTILINE)
    assert set(commands) <= targets


def check_options(page: Path) -> None:
    for tool, words in commands(page):
        unknown = set(OPTION.findall(words)) - known_options(tool, words)
        assert not unknown, f"{tool}{words}"


@each_page
def test_options(page):
    check_options(page)
    tools = [f"tools/{path.name}" for path in (ROOT / "tools").glob("*.py")]
    tools += [f"benchmarks/{name}.py" for name in PROGRAMS]
    everywhere = OTHERS.union(*(known_options(tool) for tool in tools if takes_options(tool)))
    for code in re.findall(r"`([^`\n]+)`", read(page)):
        assert set(OPTION.findall(code)) <= everywhere, code


def takes_options(tool: str) -> bool:
    return "argparse" in (ROOT / tool).read_text()


def check_configs(page: Path) -> None:
    for tool, words in commands(page):
        if (config := config_of(tool, words)) is None:
            continue
        file = find_config(config)
        options = words.partition("--cfg-options")[2].split(" --")[0].split()
        if file.suffix == ".py" and options:
            read_config(file, options)


@each_page
def test_configs(page):
    """Each exists, by its path or name; `--cfg-options` replaces entries that it has, or adds them
    with a plus."""
    check_configs(page)
    for name in re.findall(r"slotcon_plugin::[\w/.-]+", read(page)):
        find_config(name.rstrip("."))


def test_the_headers_of_configs():
    for config in HEADERS:
        check_options(config)
        check_configs(config)
