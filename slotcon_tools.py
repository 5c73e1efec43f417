"""The command `slotcon`, also `python -m slotcon_plugin`: the tools as its sub-commands.

It imports neither torch nor slotcon_plugin, which imports torch, so that help is there at once.
"""

import ast
import difflib
import os
import runpy
import sys
from importlib.util import find_spec
from pathlib import Path

USAGE = """usage: slotcon COMMAND [options]

{}

slotcon COMMAND --help lists the options of a command. For several GPUs: slotcon train CONFIG
--gpus 8, or torchrun --nproc_per_node 8 -m slotcon_plugin COMMAND … --launcher pytorch."""


def find_commands(folder: Path) -> dict[str, tuple[Path, str]]:
    """The programs in a folder of tools by name, each with its file and one line about it."""
    found = {}
    for path in sorted(folder.glob("*.*")):
        text = path.read_text(encoding="utf-8") if path.suffix in (".py", ".sh") else ""
        if path.suffix == ".py" and "run_api(" in text and '__name__ == "__main__"' in text:
            about = ast.get_docstring(ast.parse(text)) or ""
            found[path.stem] = path, about.partition("\n")[0]
        elif text.startswith("#!") and path.suffix == ".sh":  # benchmark.sh starts benchmark.py
            found.setdefault(path.stem, (path, text.splitlines()[1].removeprefix("# ")))
    return found


def main() -> None:
    """Run a command with the arguments of the command line."""
    package = Path(find_spec("slotcon_plugin").origin).parent
    tools = package / ".mim" / "tools"
    commands = find_commands(tools)
    name, *words = sys.argv[1:] or ["--help"]
    name = name.replace("-", "_") if name.replace("-", "_") in commands else name
    if name in ("-h", "--help", "help"):
        print(USAGE.format("\n".join(f"  {n:17} {about}" for n, (_, about) in commands.items())))
    elif name == "--version":
        print(runpy.run_path(str(package / "version.py"))["__version__"])
    elif name.startswith("-"):
        sys.exit(f"slotcon: {name} is no command, and options follow it: slotcon COMMAND {name}.")
    elif name not in commands:
        close = "".join(f" Did you mean {n}?" for n in difflib.get_close_matches(name, commands, 1))
        sys.exit(f"slotcon: there is no command {name}.{close} slotcon --help lists all.")
    elif (path := commands[name][0]).suffix == ".sh":
        os.execvpe("bash", ["bash", str(path), *words], {"PYTHON": sys.executable, **os.environ})
    else:
        sys.path.insert(0, str(tools))  # as if the file itself were started
        import command_line

        command_line.PROGRAM = f"slotcon {name}"
        sys.argv = [str(path), *words]
        runpy.run_path(str(path), run_name="__main__")


if __name__ == "__main__":
    main()
