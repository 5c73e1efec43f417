"""Checks of arguments: a `ValueError` names the argument, its value and what is expected."""

from collections.abc import Sequence
from numbers import Integral, Real

from torch import Tensor


def has_values(tensor: Tensor) -> bool:
    """False for torch's fake tensors and tensors on the device "meta", which only have a shape."""
    return type(tensor) is Tensor and not tensor.is_meta


def check_shapes(**tensors: Tensor) -> None:
    """Compare tensors with the axes that their names spell: `check_shapes(scores_bkhw=s, w_kd=w)`.

    The last part of a name lists the axes, one character each: a letter is one size, the same
    wherever it occurs; a digit is that size. The letters are explained in `slotcon_plugin`.
    """
    known: dict[str, tuple[str, int]] = {}
    for name, tensor in tensors.items():
        axes = name.rsplit("_", 1)[-1]
        shape = tuple(tensor.shape)
        if len(shape) != len(axes):
            expected = f"{len(axes)} axes ({', '.join(axes)})"
            raise ValueError(f"{name} has shape {shape}, expected {expected}.")
        for axis, size in zip(axes, shape, strict=True):
            first, expected = known.setdefault(axis, (name, int(axis) if axis.isdigit() else size))
            if size != expected:
                source = "" if axis.isdigit() else f" as in {first}"
                raise ValueError(f"{name} has shape {shape}, expected {axis} = {expected}{source}.")


def check_numbers(interval: str, **values: float) -> None:
    """Check that values are numbers in an interval: `check_numbers("(0, inf)", temperature=t)`."""
    low, high = map(float, interval[1:-1].split(","))
    for name, value in values.items():
        number = isinstance(value, Real) and not isinstance(value, bool)
        above = number and (value > low or (value == low and interval[0] == "["))
        if not above or not (value < high or (value == high and interval[-1] == "]")):
            raise ValueError(f"{name} is {value!r}, expected a number in {interval}.")


def check_integers(minimum: int, **values: int) -> None:
    """Check that values are integers of at least `minimum`."""
    for name, value in values.items():
        if not isinstance(value, Integral) or isinstance(value, bool) or value < minimum:
            raise ValueError(f"{name} is {value!r}, expected an integer of at least {minimum}.")


def check_flags(**values: bool) -> None:
    """Check that values are True or False."""
    for name, value in values.items():
        if not isinstance(value, bool):
            raise ValueError(f"{name} is {value!r}, expected True or False.")


def check_ranges(interval: str, **values: Sequence[float]) -> None:
    """Check that values are two numbers each, low and high, in an interval."""
    for name, value in values.items():
        if not isinstance(value, Sequence) or isinstance(value, str) or len(value) != 2:
            raise ValueError(f"{name} is {value!r}, expected two numbers.")
        check_numbers(interval, **{f"{name}[{i}]": number for i, number in enumerate(value)})
        if value[0] > value[1]:
            raise ValueError(f"{name} is {value!r}, expected the lower number first.")
