"""The names of this package's configs."""

import ast

from ..runtime.config_files import config_names


def list_configs() -> dict[str, str]:
    """Each config's name, which every command and function takes, and the first line about it.

    `runtime.config_files.find_config` gives the file of a name.
    """
    found = {}
    for name, file in config_names().items():
        text = file.read_text(encoding="utf-8")
        about = ast.get_docstring(ast.parse(text)) if file.suffix == ".py" else text.lstrip("# ")
        found[name] = (about or "").partition("\n")[0]
    return found
