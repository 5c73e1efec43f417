"""One check for the shapes of a function's arguments, written in the names of the arguments."""

from torch import Tensor


def check_shapes(**tensors: Tensor) -> None:
    """Hold tensors to the axes that their names spell: `check_shapes(scores_bkhw=s, weights_kd=w)`.

    The last part of a name lists the axes, one character each: a letter stands for one size, the
    same wherever it occurs; a digit stands for itself. The letters are those of the legend in
    `slotcon_plugin`.

    Raises:
        ValueError: a tensor has another number of axes, or two tensors disagree on a letter.
    """
    known: dict[str, tuple[str, int]] = {}
    for name, tensor in tensors.items():
        axes = name.rsplit("_", 1)[-1]
        shape = tuple(tensor.shape)
        if len(shape) != len(axes):
            raise ValueError(
                f"{name} has shape {shape}, expected {len(axes)} axes ({', '.join(axes)})."
            )
        for axis, size in zip(axes, shape, strict=True):
            first, expected = known.setdefault(axis, (name, int(axis) if axis.isdigit() else size))
            if size != expected:
                source = "" if axis.isdigit() else f" as in {first}"
                raise ValueError(f"{name} has shape {shape}, expected {axis} = {expected}{source}.")
