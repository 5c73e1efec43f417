"""Reading the config that a checkpoint carries, without running it.

MMEngine stores a config as the text of a Python program and runs that program to read it. A
checkpoint from elsewhere can hold any program there. Here only literals and `dict(...)` are read.
"""

import ast
from typing import Any


def read_literals(program: str) -> dict[str, Any]:
    """The assignments of a config's text whose values are literals; everything else is left out.

    Args:
        program: what `Config.pretty_text` gives.

    Returns:
        Name -> value; nothing of a text that is not Python.
    """
    try:
        statements = ast.parse(program).body
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        return {}
    found = {}
    for statement in statements:
        if isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Name):
            try:
                found[statement.targets[0].id] = _value(statement.value)
            except (ValueError, RecursionError):
                continue
    return found


def _value(node: ast.expr) -> Any:
    if isinstance(node, ast.Constant):
        return node.value
    if isinstance(node, ast.List | ast.Tuple):
        return [_value(item) for item in node.elts]
    if isinstance(node, ast.Dict) and None not in node.keys:
        return {_value(key): _value(item) for key, item in zip(node.keys, node.values)}
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        number = _value(node.operand)
        if isinstance(number, int | float):
            return -number
    if _is_dict_call(node):
        return {item.arg: _value(item.value) for item in node.keywords}
    raise ValueError(f"not a literal: {type(node).__name__}")


def _is_dict_call(node: ast.expr) -> bool:
    """`dict(a=1)`, as MMEngine writes it."""
    named = isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    return named and node.func.id == "dict" and not node.args and all(k.arg for k in node.keywords)


def lookup(values: Any, path: str) -> Any:
    """`lookup(cfg, "model.backbone.depth")`, or None where the path does not lead."""
    for part in path.split("."):
        if not isinstance(values, dict) or part not in values:
            return None
        values = values[part]
    return values
