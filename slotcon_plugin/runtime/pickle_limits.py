"""Limits of the names, the memory and the depth of a pickle."""

import pickle
import pickletools
from collections.abc import Container
from typing import BinaryIO

MAX_VALUES = 5_000_000  # opcodes of a pickle, and values in its result
MAX_DEPTH = 10_000  # of nested tuples in a pickle; hashing deeper ones overflows the C stack


def require(condition: bool, expected: str) -> None:
    """Raise a pickle.UnpicklingError that names what is expected, unless a condition is true."""
    if not condition:
        raise pickle.UnpicklingError(f"a damaged or hostile entry: expected {expected}")


def check_opcodes(file: BinaryIO, names: Container[str] | None = None) -> None:
    """Refuse a pickle that names something else, needs much memory, or overflows the stack.

    Args:
        file: is read from its current position to the end of the pickle.
        names: what a pickle of protocol 2, torch's, may name; None: the unpickler checks it.

    Raises pickle.UnpicklingError, or ValueError if the pickle is damaged.
    """
    mark = -1
    stack: list[int] = []  # the depth of each value on the unpickler's stack
    memo: dict[int, int] = {}
    for count, (op, arg, _) in enumerate(pickletools.genops(file)):
        require(count < MAX_VALUES, f"at most {MAX_VALUES:,} values")
        if op.name == "GLOBAL" and names is not None:
            name = arg.replace("__builtin__ ", "builtins ").replace(" ", ".", 1)
            if name not in names:
                raise pickle.UnpicklingError(f"GLOBAL {name}")
        if op.name in ("MEMOIZE", "PUT", "BINPUT", "LONG_BINPUT"):
            key = len(memo) if arg is None else arg
            require(key <= 2 * count, "consecutive numbers of its values")
            memo[key] = stack[-1] if stack else 0
            continue
        if op.name in ("GET", "BINGET", "LONG_BINGET"):
            stack.append(memo.get(arg, 0))
            continue
        depth, needed = 0, [item.name for item in op.stack_before]
        if "mark" in needed:
            while stack and (top := stack.pop()) != mark:
                depth = max(depth, top + 1)
            needed = needed[: needed.index("mark")]
        for _ in needed[: len(stack)]:
            depth = max(depth, stack.pop() + 1)
        require(depth < MAX_DEPTH, f"at most {MAX_DEPTH:,} nested values")
        stack += [mark if item.name == "mark" else depth for item in op.stack_after]
